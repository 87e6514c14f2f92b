"""Activation functions that are blended in as far as training likes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from optuna_nas_morph.ir.ops.activation import ACTIVATIONS, SAVES_OUTPUT
from optuna_nas_morph.ir.ops.base import Init, Layer, Op, Param, Saved
from optuna_nas_morph.ir.tensor import TensorSpec


@dataclass(frozen=True)
class ParametricActivation(Op):
    """``(1 - a) x + a f(x)`` with a trained ``a`` per channel: 0 is the identity, 1 the activation.

    That is the parametric activation of Wei et al. (2016, section 3.3) with one parameter per channel; for ReLU the
    parametric ReLU of He et al. (2015), where ``a`` is 1 minus the slope below zero. Fresh channels start at 1.

    Args:
        function:
            One of `ACTIVATIONS`.
    """

    op_name: ClassVar[str] = "parametric_activation"
    folds: ClassVar[bool] = True

    function: str

    def __post_init__(self) -> None:
        self._check(
            self.function in ACTIVATIONS, f"function must be one of {sorted(ACTIVATIONS)} but got {self.function!r}."
        )

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        self._check(inputs[0].dtype == "float32", f"needs float input but got {inputs[0]}.")
        return inputs[0]

    def params(self, inputs: Sequence[TensorSpec]) -> Mapping[str, Param]:
        return {"weight": Param((inputs[0].n_channels,), ("out",), Init("constant", 1.0))}

    def saved(self, inputs: Sequence[TensorSpec], need_grad: Sequence[bool]) -> Saved:
        n = inputs[0].numel  # f(x) - x, for the gradient of a
        if not need_grad[0]:
            return Saved(floats=n)
        return Saved(floats=2 * n) if self.function in SAVES_OUTPUT else Saved(inputs=(0,), floats=n)

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        (x,) = inputs
        return Layer(
            "ParametricActivation",
            {"function": self.function, "n_channels": x.n_channels, "n_axes_behind": len(x.shape) - 1 - x.channel_axis},
        )

    def label(self, inputs: Sequence[TensorSpec]) -> str:
        return f"parametric_{self.function}"
