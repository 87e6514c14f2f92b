"""Flattening to a vector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from optuna_nas_morph.ir.ops.base import Layer, Op, Saved
from optuna_nas_morph.ir.tensor import TensorSpec

if TYPE_CHECKING:
    from optuna_nas_morph.ir.channels import Channels, GroupBuilder


@dataclass(frozen=True)
class Flatten(Op):
    """One vector per sample. Each channel becomes a run of features (channels first), or comes back once per token."""

    op_name: ClassVar[str] = "flatten"
    folds: ClassVar[bool] = True

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        (x,) = inputs
        self._check(x.dtype == "float32", f"needs float input but got {x}.")
        self._check(
            x.channel_axis == 0 or x.channels_last,
            f"needs channels on the first or last axis but got {x} with channels on axis {x.channel_axis}.",
        )
        return TensorSpec((x.numel,))

    def saved(self, inputs: Sequence[TensorSpec], need_grad: Sequence[bool]) -> Saved:
        return Saved(is_view=True)

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        return Layer("Flatten")

    def channels(self, inputs: Sequence[Channels], specs: Sequence[TensorSpec], groups: GroupBuilder) -> Channels:
        n_positions = math.prod(specs[0].spatial)
        if specs[0].channel_axis == 0:
            return tuple(ref.repeated(n_positions) for ref in inputs[0])
        return inputs[0] * n_positions

    def nonnegative(self, inputs: Sequence[bool]) -> bool:
        return inputs[0]

    def expression(self, inputs: Sequence[TensorSpec], values: Sequence[str]) -> str | None:
        return f"{values[0]}.flatten(1)"
