"""Take a term out of a sum."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from torch import Tensor

from optuna_nas_morph.ir import Architecture, Node
from optuna_nas_morph.ir.ops import Add
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights


@dataclass(frozen=True)
class DropBranch(Morphism):
    """Take a term out of a sum, and whatever only led there: a skip connection, or the body of a residual block.

    Not exact (LEMONADE, Elsken et al., 2019, section 3.1, for skips). A site is a sum and the position of the term.
    """

    morphism_name: ClassVar[str] = "drop_branch"

    @property
    def exact(self) -> bool:
        return False

    def candidates(self, architecture: Architecture) -> Iterable[Site]:
        for node in architecture.nodes:
            if isinstance(node.op, Add):
                yield from ((node.name, str(i)) for i in range(len(node.inputs)))

    def refusal(self, architecture: Architecture, site: Site) -> str | None:
        if len(site) != 2 or site[0] not in architecture.index:
            return "a site is a sum and the position of a term"
        node = architecture[site[0]]
        if not isinstance(node.op, Add):
            return f"{node.op.op_name} is no sum"
        if site[1] not in map(str, range(len(node.inputs))):
            return f"there is no term {site[1]!r}"
        if node.name == architecture.output:
            return "it is the network's output"
        reached = {n.name for n in _without(architecture, site)}
        lost = [name for name in architecture.inputs if name not in reached]
        return f"the network would not read its input {lost[0]!r}" if lost else None

    def _apply(self, architecture: Architecture, site: Site) -> Architecture:
        return Architecture(tuple(_without(architecture, site)))

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        return {name: weights[name] for name in child.params}


def _without(architecture: Architecture, site: Site) -> list[Node]:
    """The nodes that are left."""
    total, position = site[0], int(site[1])
    terms = [name for i, name in enumerate(architecture[total].inputs) if i != position]
    nodes: list[Node] = []
    for node in architecture.nodes:
        if node.name == total:
            if len(terms) > 1:
                nodes.append(replace(node, inputs=tuple(terms)))
        elif len(terms) == 1:
            nodes.append(replace(node, inputs=tuple(terms[0] if name == total else name for name in node.inputs)))
        else:
            nodes.append(node)
    used = {architecture.output}
    for node in reversed(nodes):
        if node.name in used:
            used.update(node.inputs)
    return [node for node in nodes if node.name in used]
