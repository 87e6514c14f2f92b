"""Batch normalisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from optuna_nas_morph.ir.ops.base import Init, Layer, Op, Param, Saved
from optuna_nas_morph.ir.tensor import TensorSpec


@dataclass(frozen=True)
class BatchNorm(Op):
    """Batch normalisation of vectors, or of series, images and volumes with channels first.

    Args:
        eps:
            Added to the variance.
        momentum:
            Share of a batch in the running statistics.
    """

    op_name: ClassVar[str] = "batch_norm"
    folds: ClassVar[bool] = True

    eps: float = 1e-5
    momentum: float = 0.1

    def __post_init__(self) -> None:
        self._store_float("eps", "momentum")
        self._check(self.eps > 0, f"eps must be positive but got {self.eps!r}.")
        self._check(0 <= self.momentum <= 1, f"momentum must be from 0 to 1 but got {self.momentum!r}.")

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        (x,) = inputs
        self._check(x.dtype == "float32", f"needs float input but got {x}.")
        self._check(
            x.channel_axis == 0 and len(x.shape) <= 4,
            f"needs channels on axis 0 and at most 3 spatial axes but got {x} with channels on axis {x.channel_axis}.",
        )
        return x

    def params(self, inputs: Sequence[TensorSpec]) -> Mapping[str, Param]:
        n = (inputs[0].n_channels,)
        return {
            "weight": Param(n, ("out",), Init("constant", 1.0)),
            "bias": Param(n, ("out",), Init("constant", 0.0)),
            "running_mean": Param(n, ("out",), Init("constant", 0.0), buffer=True),
            "running_var": Param(n, ("out",), Init("constant", 1.0), buffer=True),
            "num_batches_tracked": Param((), (), Init("constant", 0.0), buffer=True, dtype="int64"),
        }

    def saved(self, inputs: Sequence[TensorSpec], need_grad: Sequence[bool]) -> Saved:
        return Saved(inputs=(0,), constants=2 * inputs[0].n_channels)  # mean and deviation

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        rank = max(1, len(inputs[0].shape) - 1)
        momentum = {} if self.momentum == 0.1 else {"momentum": self.momentum}
        return Layer(f"BatchNorm{rank}d", {"num_features": inputs[0].n_channels, "eps": self.eps, **momentum})

    def label(self, inputs: Sequence[TensorSpec]) -> str:
        return "bn"
