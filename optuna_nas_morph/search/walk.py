"""Random walks by morphisms."""

from __future__ import annotations

import numpy as np

from optuna_nas_morph.space import Descendant, MorphSpace


def random_child(space: MorphSpace, parent: Descendant, rng: np.random.Generator) -> Descendant | None:
    """One random step: a morphism of the space, then a place, both uniform; :obj:`None` where it leads nowhere."""
    if len(parent.steps) >= space.max_morphisms:
        return None
    morphism = space.morphisms[int(rng.integers(len(space.morphisms)))]
    found = space.nearest(parent.architecture, morphism, rng.random())
    return None if found is None else Descendant((*parent.steps, found[0]), found[1])


def random_walk(space: MorphSpace, start: Descendant, n_steps: int, rng: np.random.Generator) -> Descendant:
    """Up to ``n_steps`` random steps."""
    candidate = start
    for _ in range(n_steps):
        candidate = random_child(space, candidate, rng) or candidate
    return candidate
