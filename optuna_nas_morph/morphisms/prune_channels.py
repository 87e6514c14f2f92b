"""Make a channel group narrower."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import Op, Param
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights
from optuna_nas_morph.morphisms.widen import Widen, group_at


@dataclass(frozen=True)
class PruneChannels(Morphism):
    """Remove the units of a channel group that matter least: the opposite of `Widen`.

    A unit costs the norm of the weights and biases that make it (Li et al., 2017, section 3.1; norms after them aside)
    times that of the weights that read it. A unit that is nearer to another one, norms included, than to nothing costs
    its distance from that instead, and consumers then read the other in its place (Srinivas and Babu, 2015, section 3).
    The cheapest goes first, the later one where they are equal.

    Exact where the units that go are dead (nothing reads them, or they are 0) or copies of others: right after `Widen`
    it gives the parent back, unless a layer both reads and makes the group. Not exact otherwise (LEMONADE, Elsken et
    al., 2019, section 3.1). Sites and refusals are those of `Widen`.

    Args:
        factor:
            Old width over new; at least one unit goes and one stays.
    """

    morphism_name: ClassVar[str] = "prune_channels"

    factor: float = 1.5

    def __post_init__(self) -> None:
        if not 1 < self.factor <= 16:
            raise MorphismError(f"factor must be above 1 and at most 16 but got {self.factor!r}.")

    @property
    def exact(self) -> bool:
        return False

    def candidates(self, architecture: Architecture) -> Iterable[Site]:
        return Widen().candidates(architecture)

    def refusal(self, architecture: Architecture, site: Site) -> str | None:
        reason = Widen().refusal(architecture, site)
        if reason is not None:
            return reason
        return "it has one unit" if self._sizes(architecture, site)[0] == 1 else None

    def settled(self, parent: Architecture, site: Site, weights: Weights) -> Morphism:
        n_old, n_new = self._sizes(parent, site)
        kept, places = _choose(*_vectors(parent, site, weights), n_old - n_new)
        return _Settled(self.factor, kept, places)

    def _apply(self, architecture: Architecture, site: Site) -> Architecture:
        groups, group = architecture.groups, group_at(architecture, site)
        sizes = [self._sizes(architecture, site)[1] if g == group else n for g, n in enumerate(groups.sizes)]
        ops: dict[str, Op] = {}
        for node in architecture.nodes:
            width = groups.width(node.name, sizes)
            if node.op.width_field is not None and width != groups.width(node.name):
                ops[node.name] = node.op.with_width(width)
        return architecture.replace(ops)

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        return self.settled(parent, site, weights).transfer(parent, child, site, weights, rng)

    def _sizes(self, architecture: Architecture, site: Site) -> tuple[int, int]:
        """Units before and after."""
        group = group_at(architecture, site)
        if group is None:
            raise MorphismError(f"{self}: no channel group starts at {site}.")
        n_old = architecture.groups.sizes[group]
        return n_old, max(1, min(n_old - 1, round(n_old / self.factor)))


@dataclass(frozen=True)
class _Settled(PruneChannels):
    """Pruning to given units."""

    kept: tuple[int, ...] = ()
    places: tuple[int, ...] = ()
    """For each old unit the position in ``kept`` of the one that is read in its place, or -1 if there is none."""

    def settled(self, parent: Architecture, site: Site, weights: Weights) -> Morphism:
        return self

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        group, new_group = group_at(parent, site), group_at(child, site)
        assert group is not None
        assert new_group is not None
        result = dict(weights)
        for name, param, role, tensor in _axes(parent, group):
            axis, old = param.axes.index(role), result[name]
            if role == "out":
                positions = parent.groups.gather(tensor, {group: np.array(self.kept)})
                result[name] = old.index_select(axis, torch.as_tensor(positions))
            else:
                places = torch.as_tensor(child.groups.gather(tensor, {new_group: np.array(self.places)}))
                (read,) = torch.nonzero(places >= 0, as_tuple=True)
                shape = list(old.shape)
                shape[axis] = child.groups.width(tensor)
                new = old.new_zeros(shape)
                result[name] = new.index_add_(axis, places[read], old.index_select(axis, read))
        return {name: result[name] for name in child.params}


def _axes(architecture: Architecture, group: int) -> Iterator[tuple[str, Param, str, str]]:
    """Where the weights have a group: name, form, ``"out"`` or ``"in"``, and the node whose channels these are."""
    moved = {name for name, refs in architecture.groups.tensors.items() if any(ref.group == group for ref in refs)}
    for node in architecture.nodes:
        for name, param in node.op.params(architecture.input_specs(node.name)).items():
            for role, tensor in (("out", node.name), ("in", node.inputs[0])):
                if tensor in moved and role in param.axes:
                    yield f"{node.name}.{name}", param, role, tensor


def _vectors(parent: Architecture, site: Site, weights: Weights) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each unit of a group: all that makes it, what of that are weights and biases of layers, what reads it.

    Returns:
        Three arrays with a row per unit. The rows of each weight are divided by the root mean square of their norms, so
        that all layers count alike.
    """
    group = group_at(parent, site)
    assert group is not None
    size = parent.groups.sizes[group]
    layers = {name.rpartition(".")[0] for name, param in parent.params.items() if len(param.shape) > 1}
    makes, strengths, reads = ([np.zeros((size, 0))] for _ in range(3))
    for name, param, role, tensor in _axes(parent, group):
        values = weights[name].double().cpu().movedim(param.axes.index(role), 0).numpy()
        ends = np.cumsum([parent.groups.sizes[ref.group] * ref.repeat for ref in parent.groups.tensors[tensor]])
        parts = zip(parent.groups.tensors[tensor], np.split(values, ends[:-1]), strict=True)
        rows = np.concatenate([part.reshape(size, -1) for ref, part in parts if ref.group == group], axis=1)
        rows = rows / (np.sqrt((rows**2).sum(1).mean()) or 1.0)
        if role == "in":
            reads.append(rows)
        else:
            makes.append(rows)
            if tensor in layers:
                strengths.append(rows)
    return np.hstack(makes), np.hstack(strengths), np.hstack(reads)


def _choose(
    makes: np.ndarray, strengths: np.ndarray, reads: np.ndarray, n_removed: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The units that stay, and what becomes of those that go: see `_Settled`."""
    squares = (makes**2).sum(1)
    sums = squares[:, None] + squares
    apart = sums - 2 * makes @ makes.T
    distances = np.sqrt(np.where(apart < 1e-12 * sums, 0.0, apart))  # equal rows differ by rounding
    np.fill_diagonal(distances, np.inf)
    nothing = np.linalg.norm(strengths, axis=1)
    reads, units, nearest = reads.copy(), np.arange(len(reads)), distances.argmin(1)
    weights, stays = np.linalg.norm(reads, axis=1), np.ones(len(reads), dtype=bool)
    instead: dict[int, int] = {}
    for _ in range(n_removed):
        gaps = distances[units, nearest]
        costs = np.where(stays, np.minimum(gaps, nothing) * weights, np.inf)
        unit = len(costs) - 1 - int(costs[::-1].argmin())
        if gaps[unit] < nothing[unit]:
            instead[unit] = int(nearest[unit])
            reads[nearest[unit]] += reads[unit]
            weights[nearest[unit]] = np.linalg.norm(reads[nearest[unit]])
        stays[unit] = False
        distances[:, unit] = np.inf
        stale = nearest == unit
        nearest[stale] = distances[stale].argmin(1)

    kept = np.flatnonzero(stays)
    places = np.full(len(stays), -1)
    places[kept] = np.arange(len(kept))
    for unit in reversed(instead):  # what a unit goes to goes later than itself
        places[unit] = places[instead[unit]]
    return tuple(kept.tolist()), tuple(places.tolist())
