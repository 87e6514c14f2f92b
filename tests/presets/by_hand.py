"""Transformers of PyTorch's own modules."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def encoder(width: int, depth: int, n_heads: int, eps: float) -> nn.TransformerEncoder:
    """Pre-norm blocks and a norm behind the last, without dropout."""
    layer = nn.TransformerEncoderLayer(
        width, n_heads, 4 * width, 0.0, "gelu", layer_norm_eps=eps, batch_first=True, norm_first=True
    )
    norm = nn.LayerNorm(width, eps)
    return nn.TransformerEncoder(layer, depth, norm, enable_nested_tensor=False)


def encoder_weights(ours: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    """The state dict of `encoder`, from that of a preset's network."""
    result: dict[str, Tensor] = {}
    for i in range(depth):
        names = {
            "norm1": f"norm_{2 * i + 1}",
            "self_attn.out_proj": f"attention_{i + 1}.out",
            "norm2": f"norm_{2 * i + 2}",
            "linear1": f"linear_{2 * i + 1}",
            "linear2": f"linear_{2 * i + 2}",
        }
        for kind in ("weight", "bias"):
            result |= {f"layers.{i}.{their}.{kind}": ours[f"{our}.{kind}"] for their, our in names.items()}
            parts = [ours[f"attention_{i + 1}.{part}.{kind}"] for part in ("query", "key", "value")]
            result[f"layers.{i}.self_attn.in_proj_{kind}"] = torch.cat(parts)
    return result | {f"norm.{kind}": ours[f"norm_{2 * depth + 1}.{kind}"] for kind in ("weight", "bias")}
