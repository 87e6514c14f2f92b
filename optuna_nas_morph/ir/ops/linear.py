"""Linear layer on the last axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from optuna_nas_morph.ir.ops.base import Init, Layer, Op, Param, Saved, width_bucket
from optuna_nas_morph.ir.tensor import TensorSpec

if TYPE_CHECKING:
    from optuna_nas_morph.ir.channels import Channels, GroupBuilder


@dataclass(frozen=True)
class Linear(Op):
    """Linear layer on vectors, or on each token of a sequence.

    Args:
        out_features:
            Width of the output.
        bias:
            Whether a bias is added.
    """

    op_name: ClassVar[str] = "linear"
    width_field: ClassVar[str | None] = "out_features"

    out_features: int
    bias: bool = True

    def __post_init__(self) -> None:
        self._check_positive(out_features=self.out_features)
        self._check_flag(bias=self.bias)

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        (x,) = inputs
        self._check(x.dtype == "float32", f"needs float input but got {x}.")
        self._check(
            x.channels_last,
            f"needs its channels on the last axis but got {x} with channels on axis {x.channel_axis}: "
            "flatten, pool globally or reshape to tokens first.",
        )
        return x.with_channels(self.out_features)

    def params(self, inputs: Sequence[TensorSpec]) -> Mapping[str, Param]:
        init = Init.fan_in(inputs[0].n_channels)
        params = {"weight": Param((self.out_features, inputs[0].n_channels), ("out", "in"), init)}
        if self.bias:
            params["bias"] = Param((self.out_features,), ("out",), init)
        return params

    def flops(self, inputs: Sequence[TensorSpec]) -> int:
        return 2 * inputs[0].numel * self.out_features

    def saved(self, inputs: Sequence[TensorSpec], need_grad: Sequence[bool]) -> Saved:
        return Saved(inputs=(0,))

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        return Layer(
            "Linear",
            {"in_features": inputs[0].n_channels, "out_features": self.out_features, "bias": self.bias},
        )

    def channels(self, inputs: Sequence[Channels], specs: Sequence[TensorSpec], groups: GroupBuilder) -> Channels:
        return groups.new(self.out_features)

    def label(self, inputs: Sequence[TensorSpec]) -> str:
        return f"linear.{width_bucket(self.out_features)}"
