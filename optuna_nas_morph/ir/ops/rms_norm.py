"""Root mean square normalisation over the features."""

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
class RMSNorm(Op):
    """Every position over the root of its mean square, times a trained scale (Zhang and Sennrich, 2019, eq. 4).

    Args:
        eps:
            Added to the mean square.
    """

    op_name: ClassVar[str] = "rms_norm"
    folds: ClassVar[bool] = True

    eps: float = 1e-6

    def __post_init__(self) -> None:
        self._store_float("eps")
        self._check(self.eps > 0, f"eps must be positive but got {self.eps!r}.")

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        (x,) = inputs
        self._check(x.dtype == "float32", f"needs float input but got {x}.")
        self._check(
            x.channels_last,
            f"needs its channels on the last axis but got {x} with channels on axis {x.channel_axis}.",
        )
        return x

    def params(self, inputs: Sequence[TensorSpec]) -> Mapping[str, Param]:
        return {"weight": Param((inputs[0].n_channels,), ("out",), Init("constant", 1.0))}

    def saved(self, inputs: Sequence[TensorSpec], need_grad: Sequence[bool]) -> Saved:
        # PyTorch has no kernel for it on the CPU: it saves what is scaled, and for the input's gradient the input and
        # the root mean square of every position.
        (x,) = inputs
        if not need_grad[0]:
            return Saved(floats=x.numel)
        return Saved(inputs=(0,), floats=x.numel + math.prod(x.spatial))

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        return Layer("RMSNorm", {"normalized_shape": inputs[0].n_channels, "eps": self.eps})

    def channels(self, inputs: Sequence[Channels], specs: Sequence[TensorSpec], groups: GroupBuilder) -> Channels:
        groups.block(inputs[0], "RMS norm")
        return inputs[0]

    def label(self, inputs: Sequence[TensorSpec]) -> str:
        return "rms"
