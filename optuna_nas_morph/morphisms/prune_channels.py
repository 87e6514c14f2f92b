"""Make a channel group narrower."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import Op
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights
from optuna_nas_morph.morphisms.widen import Widen, group_at


@dataclass(frozen=True)
class PruneChannels(Morphism):
    """Remove the units of a channel group whose incoming weights are the smallest: the opposite of `Widen`.

    Units are ranked by the sum of the absolute values of all weights that make them (Li et al., 2017, section 3.1), the
    earlier one first where they are equal. Not exact (LEMONADE, Elsken et al., 2019, section 3.1). Sites and refusals
    are those of `Widen`.

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
        norms = _norms(parent, site, weights)
        order = np.argsort(-norms, kind="stable")
        assert len(order) == n_old
        return _Settled(self.factor, tuple(np.sort(order[:n_new]).tolist()))

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

    def settled(self, parent: Architecture, site: Site, weights: Weights) -> Morphism:
        return self

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        group = group_at(parent, site)
        assert group is not None
        units = {group: np.array(self.kept)}
        moved = {name for name, refs in parent.groups.tensors.items() if any(ref.group == group for ref in refs)}
        result = dict(weights)
        for node in parent.nodes:
            for name, param in node.op.params(parent.input_specs(node.name)).items():
                for role, tensor in (("out", node.name), ("in", node.inputs[0])):
                    if tensor in moved and role in param.axes:
                        index = torch.as_tensor(parent.groups.gather(tensor, units))
                        full_name = f"{node.name}.{name}"
                        result[full_name] = result[full_name].index_select(param.axes.index(role), index)
        return {name: result[name] for name in child.params}


def _norms(architecture: Architecture, site: Site, weights: Weights) -> np.ndarray:
    """Per unit of a group, the sum of the absolute values of all weights that make it."""
    groups, group = architecture.groups, group_at(architecture, site)
    assert group is not None
    norms = np.zeros(groups.sizes[group])
    for node in architecture.nodes:
        for name, param in node.op.params(architecture.input_specs(node.name)).items():
            if "out" not in param.axes or len(param.shape) < 2:
                continue
            tensor = weights[f"{node.name}.{name}"].double().abs().movedim(param.axes.index("out"), 0)
            sums = tensor.flatten(1).sum(1).cpu().numpy()
            start = 0
            for ref in groups.tensors[node.name]:
                size = groups.sizes[ref.group]
                if ref.group == group:
                    norms += sums[start : start + size * ref.repeat].reshape(size, ref.repeat).sum(1)
                start += size * ref.repeat
    return norms
