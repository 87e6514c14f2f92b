"""Dropout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from optuna_nas_morph.ir.ops.base import Layer, Op, Saved
from optuna_nas_morph.ir.tensor import TensorSpec


@dataclass(frozen=True)
class Dropout(Op):
    """Zeroes elements at random while training.

    Args:
        p:
            Probability of an element to be zeroed.
    """

    op_name: ClassVar[str] = "dropout"
    folds: ClassVar[bool] = True

    p: float = 0.5

    def __post_init__(self) -> None:
        self._store_float("p")
        self._check(0 <= self.p < 1, f"p must be at least 0 and below 1 but got {self.p!r}.")

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        self._check(inputs[0].dtype == "float32", f"needs float input but got {inputs[0]}.")
        return inputs[0]

    def saved(self, inputs: Sequence[TensorSpec], need_grad: Sequence[bool]) -> Saved:
        return Saved(floats=inputs[0].numel) if self.p > 0 else Saved(is_view=True)

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        return Layer("Dropout", {"p": self.p})

    def nonnegative(self, inputs: Sequence[bool]) -> bool:
        return inputs[0]
