"""Activation functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from optuna_nas_morph.ir.ops.base import Layer, Op, Saved
from optuna_nas_morph.ir.tensor import TensorSpec

_TORCH = {
    "relu": "ReLU",
    "relu6": "ReLU6",
    "leaky_relu": "LeakyReLU",
    "gelu": "GELU",
    "silu": "SiLU",
    "tanh": "Tanh",
    "softplus": "Softplus",
    "hardswish": "Hardswish",
    "sigmoid": "Sigmoid",
    "hardsigmoid": "Hardsigmoid",
}
ACTIVATIONS = tuple(_TORCH)
"""Names of the functions, as in ``torch.nn.functional``."""

SAVES_OUTPUT = frozenset({"relu", "sigmoid", "tanh"})
"""Functions of which PyTorch saves the output for the backward pass; of the others the input."""

_LINEAR_ODD_PART = frozenset({"relu", "gelu", "silu", "softplus", "hardswish"})


@dataclass(frozen=True)
class Activation(Op):
    """An elementwise function.

    Args:
        function:
            One of `ACTIVATIONS`.
        negative_slope:
            Slope below zero; only leaky ReLU has one.
    """

    op_name: ClassVar[str] = "activation"
    folds: ClassVar[bool] = True

    function: str
    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        self._check(
            self.function in ACTIVATIONS, f"function must be one of {sorted(_TORCH)} but got {self.function!r}."
        )
        self._store_float("negative_slope")
        self._check(
            self.function == "leaky_relu" or self.negative_slope == 0.01,
            f"negative_slope belongs to leaky_relu but function is {self.function!r}.",
        )
        self._check(self.negative_slope > -1, f"negative_slope must be above -1 but got {self.negative_slope}.")

    @property
    def odd_slope(self) -> float | None:
        """The ``s`` for which ``f(h) - f(-h) == s * h`` for every ``h``, or :obj:`None` where there is none."""
        if self.function == "leaky_relu":
            return 1 + self.negative_slope
        return 1.0 if self.function in _LINEAR_ODD_PART else None

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        self._check(inputs[0].dtype == "float32", f"needs float input but got {inputs[0]}.")
        return inputs[0]

    def saved(self, inputs: Sequence[TensorSpec], need_grad: Sequence[bool]) -> Saved:
        return Saved(output=True) if self.function in SAVES_OUTPUT else Saved(inputs=(0,))

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        arguments = {"negative_slope": self.negative_slope} if self.function == "leaky_relu" else {}
        return Layer(_TORCH[self.function], arguments)

    def nonnegative(self, inputs: Sequence[bool]) -> bool:
        return self.function in ("relu", "relu6", "softplus", "sigmoid", "hardsigmoid") or (
            inputs[0] and self.function != "softplus"
        )

    def label(self, inputs: Sequence[TensorSpec]) -> str:
        return self.function

    def expression(self, inputs: Sequence[TensorSpec], values: Sequence[str]) -> str | None:
        slope = f", {self.negative_slope!r}" if self.function == "leaky_relu" else ""
        module = "torch" if self.function in ("tanh", "sigmoid") else "F"
        return f"{module}.{self.function}({values[0]}{slope})"
