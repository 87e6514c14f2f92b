"""Embedding of token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from optuna_nas_morph.ir.ops.base import Init, Layer, Op, Param, Saved, width_bucket
from optuna_nas_morph.ir.tensor import TensorSpec

if TYPE_CHECKING:
    from optuna_nas_morph.ir.channels import Channels, GroupBuilder


@dataclass(frozen=True)
class TokenEmbedding(Op):
    """Looks up a vector per token id: ``(T,)`` integers to ``(T, features)``.

    Args:
        n_tokens:
            Size of the vocabulary.
        features:
            Width of a token.
    """

    op_name: ClassVar[str] = "token_embedding"
    width_field: ClassVar[str | None] = "features"

    n_tokens: int
    features: int

    def __post_init__(self) -> None:
        self._check_positive(n_tokens=self.n_tokens, features=self.features)

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        (x,) = inputs
        self._check(x.dtype == "int64" and len(x.shape) == 1, f"needs int64 input of shape (T,) but got {x}.")
        return TensorSpec((x.shape[0], self.features), channel_axis=1)

    def params(self, inputs: Sequence[TensorSpec]) -> Mapping[str, Param]:
        return {"weight": Param((self.n_tokens, self.features), (None, "out"), Init("normal", 1.0))}

    def saved(self, inputs: Sequence[TensorSpec], need_grad: Sequence[bool]) -> Saved:
        return Saved(inputs=(0,))

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        return Layer("Embedding", {"num_embeddings": self.n_tokens, "embedding_dim": self.features})

    def channels(self, inputs: Sequence[Channels], specs: Sequence[TensorSpec], groups: GroupBuilder) -> Channels:
        return groups.new(self.features)

    def label(self, inputs: Sequence[TensorSpec]) -> str:
        return f"token_embedding.{width_bucket(self.features)}"
