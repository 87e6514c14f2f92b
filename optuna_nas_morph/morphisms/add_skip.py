"""Add a skip connection."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from optuna_nas_morph.ir import Architecture, Node
from optuna_nas_morph.ir.ops import Add
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights
from optuna_nas_morph.morphisms.blocks import chain, layer_stem
from optuna_nas_morph.morphisms.skips import branch_ops, projection, skip_candidates, skip_refusal
from optuna_nas_morph.morphisms.tensors import extend


@dataclass(frozen=True)
class AddSkip(Morphism):
    """Replace a tensor by ``end + projection(start)``, where the projection (1x1 convolution or linear) starts at 0.

    Poolings and strides between the two are repeated on the branch as poolings. Exact in eval and train mode
    (Auto-Keras, Jin et al., 2019, section 3.3; here without noise). A site is a start and an end that depends on it.
    """

    morphism_name: ClassVar[str] = "add_skip"

    def candidates(self, architecture: Architecture) -> Iterable[Site]:
        return skip_candidates(architecture)

    def refusal(self, architecture: Architecture, site: Site) -> str | None:
        return skip_refusal(architecture, site)

    def _apply(self, architecture: Architecture, site: Site) -> Architecture:
        start, end = site
        pools = branch_ops(architecture, start, end)
        assert not isinstance(pools, str)
        spec = architecture.specs[end]
        layer = projection(spec, spec.n_channels)
        *pool_names, layer_name, add = architecture.fresh_names(
            *(f"skip_pool{i}" for i in range(len(pools))), f"skip_{layer_stem(layer)}", "skip_add"
        )
        branch = chain(start, zip((*pool_names, layer_name), (*pools, layer), strict=True))
        return architecture.insert(end, [*branch, Node(add, Add(), (end, layer_name))])

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        (add,) = (n for n in child.nodes if n.name not in parent.index and isinstance(n.op, Add))
        names = (f"{add.inputs[1]}.weight", f"{add.inputs[1]}.bias")
        return extend(child, weights, {name: torch.zeros(child.params[name].shape) for name in names}, rng)
