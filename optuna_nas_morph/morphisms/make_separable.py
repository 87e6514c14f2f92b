"""Replace a convolution by a depthwise separable one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from optuna_nas_morph.ir import Architecture, Node
from optuna_nas_morph.ir.ops import Conv, DepthwiseConv
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights
from optuna_nas_morph.morphisms.tensors import extend


@dataclass(frozen=True)
class MakeSeparable(Morphism):
    """Replace a convolution by a depthwise one and a 1x1 convolution, the nearest that there is to its weights.

    For every input channel ``i`` the kernel ``W[:, i]`` (outputs times positions) becomes the product of a column and a
    row, the best in the sum of squares: its first singular vectors (Eckart and Young, 1936). Not exact (LEMONADE,
    Elsken et al., 2019, section 3.1). A site is a convolution without groups; refused where it would not save
    parameters.
    """

    morphism_name: ClassVar[str] = "make_separable"

    @property
    def exact(self) -> bool:
        return False

    def candidates(self, architecture: Architecture) -> Iterable[Site]:
        return ((n.name,) for n in architecture.nodes if isinstance(n.op, Conv))

    def refusal(self, architecture: Architecture, site: Site) -> str | None:
        if len(site) != 1 or site[0] not in architecture.index:
            return "there is no such node"
        op = architecture[site[0]].op
        if not isinstance(op, Conv):
            return f"{op.op_name} is no convolution"
        if op.groups > 1:
            return "it is grouped"
        n_positions = math.prod(op.kernel_size)
        if op.out_channels + n_positions >= op.out_channels * n_positions:
            return "it would not have fewer parameters"
        return None

    def settled(self, parent: Architecture, site: Site, weights: Weights) -> Morphism:
        weight = weights[f"{site[0]}.weight"]
        matrices = weight.double().transpose(0, 1).flatten(2)  # inputs, outputs, positions
        u, s, v = torch.linalg.svd(matrices, full_matrices=False)
        row = v[:, 0]
        sign = row.gather(1, row.abs().argmax(1, keepdim=True)).sign()  # singular vectors have no sign of their own
        root = s[:, :1].sqrt()
        point = (u[:, :, 0] * sign * root).T.reshape(weight.shape[:2] + (1,) * (weight.dim() - 2))
        depth = (row * sign * root).reshape(weight.shape[1], 1, *weight.shape[2:])
        return _Settled(point.contiguous(), depth.contiguous())

    def _apply(self, architecture: Architecture, site: Site) -> Architecture:
        node = architecture[site[0]]
        op = node.op
        assert isinstance(op, Conv)
        (name,) = architecture.fresh_names("depthwise")
        depthwise = DepthwiseConv(op.kernel_size, op.stride, op.padding, op.dilation, bias=False)
        point = Conv(op.out_channels, (1,) * len(op.kernel_size), bias=op.bias)
        i = architecture.index[node.name]
        new = (Node(name, depthwise, node.inputs), Node(node.name, point, (name,)))
        return Architecture((*architecture.nodes[:i], *new, *architecture.nodes[i + 1 :]))

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        return self.settled(parent, site, weights).transfer(parent, child, site, weights, rng)


@dataclass(frozen=True)
class _Settled(MakeSeparable):
    """Replacing by given factors."""

    point: Tensor = field(default_factory=lambda: torch.empty(0), compare=False)
    depth: Tensor = field(default_factory=lambda: torch.empty(0), compare=False)

    def settled(self, parent: Architecture, site: Site, weights: Weights) -> Morphism:
        return self

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        (name,) = child[site[0]].inputs
        return extend(child, weights, {f"{site[0]}.weight": self.point, f"{name}.weight": self.depth}, rng)
