"""Make a hidden width larger that passes layer norms or root mean square norms."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from torch import Tensor

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import (
    Activation,
    AdaptivePool,
    Add,
    Conv,
    Dropout,
    Flatten,
    GlobalPool,
    LayerNorm,
    LayerScale,
    Linear,
    Op,
    PatchEmbedding,
    Pool,
    PositionEmbedding,
    RMSNorm,
    Scale,
    SelfAttention,
    TokenEmbedding,
    ToTokens,
)
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights
from optuna_nas_morph.morphisms.blocks import is_norm
from optuna_nas_morph.morphisms.tensors import draw, take
from optuna_nas_morph.morphisms.widen import group_at

_MAKERS = (Conv, Linear, PatchEmbedding, SelfAttention, TokenEmbedding)
"""Operations whose output is linear in weights of their own, one row for each channel."""

_LINEAR = (Add, Dropout, Flatten, PositionEmbedding, Scale, ToTokens)
"""What makes of the mean of channels the mean of what it makes of each."""

_POOLS = (AdaptivePool, GlobalPool, Pool)

_ZERO_AT_ZERO = ("relu", "relu6", "leaky_relu", "gelu", "silu", "tanh", "hardswish")

Fill: TypeAlias = Literal["mean", "zero"]
"""What new channels of a tensor hold: the mean of the others, or 0."""


@dataclass(frozen=True)
class WidenHidden(Morphism):
    """Widen the hidden dimension of a transformer, or any other group of channels that norms over channels read.

    `Widen` is refused there, since other channels mean other statistics. Here new channels hold what leaves the
    statistics known (LEMON: Wang et al., 2024, section 3.2). From width ``d`` to ``d'``:

    - Under layer norms, they hold the mean of the others: every new row of the layers that write them is the mean of
      the old rows. The mean stays, the variance becomes ``d / d'`` of what it was, and so does ``eps``.
    - Under root mean square norms, they hold 0, and the mean square becomes ``d / d'`` of what it was.

    Scales of the norms are multiplied by ``sqrt(d / d')``; behind a norm new channels are 0, and what reads them draws
    its weights for them. What reads them before any norm ignores them.

    Exact in eval and train mode. Refused where an operation does neither keep means nor zeros, as post-norm networks
    with layer norms, and where the width must not change for other reasons. A site is the first node that holds the
    group, and the position of the group's first channel there if not 0.

    Args:
        factor:
            New width over old; at least one channel is added.
    """

    morphism_name: ClassVar[str] = "widen_hidden"

    factor: float = 1.5

    def __post_init__(self) -> None:
        if not 1 < self.factor <= 16:
            raise MorphismError(f"factor must be above 1 and at most 16 but got {self.factor!r}.")

    def candidates(self, architecture: Architecture) -> Iterable[Site]:
        for name, offset in architecture.groups.sites:
            yield (name, str(offset)) if offset else (name,)

    def refusal(self, architecture: Architecture, site: Site) -> str | None:
        group = group_at(architecture, site)
        if group is None:
            return "no channel group starts there"
        fills = _fills(architecture, group)
        return fills if isinstance(fills, str) else None

    def _apply(self, architecture: Architecture, site: Site) -> Architecture:
        groups = architecture.groups
        group = group_at(architecture, site)
        sizes = [self._new_size(n) if g == group else n for g, n in enumerate(groups.sizes)]
        ops: dict[str, Op] = {}
        for node in architecture.nodes:
            old, new = groups.width(node.name), groups.width(node.name, sizes)
            if old != new and is_norm(node.op):
                ops[node.name] = replace(node.op, eps=node.op.eps * old / new)
            elif old != new:
                ops[node.name] = node.op.with_width(new)
        return architecture.replace(ops)

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        group = group_at(parent, site)
        fills = "no channel group starts there" if group is None else _fills(parent, group)
        if group is None or isinstance(fills, str):
            raise MorphismError(f"{self}: {fills}.")
        n_old = parent.groups.sizes[group]
        units = {group: np.concatenate([np.arange(n_old), np.full(self._new_size(n_old) - n_old, -1)])}
        result = dict(weights)
        for node in parent.nodes:
            reads = node.inputs[0] if node.inputs and node.inputs[0] in fills else None
            for name, param in node.op.params(parent.input_specs(node.name)).items():
                key = f"{node.name}.{name}"
                tensor = weights[key]
                if reads is not None and "in" in param.axes:
                    columns = draw(child.params[key], rng, tensor.dtype)
                    if fills[reads] == "mean":
                        columns.zero_()
                    tensor = take(tensor, param.axes.index("in"), parent.groups.gather(reads, units), columns)
                if node.name in fills and "out" in param.axes:
                    axis = param.axes.index("out")
                    if is_norm(node.op):
                        rows = draw(child.params[key], rng, tensor.dtype)
                        if name == "weight":
                            tensor = tensor * math.sqrt(tensor.shape[axis] / rows.shape[axis])
                    elif fills[node.name] == "mean":
                        size = len(units[group])
                        rows = tensor.mean(axis, keepdim=True).expand(
                            *(size if k == axis else -1 for k in range(tensor.dim()))
                        )
                    else:
                        rows = tensor.new_zeros(child.params[key].shape)
                    tensor = take(tensor, axis, units[group], rows)
                result[key] = tensor
        return {name: result[name] for name in child.params}

    def _new_size(self, size: int) -> int:
        return max(size + 1, round(size * self.factor))


def _fills(architecture: Architecture, group: int) -> Mapping[str, Fill] | str:
    """What new channels of a group hold in each tensor that has them, or why nothing is known of them."""
    groups = architecture.groups
    holders = [node for node in architecture.nodes if any(ref.group == group for ref in groups.tensors[node.name])]
    norms = {node.name: "layer" if isinstance(node.op, LayerNorm) else "RMS" for node in holders if is_norm(node.op)}
    if not norms:
        return "no norm over channels reads it"
    expected = {f"{kind} norm {name!r}" for name, kind in norms.items()}
    others = [blocker for blocker in groups.blockers[group] if blocker not in expected]
    if others:
        return f"its width is tied to {', '.join(others)}"
    made: Fill = "mean" if "layer" in norms.values() else "zero"
    fills: dict[str, Fill] = {}
    for node in architecture.nodes:
        channels = groups.tensors[node.name]
        is_maker = isinstance(node.op, _MAKERS)
        if not any(ref.group == group for ref in channels):
            continue
        if len(channels) > 1:
            return f"{node.name!r} holds other channels too"
        if (is_maker or is_norm(node.op)) and channels[0].repeat > 1:
            return f"{node.name!r} holds it at several positions"
        fill = made if is_maker else _fill_behind(node.op, {fills.get(name) for name in node.inputs})
        if fill is None:
            return f"it passes {node.op.op_name} {node.name!r}"
        fills[node.name] = fill
    return fills


def _fill_behind(op: Op, before: Set[Fill | None]) -> Fill | None:
    """What an operation makes of new channels; :obj:`None` where that is not known."""
    fill = next(iter(before), None)
    if len(before) != 1 or fill is None:
        return None
    if isinstance(op, LayerNorm):
        return "zero" if fill == "mean" else None
    if isinstance(op, _LINEAR) or (isinstance(op, _POOLS) and op.kind == "avg"):
        return fill
    zero_at_zero = isinstance(op, (*_POOLS, LayerScale, RMSNorm)) or (
        isinstance(op, Activation) and op.function in _ZERO_AT_ZERO
    )
    return "zero" if fill == "zero" and zero_at_zero else None
