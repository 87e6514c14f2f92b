"""Take a layer out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from torch import Tensor

from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import Conv, DepthwiseConv, Linear
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights
from optuna_nas_morph.morphisms.blocks import followers_of


@dataclass(frozen=True)
class DropLayer(Morphism):
    """Take out a layer that keeps the shape, with the norms and activations that belong to it.

    Not exact (LEMONADE, Elsken et al., 2019, section 3.1). A site is a convolution or a linear layer.
    """

    morphism_name: ClassVar[str] = "drop_layer"

    @property
    def exact(self) -> bool:
        return False

    def candidates(self, architecture: Architecture) -> Iterable[Site]:
        return ((n.name,) for n in architecture.nodes if isinstance(n.op, Conv | DepthwiseConv | Linear))

    def refusal(self, architecture: Architecture, site: Site) -> str | None:
        if len(site) != 1 or site[0] not in architecture.index:
            return "there is no such node"
        node = architecture[site[0]]
        if not isinstance(node.op, Conv | DepthwiseConv | Linear):
            return f"{node.op.op_name} is no layer that can be dropped"
        if node.name == architecture.output:
            return "it is the network's output"
        if architecture.specs[node.name] != architecture.specs[node.inputs[0]]:
            return "its output has another shape than its input"
        return None

    def _apply(self, architecture: Architecture, site: Site) -> Architecture:
        block = [architecture[site[0]], *followers_of(architecture, site[0])]
        source, end = block[0].inputs[0], block[-1].name
        gone = {node.name for node in block}
        return Architecture(
            tuple(
                replace(node, inputs=tuple(source if name == end else name for name in node.inputs))
                for node in architecture.nodes
                if node.name not in gone
            )
        )

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        return {name: weights[name] for name in child.params}
