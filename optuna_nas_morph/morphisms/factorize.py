"""Split a layer into two, one behind the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture, Node
from optuna_nas_morph.ir.ops import Conv, Linear
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights


@dataclass(frozen=True)
class Factorize(Morphism):
    """Put a linear layer, or 1x1 convolution, in front of a layer: together they are the layer that there was.

    The serial split of Wei et al. (2017, section 3.1), for factors that always exist: the new layer takes the channels
    ``x`` to ``Q x``, where ``Q`` is drawn with orthonormal columns, and the layer behind reads them by its weight times
    ``Q^T``. The new layer has no bias, which padding would make wrong. Nothing is gained until the two part: by an
    activation between them (`InsertActivation`), a norm, or another reader.

    Exact in eval and train mode. A site is a convolution without groups, or a linear layer.

    Args:
        expansion:
            Channels between the two over those that enter.
    """

    morphism_name: ClassVar[str] = "factorize"

    expansion: int = 1

    def __post_init__(self) -> None:
        if self.expansion < 1:
            raise MorphismError(f"expansion must be a positive integer but got {self.expansion!r}.")

    def candidates(self, architecture: Architecture) -> Iterable[Site]:
        return ((n.name,) for n in architecture.nodes if isinstance(n.op, Conv | Linear))

    def refusal(self, architecture: Architecture, site: Site) -> str | None:
        if len(site) != 1 or site[0] not in architecture.index:
            return "there is no such node"
        op = architecture[site[0]].op
        if not isinstance(op, Conv | Linear):
            return f"{op.op_name} is no layer that can be split"
        return "each of its groups reads other channels" if isinstance(op, Conv) and op.groups > 1 else None

    def _apply(self, architecture: Architecture, site: Site) -> Architecture:
        layer = architecture[site[0]]
        (name,) = architecture.fresh_names("factor")
        (before,) = architecture.input_specs(layer.name)
        width = self.expansion * before.n_channels
        point = (1,) * len(before.spatial)
        op = Conv(width, point, bias=False) if isinstance(layer.op, Conv) else Linear(width, bias=False)
        nodes: list[Node] = []
        for node in architecture.nodes:
            if node.name == layer.name:
                nodes += [Node(name, op, layer.inputs), replace(layer, inputs=(name,))]
            else:
                nodes.append(node)
        return Architecture(tuple(nodes))

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        (name,) = (n.name for n in child.nodes if n.name not in parent.index)
        first, second = f"{name}.weight", f"{site[0]}.weight"
        width, n_channels = child.params[first].shape[:2]
        basis, _ = np.linalg.qr(rng.normal(size=(width, n_channels)))
        factor, weight = torch.as_tensor(basis), weights[second]
        product = torch.einsum("oi...,mi->om...", weight.double(), factor)
        new = {
            first: factor.reshape(child.params[first].shape).to(weight.dtype),
            second: product.to(weight.dtype).contiguous(),
        }
        return {key: new[key] if key in new else weights[key] for key in child.params}
