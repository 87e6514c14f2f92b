"""Product with a constant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from optuna_nas_morph.ir.ops.base import Layer, Op
from optuna_nas_morph.ir.tensor import TensorSpec


@dataclass(frozen=True)
class Scale(Op):
    """Every element times a constant that is not trained: ``scale(2.0)`` of a sigmoid is a gate that can start as 1.

    Args:
        factor:
            The constant; not 0.
    """

    op_name: ClassVar[str] = "scale"
    folds: ClassVar[bool] = True

    factor: float

    def __post_init__(self) -> None:
        self._store_float("factor")
        self._check(self.factor != 0, f"factor must not be 0 but got {self.factor!r}.")

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        self._check(inputs[0].dtype == "float32", f"needs float input but got {inputs[0]}.")
        return inputs[0]

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        return Layer("Scale", {"factor": self.factor})

    def nonnegative(self, inputs: Sequence[bool]) -> bool:
        return inputs[0] and self.factor > 0

    def label(self, inputs: Sequence[TensorSpec]) -> str:
        return f"scale{self.factor:g}"
