"""Split a layer into two branches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture, Node
from optuna_nas_morph.ir.ops import (
    Activation,
    Add,
    BatchNorm,
    Concat,
    Conv,
    DepthwiseConv,
    Dropout,
    LayerScale,
    Linear,
    ParametricActivation,
)
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights
from optuna_nas_morph.morphisms.blocks import chain, followers_of

JOINS = ("concat", "add")

_PER_CHANNEL = (BatchNorm, LayerScale, Activation, ParametricActivation, Dropout)


@dataclass(frozen=True)
class Branch(Morphism):
    """Split a layer into two branches with the same input (path-level transformation, Cai et al., 2018, section 3.1).

    - ``join="concat"``: each branch computes half of the output channels, and a concatenation puts them side by side.
      The norms and activations that belong to the layer go along, so each branch is a block that can grow by itself.
    - ``join="add"``: each branch has the whole width and a part of every weight, and a sum joins them (the parallel
      split of Wei et al., 2016). The parts are drawn for each entry. Two layers that only a sum follows are one
      layer: the branches differ once something else happens in one of them, such as `GrowKernel` or
      `InsertActivation`.

    Exact in eval and train mode. A site is a convolution or a linear layer.

    Args:
        join:
            ``"concat"`` or ``"add"``.
    """

    morphism_name: ClassVar[str] = "branch"

    join: str = "concat"

    def __post_init__(self) -> None:
        if self.join not in JOINS:
            raise MorphismError(f"join must be one of {JOINS} but got {self.join!r}.")

    def candidates(self, architecture: Architecture) -> Iterable[Site]:
        return ((n.name,) for n in architecture.nodes if isinstance(n.op, Conv | DepthwiseConv | Linear))

    def refusal(self, architecture: Architecture, site: Site) -> str | None:
        if len(site) != 1 or site[0] not in architecture.index:
            return "there is no such node"
        op = architecture[site[0]].op
        if not isinstance(op, Conv | DepthwiseConv | Linear):
            return f"{op.op_name} is no layer that can be split"
        if site[0] == architecture.output:
            return "nothing is inserted behind the network's output"
        if self.join == "concat":
            if isinstance(op, DepthwiseConv) or (isinstance(op, Conv) and op.groups > 1):
                return "each of its groups reads other channels"
            if architecture.specs[site[0]].n_channels == 1:
                return "it has one channel"
        return None

    def _apply(self, architecture: Architecture, site: Site) -> Architecture:
        block = self._block(architecture, site[0])
        first, end = block[0], block[-1].name
        *names, joined = architecture.fresh_names(
            *(f"branch{i}_{node.op.op_name}" for i, node in enumerate(block)), f"branch_{self.join}"
        )
        width = architecture.specs[first.name].n_channels
        ops = [node.op for node in block]
        narrowed = first
        if self.join == "concat":
            ops[0] = first.op.with_width(width // 2)
            narrowed = replace(first, op=first.op.with_width(width - width // 2))
        twins = chain(first.inputs[0], zip(names, ops, strict=True))
        join = Node(joined, Concat() if self.join == "concat" else Add(), (end, twins[-1].name))
        nodes: list[Node] = []
        for node in architecture.nodes:
            inputs = tuple(joined if name == end else name for name in node.inputs)
            nodes.append(narrowed if node.name == first.name else replace(node, inputs=inputs))
            if node.name == end:
                nodes += [*twins, join]
        return Architecture(tuple(nodes))

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        block = self._block(parent, site[0])
        *twins, _ = (n.name for n in child.nodes if n.name not in parent.index)
        width = child.specs[site[0]].n_channels
        result = dict(weights)
        for node, twin in zip(block, twins, strict=True):
            for name, param in node.op.params(parent.input_specs(node.name)).items():
                whole = weights[f"{node.name}.{name}"]
                if self.join == "add":
                    part = whole * torch.as_tensor(rng.uniform(0.25, 0.75, param.shape)).to(whole)
                    parts = (part, whole - part)
                elif "out" in param.axes:  # axis 0 of every parameter here
                    parts = (whole[:width].clone(), whole[width:].clone())
                else:
                    parts = (whole, whole.clone())
                result[f"{node.name}.{name}"], result[f"{twin}.{name}"] = parts
        return {name: result[name] for name in child.params}

    def _block(self, architecture: Architecture, name: str) -> list[Node]:
        """The layer that is split and what goes along with it."""
        block = [architecture[name]]
        if self.join == "concat":
            block += takewhile(lambda node: isinstance(node.op, _PER_CHANNEL), followers_of(architecture, name))
        return block
