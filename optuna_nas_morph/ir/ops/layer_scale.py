"""Trained factors per channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from optuna_nas_morph.ir.ops.base import Init, Layer, Op, Param, Saved
from optuna_nas_morph.ir.tensor import TensorSpec


@dataclass(frozen=True)
class LayerScale(Op):
    """Every channel times a trained factor (Touvron et al., 2021, section 2).

    It ends a residual branch; with a small factor at first, a block starts close to the identity.

    Args:
        initial:
            Where fresh factors start; 0 is allowed.
    """

    op_name: ClassVar[str] = "layer_scale"
    folds: ClassVar[bool] = True

    initial: float = 1e-6

    def __post_init__(self) -> None:
        self._store_float("initial")

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        self._check(inputs[0].dtype == "float32", f"needs float input but got {inputs[0]}.")
        return inputs[0]

    def params(self, inputs: Sequence[TensorSpec]) -> Mapping[str, Param]:
        return {"weight": Param((inputs[0].n_channels,), ("out",), Init("constant", self.initial))}

    def saved(self, inputs: Sequence[TensorSpec], need_grad: Sequence[bool]) -> Saved:
        return Saved(inputs=(0,))

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        (x,) = inputs
        return Layer(
            "LayerScale",
            {"n_channels": x.n_channels, "n_axes_behind": len(x.shape) - 1 - x.channel_axis, "initial": self.initial},
        )

    def label(self, inputs: Sequence[TensorSpec]) -> str:
        return "layer_scale"
