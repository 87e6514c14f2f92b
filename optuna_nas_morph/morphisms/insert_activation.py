"""Insert an activation that starts as the identity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture, Node
from optuna_nas_morph.ir.ops import ACTIVATIONS, Add, Conv, DepthwiseConv, Linear, ParametricActivation
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights
from optuna_nas_morph.morphisms.blocks import block_end_refusal
from optuna_nas_morph.morphisms.tensors import extend


@dataclass(frozen=True)
class InsertActivation(Morphism):
    """Insert ``(1 - a) x + a f(x)`` with a trained ``a`` per channel that starts as 0 (Wei et al., 2016, section 3.3).

    Exact in eval and train mode. A site is the node behind which the activation goes: where a layer could go, and also
    behind a layer that only a sum follows, where branches of equal weights become branches that differ. Refused where
    the function is the identity on what comes in (ReLU and leaky ReLU where the tensor is never negative).

    Args:
        activation:
            Name of the activation ``f``.
    """

    morphism_name: ClassVar[str] = "insert_activation"

    activation: str = "silu"

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise MorphismError(f"activation must be one of {ACTIVATIONS} but got {self.activation!r}.")

    def candidates(self, architecture: Architecture) -> Iterable[Site]:
        return ((n.name,) for n in architecture.nodes if _place_refusal(architecture, n.name) is None)

    def refusal(self, architecture: Architecture, site: Site) -> str | None:
        if len(site) != 1:
            return "a site is one node"
        reason = _place_refusal(architecture, site[0])
        if reason is not None:
            return reason
        if isinstance(architecture[site[0]].op, ParametricActivation):
            return "there is such an activation already"
        if self.activation in ("relu", "leaky_relu") and site[0] in architecture.nonnegative:
            return f"{self.activation} changes nothing where nothing is negative"
        return None

    def _apply(self, architecture: Architecture, site: Site) -> Architecture:
        (name,) = architecture.fresh_names(f"parametric_{self.activation}")
        return architecture.insert(site[0], [Node(name, ParametricActivation(self.activation), site)])

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        (name,) = (n.name for n in child.nodes if n.name not in parent.index)
        return extend(child, weights, {f"{name}.weight": torch.zeros(parent.specs[site[0]].n_channels)}, rng)


def _place_refusal(architecture: Architecture, name: str) -> str | None:
    """Why no activation goes behind a node, or :obj:`None`."""
    reason = block_end_refusal(architecture, name)
    if reason is not None and name in architecture.index and name != architecture.output:
        followers = [architecture[c].op for c in architecture.consumers[name]]
        is_layer = isinstance(architecture[name].op, Conv | DepthwiseConv | Linear)
        if is_layer and all(isinstance(op, Add) for op in followers):
            return None
    return reason
