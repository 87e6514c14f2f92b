"""Insert a pre-norm transformer block that starts as the identity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture, Node
from optuna_nas_morph.ir.ops import ACTIVATIONS, Activation, Add, Linear, SelfAttention
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights
from optuna_nas_morph.morphisms.blocks import chain, is_norm
from optuna_nas_morph.morphisms.tensors import extend


@dataclass(frozen=True)
class InsertTransformerBlock(Morphism):
    """Insert ``y = x + attention(norm(x))`` and ``y + feed_forward(norm(y))``, whose last layers start as 0.

    The pre-norm block of Xiong et al. (2020, section 3.1), with norms like the one that reads ``x`` so far. Exact in
    eval and train mode.

    A site is a node whose tokens a norm reads. It is refused where that norm's output goes straight into a sum, as in
    post-norm networks: there a block ends with a norm, which no weights make the identity.

    Args:
        n_heads:
            Heads of the attention; each as wide as the tokens over their number, at least 1.
        expansion:
            Width of the feed-forward over that of the tokens.
        activation:
            Name of the feed-forward's activation.
    """

    morphism_name: ClassVar[str] = "insert_transformer_block"

    n_heads: int = 4
    expansion: int = 4
    activation: str = "gelu"

    def __post_init__(self) -> None:
        if self.n_heads < 1:
            raise MorphismError(f"n_heads must be a positive integer but got {self.n_heads!r}.")
        if self.expansion < 1:
            raise MorphismError(f"expansion must be a positive integer but got {self.expansion!r}.")
        if self.activation not in ACTIVATIONS:
            raise MorphismError(f"activation must be one of {ACTIVATIONS} but got {self.activation!r}.")

    def candidates(self, architecture: Architecture) -> Iterable[Site]:
        return ((node.name,) for node in architecture.nodes if _norms_of(architecture, node.name))

    def refusal(self, architecture: Architecture, site: Site) -> str | None:
        if len(site) != 1 or site[0] not in architecture.index:
            return "there is no such node"
        spec = architecture.specs[site[0]]
        if len(spec.shape) != 2 or not spec.channels_last:
            return "there are no tokens"
        norms = _norms_of(architecture, site[0])
        if not norms:
            return "no norm reads it"
        followers = [architecture[name].op for norm in norms for name in architecture.consumers[norm.name]]
        if any(isinstance(op, Add) for op in followers):
            return "the norm that reads it ends a block: the network is post-norm"
        return None

    def _apply(self, architecture: Architecture, site: Site) -> Architecture:
        (end,) = site
        width = architecture.specs[end].n_channels
        norm = _norms_of(architecture, end)[0].op
        norm_1, attention, add_1, norm_2, up, act, down, add_2 = architecture.fresh_names(
            "norm_a", "attention", "add_a", "norm_b", "up", self.activation, "down", "add_b"
        )
        heads = SelfAttention(self.n_heads, max(1, width // self.n_heads), width)
        feed_forward = [(up, Linear(self.expansion * width)), (act, Activation(self.activation)), (down, Linear(width))]
        nodes = [
            *chain(end, [(norm_1, norm), (attention, heads)]),
            Node(add_1, Add(), (end, attention)),
            *chain(add_1, [(norm_2, norm), *feed_forward]),
            Node(add_2, Add(), (add_1, down)),
        ]
        return architecture.insert(end, nodes)

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        ends = [n.inputs[1] for n in child.nodes if n.name not in parent.index and isinstance(n.op, Add)]
        attention, feed_forward = ends
        keys = [f"{last}.{kind}" for last in (f"{attention}.out", feed_forward) for kind in ("weight", "bias")]
        return extend(child, weights, {key: torch.zeros(child.params[key].shape) for key in keys}, rng)


def _norms_of(architecture: Architecture, name: str) -> list[Node]:
    """The layer and root mean square norms that read a node."""
    readers = [architecture[consumer] for consumer in architecture.consumers[name]]
    return [node for node in readers if is_norm(node.op)]
