"""Multi-head self-attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from optuna_nas_morph.ir.ops.base import Init, Layer, Op, Param, Saved, width_bucket
from optuna_nas_morph.ir.tensor import TensorSpec

if TYPE_CHECKING:
    from optuna_nas_morph.ir.channels import Channels, GroupBuilder


@dataclass(frozen=True)
class SelfAttention(Op):
    """Scaled dot-product self-attention (Vaswani et al., 2017, section 3.2) over tokens.

    The inner width ``n_heads * head_dim`` is independent of the width of the tokens, so that heads can be added.

    Args:
        n_heads:
            Number of heads.
        head_dim:
            Width of each head.
        out_features:
            Width of the output.
    """

    op_name: ClassVar[str] = "self_attention"
    width_field: ClassVar[str | None] = "out_features"

    n_heads: int
    head_dim: int
    out_features: int

    def __post_init__(self) -> None:
        self._check_positive(n_heads=self.n_heads, head_dim=self.head_dim, out_features=self.out_features)

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        (x,) = inputs
        self._check(
            x.dtype == "float32" and len(x.shape) == 2 and x.channels_last,
            f"needs tokens of shape (T, features) but got {x}.",
        )
        return x.with_channels(self.out_features)

    def params(self, inputs: Sequence[TensorSpec]) -> Mapping[str, Param]:
        inner, n_in = self.n_heads * self.head_dim, inputs[0].n_channels
        into, out = Init.fan_in(n_in), Init.fan_in(inner)
        params: dict[str, Param] = {}
        for name in ("query", "key", "value"):
            params[f"{name}.weight"] = Param((inner, n_in), (None, "in"), into)
            params[f"{name}.bias"] = Param((inner,), (None,), into)
        params["out.weight"] = Param((self.out_features, inner), ("out", None), out)
        params["out.bias"] = Param((self.out_features,), ("out",), out)
        return params

    def flops(self, inputs: Sequence[TensorSpec]) -> int:
        n_tokens, n_in = inputs[0].shape
        inner = self.n_heads * self.head_dim
        projections = n_tokens * inner * (3 * n_in + self.out_features)
        return 2 * (projections + 2 * n_tokens * n_tokens * inner)

    def saved(self, inputs: Sequence[TensorSpec], need_grad: Sequence[bool]) -> Saved:
        n_tokens = inputs[0].shape[0]
        # Queries, keys, values, what the heads put out, and the logarithm of each softmax's denominator.
        return Saved(inputs=(0,), floats=n_tokens * (4 * self.n_heads * self.head_dim + self.n_heads))

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        return Layer(
            "SelfAttention",
            {
                "in_features": inputs[0].n_channels,
                "n_heads": self.n_heads,
                "head_dim": self.head_dim,
                "out_features": self.out_features,
            },
        )

    def channels(self, inputs: Sequence[Channels], specs: Sequence[TensorSpec], groups: GroupBuilder) -> Channels:
        return groups.new(self.out_features)

    def label(self, inputs: Sequence[TensorSpec]) -> str:
        return f"attention{self.n_heads}.{width_bucket(self.out_features)}"
