"""Merge two parallel layers into one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations
from typing import ClassVar

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from optuna_nas_morph.ir import Architecture, Node
from optuna_nas_morph.ir.ops import Add, Conv, DepthwiseConv, Linear, Op
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights


@dataclass(frozen=True)
class MergeBranches(Morphism):
    """Merge two layers that read the same and that a sum adds up: the sum of two linear maps is one.

    Of two convolutions the smaller kernel gets a ring of zeros first (RepVGG, Ding et al., 2021, section 3.3, where
    `FoldBatchNorm` comes before). A sum that has one term left goes away. It is what undoes ``Branch("add")``.

    Exact in eval and train mode. A site is a sum and the positions of two of its terms.
    """

    morphism_name: ClassVar[str] = "merge_branches"

    def candidates(self, architecture: Architecture) -> Iterable[Site]:
        for node in architecture.nodes:
            if isinstance(node.op, Add):
                yield from ((node.name, str(i), str(j)) for i, j in combinations(range(len(node.inputs)), 2))

    def refusal(self, architecture: Architecture, site: Site) -> str | None:
        if len(site) != 3 or site[0] not in architecture.index:
            return "a site is a sum and the positions of two of its terms"
        total = architecture[site[0]]
        if site not in self.candidates(architecture):
            return f"{total.op.op_name} {total.name!r} has no such terms"
        if total.name == architecture.output and len(total.inputs) == 2:
            return "it is the network's output"
        first, second = _terms(architecture, site)
        if first.inputs != second.inputs:
            return "they read different nodes"
        if any(len(architecture.consumers[term.name]) > 1 for term in (first, second)):
            return "something else reads one of them"
        if _merged(first.op, second.op) is None:
            return f"no layer is the sum of {first.name!r} and {second.name!r}"
        return None

    def _apply(self, architecture: Architecture, site: Site) -> Architecture:
        total = architecture[site[0]]
        first, second = _terms(architecture, site)
        merged = _merged(first.op, second.op)
        assert merged is not None
        left = tuple(name for name in total.inputs if name != second.name)
        nodes: list[Node] = []
        for node in architecture.nodes:
            if node.name == first.name:
                nodes.append(replace(node, op=merged))
            elif node.name == total.name and len(left) > 1:
                nodes.append(replace(node, inputs=left))
            elif node.name not in (second.name, total.name):
                inputs = (first.name if name == total.name and len(left) == 1 else name for name in node.inputs)
                nodes.append(replace(node, inputs=tuple(inputs)))
        return Architecture(tuple(nodes))

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        terms = _terms(parent, site)
        kept = terms[0].name
        result = dict(weights)
        for name in child[kept].op.params(child.input_specs(kept)):
            known = [weights[f"{term.name}.{name}"] for term in terms if f"{term.name}.{name}" in weights]
            if name == "weight":
                known = [_grown(tensor, term.op, child[kept].op) for tensor, term in zip(known, terms, strict=True)]
            result[f"{kept}.{name}"] = known[0] if len(known) == 1 else known[0] + known[1]
        return {name: result[name] for name in child.params}


def _terms(architecture: Architecture, site: Site) -> tuple[Node, Node]:
    """The two layers that a site names."""
    total, i, j = site
    inputs = architecture[total].inputs
    return architecture[inputs[int(i)]], architecture[inputs[int(j)]]


def _merged(first: Op, second: Op) -> Conv | DepthwiseConv | Linear | None:
    """The layer that computes the sum of two; :obj:`None` if there is none."""
    if isinstance(first, Linear) and isinstance(second, Linear):
        return replace(first, bias=first.bias or second.bias)
    if isinstance(first, Conv) and isinstance(second, Conv):
        fits = first.groups == second.groups
    else:
        fits = isinstance(first, DepthwiseConv) and isinstance(second, DepthwiseConv)
    if not fits:
        return None
    assert isinstance(first, Conv | DepthwiseConv)
    assert isinstance(second, Conv | DepthwiseConv)
    a, b = first.window, second.window
    if a.stride != b.stride:
        return None
    axes = [
        _merged_axis(*axis)
        for axis in zip(a.kernel_size, a.padding, a.dilation, b.kernel_size, b.padding, b.dilation, strict=True)
    ]
    if None in axes:
        return None
    kernel_size, padding, dilation = zip(*(axis for axis in axes if axis is not None), strict=True)
    return replace(first, kernel_size=kernel_size, padding=padding, dilation=dilation, bias=first.bias or second.bias)


def _merged_axis(k_a: int, p_a: int, d_a: int, k_b: int, p_b: int, d_b: int) -> tuple[int, int, int] | None:
    """Kernel size, padding and dilation along one axis of a kernel that holds two; :obj:`None` if they do not mesh."""
    if k_a > 1 and k_b > 1 and d_a != d_b:
        return None
    dilation = d_a if k_a > 1 else d_b
    padding = max(p_a, p_b)
    if (padding - p_a) % dilation or (padding - p_b) % dilation:
        return None
    return max(k_a + (padding - p_a) // dilation, k_b + (padding - p_b) // dilation), padding, dilation


def _grown(weight: Tensor, old: Op, new: Op) -> Tensor:
    """The weight of a layer with zeros around its kernel, where a larger one has more entries."""
    if not isinstance(old, Conv | DepthwiseConv) or not isinstance(new, Conv | DepthwiseConv):
        return weight
    pads: list[int] = []  # the last axis first
    for k, p, size, padding, dilation in zip(
        old.kernel_size,
        old.window.padding,
        new.kernel_size,
        new.window.padding,
        new.window.dilation,
        strict=True,
    ):
        before = (padding - p) // dilation
        pads = [before, size - k - before, *pads]
    return F.pad(weight, pads)
