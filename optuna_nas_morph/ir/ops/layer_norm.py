"""Layer normalisation over the channels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from optuna_nas_morph.ir.ops.base import Init, Layer, Op, Param, Saved
from optuna_nas_morph.ir.tensor import TensorSpec

if TYPE_CHECKING:
    from optuna_nas_morph.ir.channels import Channels, GroupBuilder


@dataclass(frozen=True)
class LayerNorm(Op):
    """Normalisation of every position over its channels, on the first axis or the last.

    Args:
        eps:
            Added to the variance.
    """

    op_name: ClassVar[str] = "layer_norm"
    folds: ClassVar[bool] = True

    eps: float = 1e-5

    def __post_init__(self) -> None:
        self._store_float("eps")
        self._check(self.eps > 0, f"eps must be positive but got {self.eps!r}.")

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        (x,) = inputs
        self._check(x.dtype == "float32", f"needs float input but got {x}.")
        self._check(
            x.channel_axis == 0 or x.channels_last,
            f"needs channels on the first or last axis but got {x} with channels on axis {x.channel_axis}.",
        )
        return x

    def params(self, inputs: Sequence[TensorSpec]) -> Mapping[str, Param]:
        n = (inputs[0].n_channels,)
        return {
            "weight": Param(n, ("out",), Init("constant", 1.0)),
            "bias": Param(n, ("out",), Init("constant", 0.0)),
        }

    def saved(self, inputs: Sequence[TensorSpec], need_grad: Sequence[bool]) -> Saved:
        return Saved(inputs=(0,), floats=2 * math.prod(inputs[0].spatial))  # mean and deviation of every position

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        (x,) = inputs
        name = "LayerNorm" if x.channels_last else "ChannelsFirstLayerNorm"
        return Layer(name, {"normalized_shape": x.n_channels, "eps": self.eps})

    def channels(self, inputs: Sequence[Channels], specs: Sequence[TensorSpec], groups: GroupBuilder) -> Channels:
        groups.block(inputs[0], "layer norm")
        return inputs[0]

    def label(self, inputs: Sequence[TensorSpec]) -> str:
        return "ln"
