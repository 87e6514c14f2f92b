"""Elementwise product: gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from optuna_nas_morph.ir.ops.base import Layer, Op, Saved
from optuna_nas_morph.ir.tensor import TensorSpec


@dataclass(frozen=True)
class Multiply(Op):
    """Product of two or more tensors; sizes of 1 on other axes than the channels are broadcast, as in a gate."""

    op_name: ClassVar[str] = "multiply"
    min_inputs: ClassVar[int] = 2
    max_inputs: ClassVar[int | None] = None
    commutative: ClassVar[bool] = True

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        first = inputs[0]
        self._check(first.dtype == "float32", f"needs float input but got {first}.")
        shape = list(first.shape)
        for other in inputs[1:]:
            self._check(
                other.dtype == first.dtype
                and other.channel_axis == first.channel_axis
                and other.n_channels == first.n_channels
                and len(other.shape) == len(shape)
                and all(1 in (a, b) or a == b for a, b in zip(shape, other.shape, strict=True)),
                f"inputs must have equal channels and equal or unit sizes elsewhere but got {first} and {other}.",
            )
            shape = [max(a, b) for a, b in zip(shape, other.shape, strict=True)]
        return TensorSpec(tuple(shape), first.channel_axis)

    def saved(self, inputs: Sequence[TensorSpec], need_grad: Sequence[bool]) -> Saved:
        positions: set[int] = set()
        floats, product, product_needs_grad = 0, inputs[0], need_grad[0]
        for i in range(1, len(inputs)):
            if product_needs_grad:
                positions.add(i)
            if need_grad[i] and i == 1:
                positions.add(0)
            elif need_grad[i]:
                floats += product.numel
            product, product_needs_grad = self.infer(inputs[: i + 1]), product_needs_grad or need_grad[i]
        return Saved(tuple(sorted(positions)), floats=floats)

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        return Layer("Multiply")

    def nonnegative(self, inputs: Sequence[bool]) -> bool:
        return all(inputs)

    def expression(self, inputs: Sequence[TensorSpec], values: Sequence[str]) -> str | None:
        return " * ".join(values)
