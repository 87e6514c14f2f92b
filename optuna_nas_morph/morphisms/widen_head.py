"""Make the heads of self-attention wider."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from torch import Tensor

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import SelfAttention
from optuna_nas_morph.morphisms.add_head import attention_refusal, attentions
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights
from optuna_nas_morph.morphisms.tensors import draw, take


@dataclass(frozen=True)
class WidenHead(Morphism):
    """Widen every head of self-attention from ``d`` to ``d'``.

    New rows of the keys are 0, so that scores keep their sums; queries are scaled by ``sqrt(d' / d)``, which makes up
    for the division by ``sqrt(d')``; new columns of the output projection are 0. New rows of queries and values are
    drawn. Exact in eval and train mode. A site is a self-attention; it keeps its number of heads.

    Args:
        factor:
            New width over old; at least one is added.
    """

    morphism_name: ClassVar[str] = "widen_head"

    factor: float = 1.5

    def __post_init__(self) -> None:
        if not 1 < self.factor <= 16:
            raise MorphismError(f"factor must be above 1 and at most 16 but got {self.factor!r}.")

    def candidates(self, architecture: Architecture) -> Iterable[Site]:
        return attentions(architecture)

    def refusal(self, architecture: Architecture, site: Site) -> str | None:
        return attention_refusal(architecture, site)

    def _apply(self, architecture: Architecture, site: Site) -> Architecture:
        op = architecture[site[0]].op
        assert isinstance(op, SelfAttention)
        width = max(op.head_dim + 1, round(op.head_dim * self.factor))
        return architecture.replace({site[0]: replace(op, head_dim=width)})

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        (name,) = site
        old, new = parent[name].op, child[name].op
        assert isinstance(old, SelfAttention)
        assert isinstance(new, SelfAttention)
        units = np.full((new.n_heads, new.head_dim), -1)
        units[:, : old.head_dim] = np.arange(old.n_heads * old.head_dim).reshape(old.n_heads, old.head_dim)

        result = dict(weights)
        for part in ("query", "key", "value"):
            for kind in ("weight", "bias"):
                key = f"{name}.{part}.{kind}"
                fresh = draw(child.params[key], rng, weights[key].dtype)
                if part == "key":
                    fresh.zero_()
                scale = math.sqrt(new.head_dim / old.head_dim) if part == "query" else 1.0
                result[key] = take(scale * weights[key], 0, units.ravel(), fresh)
        out = f"{name}.out.weight"
        columns = weights[out].new_zeros(child.params[out].shape)
        result[out] = take(weights[out], 1, units.ravel(), columns)
        return result
