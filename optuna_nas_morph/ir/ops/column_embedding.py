"""Embedding of one categorical column of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from optuna_nas_morph.ir.ops.base import Init, Layer, Op, Param, Saved, width_bucket
from optuna_nas_morph.ir.tensor import TensorSpec

if TYPE_CHECKING:
    from optuna_nas_morph.ir.channels import Channels, GroupBuilder


@dataclass(frozen=True)
class ColumnEmbedding(Op):
    """Looks up a vector for the category in one column: ``(columns,)`` integers to ``(features,)``.

    An entity embedding (Guo and Berkhahn, 2016, section 3). Columns differ in how many categories there are and in how
    wide their vectors are, so each has an operation of its own, and can grow by itself.

    Args:
        column:
            Position of the column, from 0.
        n_categories:
            Categories, numbered from 0.
        features:
            Width of the vector.
    """

    op_name: ClassVar[str] = "column_embedding"
    width_field: ClassVar[str | None] = "features"

    column: int
    n_categories: int
    features: int

    def __post_init__(self) -> None:
        self._check(
            type(self.column) is int and self.column >= 0,
            f"column must be a non-negative integer but got {self.column!r}.",
        )
        self._check_positive(n_categories=self.n_categories, features=self.features)

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        (x,) = inputs
        self._check(x.dtype == "int64" and len(x.shape) == 1, f"needs int64 input of shape (columns,) but got {x}.")
        self._check(
            self.column < x.shape[0], f"column={self.column} must be below the {x.shape[0]} columns that enter."
        )
        return TensorSpec((self.features,))

    def params(self, inputs: Sequence[TensorSpec]) -> Mapping[str, Param]:
        return {"weight": Param((self.n_categories, self.features), (None, "out"), Init("normal", 1.0))}

    def saved(self, inputs: Sequence[TensorSpec], need_grad: Sequence[bool]) -> Saved:
        return Saved(inputs=(0,))

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        return Layer(
            "ColumnEmbedding",
            {"column": self.column, "num_embeddings": self.n_categories, "embedding_dim": self.features},
        )

    def channels(self, inputs: Sequence[Channels], specs: Sequence[TensorSpec], groups: GroupBuilder) -> Channels:
        return groups.new(self.features)

    def label(self, inputs: Sequence[TensorSpec]) -> str:
        return f"column{self.column}_embedding.{width_bucket(self.features)}"
