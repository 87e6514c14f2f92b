"""Tree-structured search for the architecture with the largest acquisition (Auto-Keras).

Algorithm 1 of Jin, Song and Hu (2019), A* search with simulated annealing: every evaluated architecture is a node of a
tree, expanding a node applies morphisms to it, the node with the best acquisition is expanded first, and a child joins
the tree if it is better than the best so far, or else with probability exp((score - best) / T), T cooling down.
Children are scored in batches.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optuna_nas_morph.search.base import Score
from optuna_nas_morph.search.checks import check_positive_integers
from optuna_nas_morph.spaces import Space


@dataclass(frozen=True)
class TreeSearch:
    """Settings of the search.

    Args:
        n_candidates:
            Children that are scored in all.
        n_children:
            Children that are drawn when a node is expanded.
        max_steps:
            Morphisms at most between an evaluated architecture and a candidate.
        temperature:
            T at the start, in units of the acquisition.
        cooling:
            Factor on T after each expansion.
        taken_back:
            Share of the children for which a step is taken back. Auto-Keras only grows.
    """

    n_candidates: int = 300
    n_children: int = 20
    max_steps: int = 3
    temperature: float = 1.0
    cooling: float = 0.9
    taken_back: float = 0.0

    def __post_init__(self) -> None:
        check_positive_integers(self, "n_candidates", "n_children", "max_steps")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive but got {self.temperature!r}.")
        if not 0 < self.cooling < 1:
            raise ValueError(f"cooling must be between 0 and 1 but got {self.cooling!r}.")
        if not 0 <= self.taken_back < 1:
            raise ValueError(f"taken_back must be at least 0 and less than 1 but got {self.taken_back!r}.")

    def __call__(
        self,
        space: Space[Any],
        roots: Sequence[Any],
        score: Score,
        is_new: Callable[[Any], bool],
        rng: np.random.Generator,
    ) -> list[tuple[float, Any]]:
        """Search, see `Search`."""
        found: dict[str, tuple[float, Any]] = {}
        known = {root.fingerprint for root in roots}
        # Plain floats: infinite scores then compare without a warning.
        tree = [(-float(s), i, 0, root) for i, (s, root) in enumerate(zip(score(roots), roots, strict=True))]
        queue: list[tuple[float, int, int, Any]] = []
        best = max((-s for s, *_ in tree), default=-math.inf)
        n_scored, n_draws, temperature = 0, 0, self.temperature
        # Draws are limited where they only find what is known; but "nothing is left" takes a look at every node.
        while tree and n_scored < self.n_candidates:
            if n_draws >= 4 * self.n_candidates and (found or not queue):
                break
            if not queue:  # At the start; and where all have been expanded, which is not to have drawn every child.
                queue = sorted(tree)
            _, _, n_steps, node = heapq.heappop(queue)
            children: dict[str, Any] = {}
            for _ in range(self.n_children):
                n_draws += 1
                back = self.taken_back > 0 and rng.random() < self.taken_back
                child = space.random_sibling(node, rng) if back else space.random_child(node, rng)
                if child is not None and child.fingerprint not in known:
                    children[child.fingerprint] = child
            known |= children.keys()
            batch = list(children.values())
            scores = score(batch) if batch else np.empty(0)
            n_scored += len(batch)
            for value, child in zip(map(float, scores), batch, strict=True):
                if is_new(child):
                    found[child.fingerprint] = (value, child)
                if n_steps + 1 < self.max_steps and not space.is_leaf(child):
                    tree.append((-value, len(tree), n_steps + 1, child))
                    if value > best or rng.random() < math.exp((value - best) / temperature):
                        heapq.heappush(queue, tree[-1])
                best = max(best, value)
            temperature *= self.cooling
        return sorted(found.values(), key=lambda item: -item[0])
