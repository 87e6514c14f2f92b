"""Reshaping a map to a sequence of tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from optuna_nas_morph.ir.ops.base import Layer, Op, Saved
from optuna_nas_morph.ir.tensor import TensorSpec


@dataclass(frozen=True)
class ToTokens(Op):
    """From ``(channels, *sizes)`` to ``(positions, channels)``."""

    op_name: ClassVar[str] = "to_tokens"
    folds: ClassVar[bool] = True

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        (x,) = inputs
        self._check(
            x.dtype == "float32" and x.channel_axis == 0 and len(x.shape) >= 2,
            f"needs float input of shape (channels, spatial sizes) but got {x}.",
        )
        return TensorSpec((math.prod(x.spatial), x.n_channels), channel_axis=1)

    def saved(self, inputs: Sequence[TensorSpec], need_grad: Sequence[bool]) -> Saved:
        return Saved(is_view=inputs[0].n_channels in (1, inputs[0].numel))  # one channel or position: nothing moves

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        return Layer("ToTokens")

    def nonnegative(self, inputs: Sequence[bool]) -> bool:
        return inputs[0]

    def expression(self, inputs: Sequence[TensorSpec], values: Sequence[str]) -> str | None:
        return f"{values[0]}.flatten(2).transpose(1, 2)"
