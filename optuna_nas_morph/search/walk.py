"""Random walks."""

from __future__ import annotations

from typing import Any

import numpy as np

from optuna_nas_morph.spaces import Space


def random_walk(space: Space[Any], start: Any, n_steps: int, rng: np.random.Generator) -> Any:
    """Up to ``n_steps`` random edits of a member of a space."""
    member = start
    for _ in range(n_steps):
        member = space.random_child(member, rng) or member
    return member
