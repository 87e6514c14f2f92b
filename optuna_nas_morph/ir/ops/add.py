"""Elementwise sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from optuna_nas_morph.ir.ops.base import Layer, Op
from optuna_nas_morph.ir.tensor import TensorSpec


@dataclass(frozen=True)
class Add(Op):
    """Sum of two or more tensors of one shape."""

    op_name: ClassVar[str] = "add"
    min_inputs: ClassVar[int] = 2
    max_inputs: ClassVar[int | None] = None
    commutative: ClassVar[bool] = True

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        first = inputs[0]
        for other in inputs[1:]:
            self._check(other == first, f"inputs must have one shape and channel axis but got {first} and {other}.")
        self._check(first.dtype == "float32", f"needs float input but got {first}.")
        return first

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        return Layer("Add")

    def nonnegative(self, inputs: Sequence[bool]) -> bool:
        return all(inputs)

    def expression(self, inputs: Sequence[TensorSpec], values: Sequence[str]) -> str | None:
        return " + ".join(values)
