"""Learned positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from optuna_nas_morph.ir.ops.base import Init, Layer, Op, Param
from optuna_nas_morph.ir.tensor import TensorSpec


@dataclass(frozen=True)
class PositionEmbedding(Op):
    """Adds a learned vector to every token, one per position."""

    op_name: ClassVar[str] = "position_embedding"

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        (x,) = inputs
        self._check(
            x.dtype == "float32" and len(x.shape) == 2 and x.channels_last,
            f"needs tokens of shape (T, features) but got {x}.",
        )
        return x

    def params(self, inputs: Sequence[TensorSpec]) -> Mapping[str, Param]:
        return {"weight": Param(inputs[0].shape, (None, "out"), Init("normal", 0.02))}

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        n_positions, features = inputs[0].shape
        return Layer("PositionEmbedding", {"n_positions": n_positions, "features": features})
