"""Let every output channel of a convolution read every input channel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import Conv, DepthwiseConv
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights


@dataclass(frozen=True)
class Ungroup(Morphism):
    """Replace a grouped or depthwise convolution by one without groups, whose weights start as diagonal blocks.

    Exact in eval and train mode. A site is a convolution.
    """

    morphism_name: ClassVar[str] = "ungroup"

    def candidates(self, architecture: Architecture) -> Iterable[Site]:
        return ((n.name,) for n in architecture.nodes if isinstance(n.op, Conv | DepthwiseConv))

    def refusal(self, architecture: Architecture, site: Site) -> str | None:
        if len(site) != 1 or site[0] not in architecture.index:
            return "there is no such node"
        node = architecture[site[0]]
        if not isinstance(node.op, Conv | DepthwiseConv):
            return f"{node.op.op_name} is no convolution"
        return "it has one group" if _n_groups(architecture, node.name) == 1 else None

    def _apply(self, architecture: Architecture, site: Site) -> Architecture:
        op = architecture[site[0]].op
        if isinstance(op, Conv):
            return architecture.replace({site[0]: replace(op, groups=1)})
        assert isinstance(op, DepthwiseConv)
        width = architecture.specs[site[0]].n_channels
        full = Conv(width, op.kernel_size, op.stride, op.padding, op.dilation, bias=op.bias)
        return architecture.replace({site[0]: full})

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        name = f"{site[0]}.weight"
        n_groups = _n_groups(parent, site[0])
        blocks = weights[name].reshape(n_groups, -1, *weights[name].shape[1:])  # groups, outputs, inputs, kernel
        full = blocks.new_zeros(n_groups, blocks.shape[1], n_groups, *blocks.shape[2:])
        each = torch.arange(n_groups)
        full[each, :, each] = blocks
        return {**weights, name: full.flatten(2, 3).flatten(0, 1)}


def _n_groups(architecture: Architecture, name: str) -> int:
    op = architecture[name].op
    return op.groups if isinstance(op, Conv) else architecture.input_specs(name)[0].n_channels
