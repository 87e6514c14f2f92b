"""Concatenate an earlier tensor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from optuna_nas_morph.ir import Architecture, Node
from optuna_nas_morph.ir.ops import Concat
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights
from optuna_nas_morph.morphisms.blocks import chain, kernel_of, layer_stem
from optuna_nas_morph.morphisms.skips import branch_ops, projection, skip_candidates, skip_refusal
from optuna_nas_morph.morphisms.tensors import extend, identity_kernel


@dataclass(frozen=True)
class ConcatSkip(Morphism):
    """Replace a tensor by ``projection(concat(end, start))``, where the projection starts as ``[I, 0]``.

    The projection (1x1 convolution or linear) has the width of the end. Poolings and strides between the two are
    repeated on the branch as poolings. Exact in eval and train mode (Auto-Keras, Jin et al., 2019, section 3.3; here
    without noise). A site is a start and an end that depends on it.
    """

    morphism_name: ClassVar[str] = "concat_skip"

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
        *pool_names, concat, layer_name = architecture.fresh_names(
            *(f"skip_pool{i}" for i in range(len(pools))), "skip_concat", f"skip_{layer_stem(layer)}"
        )
        branch = chain(start, zip(pool_names, pools, strict=True))
        joined = Node(concat, Concat(), (end, branch[-1].name if branch else start))
        return architecture.insert(end, [*branch, joined, Node(layer_name, layer, (concat,))])

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        spec = child.specs[site[1]]
        layer = projection(spec, spec.n_channels)
        name = next(n.name for n in child.nodes if n.name not in parent.index and n.op == layer)
        n_out, n_in = child.params[f"{name}.weight"].shape[:2]
        new = {
            f"{name}.weight": identity_kernel(n_out, n_in, kernel_of(layer)),
            f"{name}.bias": torch.zeros(n_out),
        }
        return extend(child, weights, new, rng)
