"""Give self-attention another head."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import SelfAttention
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights
from optuna_nas_morph.morphisms.tensors import draw, float_dtype


@dataclass(frozen=True)
class AddHead(Morphism):
    """Add heads to self-attention, which the output projection ignores at first: its new columns are 0.

    Queries, keys and values of new heads are drawn. Exact in eval and train mode (Wang et al., 2024, LEMON, section
    3.1). A site is a self-attention; its heads keep their width.

    Args:
        n:
            Heads that are added.
    """

    morphism_name: ClassVar[str] = "add_head"

    n: int = 1

    def __post_init__(self) -> None:
        if self.n < 1:
            raise MorphismError(f"n must be a positive integer but got {self.n!r}.")

    def candidates(self, architecture: Architecture) -> Iterable[Site]:
        return attentions(architecture)

    def refusal(self, architecture: Architecture, site: Site) -> str | None:
        return attention_refusal(architecture, site)

    def _apply(self, architecture: Architecture, site: Site) -> Architecture:
        op = architecture[site[0]].op
        assert isinstance(op, SelfAttention)
        return architecture.replace({site[0]: replace(op, n_heads=op.n_heads + self.n)})

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        (name,) = site
        op = parent[name].op
        assert isinstance(op, SelfAttention)
        old = op.n_heads * op.head_dim
        result = dict(weights)
        for part in ("query", "key", "value"):
            for kind in ("weight", "bias"):
                key = f"{name}.{part}.{kind}"
                fresh = draw(child.params[key], rng, float_dtype(weights))
                result[key] = torch.cat([weights[key], fresh[old:]])
        out = weights[f"{name}.out.weight"]
        result[f"{name}.out.weight"] = torch.cat([out, out.new_zeros(len(out), self.n * op.head_dim)], 1)
        return result


def attentions(architecture: Architecture) -> Iterable[Site]:
    """Every self-attention."""
    return ((node.name,) for node in architecture.nodes if isinstance(node.op, SelfAttention))


def attention_refusal(architecture: Architecture, site: Site) -> str | None:
    """Why a site is no self-attention, or :obj:`None` if it is."""
    if len(site) != 1 or site[0] not in architecture.index:
        return "there is no such node"
    op = architecture[site[0]].op
    return None if isinstance(op, SelfAttention) else f"{op.op_name} has no heads"
