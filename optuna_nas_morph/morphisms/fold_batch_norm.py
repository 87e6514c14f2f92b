"""Take a batch norm into the layer before it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import BatchNorm, Conv, DepthwiseConv, Linear
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights


@dataclass(frozen=True)
class FoldBatchNorm(Morphism):
    """Replace a layer and its batch norm by one layer with a bias: ``w g / s`` and ``(b - m) g / s + beta``.

    Exact in eval mode, for any weights; in train mode there is no normalisation any more. A site is a batch norm behind
    a convolution or a linear layer that feeds nothing else.
    """

    morphism_name: ClassVar[str] = "fold_batch_norm"

    @property
    def exact_train(self) -> bool:
        return False

    def candidates(self, architecture: Architecture) -> Iterable[Site]:
        return ((n.name,) for n in architecture.nodes if isinstance(n.op, BatchNorm))

    def refusal(self, architecture: Architecture, site: Site) -> str | None:
        if len(site) != 1 or site[0] not in architecture.index:
            return "there is no such node"
        node = architecture[site[0]]
        if not isinstance(node.op, BatchNorm):
            return f"{node.op.op_name} is no batch norm"
        layer = architecture[node.inputs[0]]
        if not isinstance(layer.op, Conv | DepthwiseConv | Linear):
            return f"{layer.op.op_name} before it is no layer with weights"
        return "the layer before it feeds something else too" if len(architecture.consumers[layer.name]) > 1 else None

    def settled(self, parent: Architecture, site: Site, weights: Weights) -> Morphism:
        norm = parent[site[0]].op
        assert isinstance(norm, BatchNorm)
        gamma, beta, mean, var = (
            weights[f"{site[0]}.{name}"].double() for name in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / (var + norm.eps).sqrt()
        return _Settled(scale, beta - mean * scale)

    def _apply(self, architecture: Architecture, site: Site) -> Architecture:
        layer = architecture[architecture[site[0]].inputs[0]]
        assert isinstance(layer.op, Conv | DepthwiseConv | Linear)
        folded = replace(layer, op=replace(layer.op, bias=True))
        return Architecture(
            tuple(
                folded
                if node.name == layer.name
                else replace(node, inputs=tuple(layer.name if name == site[0] else name for name in node.inputs))
                for node in architecture.nodes
                if node.name != site[0]
            )
        )

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        return self.settled(parent, site, weights).transfer(parent, child, site, weights, rng)


@dataclass(frozen=True)
class _Settled(FoldBatchNorm):
    """Folding a given scale and shift."""

    scale: Tensor = field(default_factory=lambda: torch.empty(0), compare=False)
    shift: Tensor = field(default_factory=lambda: torch.empty(0), compare=False)

    def settled(self, parent: Architecture, site: Site, weights: Weights) -> Morphism:
        return self

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        layer = parent[site[0]].inputs[0]
        old = weights[f"{layer}.weight"]
        scale = self.scale.reshape(-1, *[1] * (old.dim() - 1))
        bias = weights[f"{layer}.bias"].double() if f"{layer}.bias" in weights else torch.zeros_like(self.shift)
        new = {
            f"{layer}.weight": (old.double() * scale).to(old.dtype),
            f"{layer}.bias": (bias * self.scale + self.shift).to(old.dtype),
        }
        return {name: new[name] if name in new else weights[name] for name in child.params}
