"""Make a channel group wider."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import Op
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights
from optuna_nas_morph.morphisms.tensors import draw, take

SIDES = ("pairs", "copy", "zero")

_FIRST, _SECOND = -2, -3
"""Sources of the two units of a pair; a new unit without a source or a partner has -1."""


@dataclass(frozen=True)
class Widen(Morphism):
    """Add units to a channel group: to all layers, norms and consumers whose widths are tied.

    With ``side="pairs"`` new units have fresh weights, and come in pairs: the same incoming weights, and opposite
    outgoing ones, so that the two cancel until training parts them (the antisymmetric initialisation of Zhang et al.,
    2020, section 4, for the new units alone; the last of an odd number starts with outgoing weights 0). With
    ``side="copy"`` new units copy old ones, and every consumer splits the incoming weight of a unit among its copies,
    by shares that are drawn for each of its outputs, so that the copies part in training (Net2WiderNet, Chen et al.,
    2016, eq. 3; uneven split: LEMON, Wang et al., 2024). With ``side="zero"`` new units start with fresh incoming
    weights, and consumers ignore them: outgoing weights 0 (GradMax, Evci et al., 2022, section 3.1).

    Copies stay alike for long, so a network that was widened by them learns less from its width than one widened by
    pairs, which learns as one that was drawn (``docs/measurements.md``).

    Exact in eval and train mode. Refused where the width of the group must not change: it holds the network's input
    or output, or passes a layer norm (whose statistics would change) or a grouped convolution.

    A site is the first node that holds the group, and the position of the group's first channel there if not 0.

    Args:
        factor:
            New width over old; at least one unit is added.
        side:
            ``"pairs"``, ``"copy"`` or ``"zero"``.
    """

    morphism_name: ClassVar[str] = "widen"

    factor: float = 1.5
    side: str = "pairs"

    def __post_init__(self) -> None:
        if not 1 < self.factor <= 16:
            raise MorphismError(f"factor must be above 1 and at most 16 but got {self.factor!r}.")
        if self.side not in SIDES:
            raise MorphismError(f"side must be one of {SIDES} but got {self.side!r}.")

    def candidates(self, architecture: Architecture) -> Iterator[Site]:
        for name, offset in architecture.groups.sites:
            yield (name, str(offset)) if offset else (name,)

    def refusal(self, architecture: Architecture, site: Site) -> str | None:
        group = group_at(architecture, site)
        if group is None:
            return "no channel group starts there"
        blockers = architecture.groups.blockers[group]
        return f"its width is tied to {', '.join(blockers)}" if blockers else None

    def _apply(self, architecture: Architecture, site: Site) -> Architecture:
        groups = architecture.groups
        group = group_at(architecture, site)
        sizes = [self._new_size(n) if g == group else n for g, n in enumerate(groups.sizes)]
        ops: dict[str, Op] = {}
        for node in architecture.nodes:
            width = groups.width(node.name, sizes)
            if node.op.width_field is not None and width != groups.width(node.name):
                ops[node.name] = node.op.with_width(width)
        return architecture.replace(ops)

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        group = group_at(parent, site)
        if group is None:
            raise MorphismError(f"{self}: no channel group starts at {site}.")
        n_old = parent.groups.sizes[group]
        n_new = self._new_size(n_old) - n_old
        if self.side == "copy":
            # As many copies of each unit as of any other, up to one.
            copied = np.concatenate([rng.permutation(n_old) for _ in range(-(-n_new // n_old))])[:n_new]
        else:
            copied = np.full(n_new, -1)
            if self.side == "pairs":
                n_paired = n_new - n_new % 2
                copied[:n_paired] = np.tile([_FIRST, _SECOND], n_paired // 2)
        units = {group: np.concatenate([np.arange(n_old), copied])}
        moved = {
            name for name, channels in parent.groups.tensors.items() if any(ref.group == group for ref in channels)
        }

        result = dict(weights)
        for node in parent.nodes:
            out = parent.groups.gather(node.name, units) if node.name in moved else None
            into = parent.groups.gather(node.inputs[0], units) if node.inputs and node.inputs[0] in moved else None
            for name, param in node.op.params(parent.input_specs(node.name)).items():
                full_name = f"{node.name}.{name}"
                tensor = weights[full_name]
                if out is not None and "out" in param.axes:
                    axis = param.axes.index("out")
                    fresh = None if self.side == "copy" else draw(child.params[full_name], rng, tensor.dtype)
                    tensor = take(tensor, axis, out, None if fresh is None else _paired(fresh, axis, out, 1.0))
                if into is not None and "in" in param.axes:
                    axis = param.axes.index("in")
                    if self.side == "copy":
                        tensor = _split(tensor, axis, into, rng)
                    else:
                        fresh = draw(child.params[full_name], rng, tensor.dtype) if self.side == "pairs" else None
                        tensor = take(tensor, axis, into, _cancelling(tensor, axis, into, fresh))
                result[full_name] = tensor
        return {name: result[name] for name in child.params}

    def _new_size(self, size: int) -> int:
        return max(size + 1, round(size * self.factor))


def group_at(architecture: Architecture, site: Site) -> int | None:
    """The group that a site names."""
    if len(site) not in (1, 2) or not (len(site) == 1 or site[1].isdecimal()):
        return None
    start = (site[0], int(site[1]) if len(site) == 2 else 0)
    sites = architecture.groups.sites
    return sites.index(start) if start in sites else None


def _paired(fresh: Tensor, axis: int, sources: np.ndarray, sign: float) -> Tensor:
    """Fresh weights in which the second of each pair is the first one's, times a sign."""
    first, second = (torch.as_tensor(np.flatnonzero(sources == place)) for place in (_FIRST, _SECOND))
    return fresh.index_copy(axis, second, sign * fresh.index_select(axis, first))


def _cancelling(tensor: Tensor, axis: int, sources: np.ndarray, fresh: Tensor | None) -> Tensor:
    """How consumers read new units: the two of a pair with opposite weights, those without a partner not at all."""
    if fresh is None:
        return tensor.new_zeros([len(sources) if k == axis else n for k, n in enumerate(tensor.shape)])
    return _paired(fresh, axis, sources, -1.0).index_fill(axis, torch.as_tensor(np.flatnonzero(sources == -1)), 0.0)


def _split(tensor: Tensor, axis: int, sources: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Entries along an input axis from their old positions, split among copies."""
    n_outputs, n_old = tensor.shape[0], tensor.shape[axis]
    split = np.bincount(sources, minlength=n_old)[sources] > 1
    shares = np.ones((n_outputs, len(sources)))
    shares[:, split] = rng.uniform(0.5, 1.5, (n_outputs, int(split.sum())))
    totals = np.zeros((n_outputs, n_old))
    np.add.at(totals.T, sources, shares.T)
    shares /= totals[:, sources]
    view = [1] * tensor.dim()
    view[0], view[axis] = shares.shape
    return tensor.index_select(axis, torch.as_tensor(sources)) * torch.as_tensor(shares.reshape(view)).to(tensor)
