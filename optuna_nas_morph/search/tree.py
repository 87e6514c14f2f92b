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

import numpy as np

from optuna_nas_morph.search.walk import random_child
from optuna_nas_morph.space import Descendant, MorphSpace

Score = Callable[[Sequence[Descendant]], np.ndarray]
"""Acquisition of each candidate, to be maximised; scored in batches."""


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
    """

    n_candidates: int = 300
    n_children: int = 20
    max_steps: int = 3
    temperature: float = 1.0
    cooling: float = 0.9

    def __post_init__(self) -> None:
        for name in ("n_candidates", "n_children", "max_steps"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a positive integer but got {value!r}.")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive but got {self.temperature!r}.")
        if not 0 < self.cooling < 1:
            raise ValueError(f"cooling must be between 0 and 1 but got {self.cooling!r}.")

    def __call__(
        self,
        space: MorphSpace,
        roots: Sequence[Descendant],
        score: Score,
        is_new: Callable[[Descendant], bool],
        rng: np.random.Generator,
    ) -> list[tuple[float, Descendant]]:
        """Search.

        Args:
            space:
                Where to search.
            roots:
                Evaluated architectures, where the tree starts.
            score:
                The acquisition.
            is_new:
                Whether a candidate may be proposed; others may still be expanded.
            rng:
                Source of randomness.

        Returns:
            Descendants that may be proposed with their scores, the best first; empty where the tree has none.
        """
        found: dict[str, tuple[float, Descendant]] = {}
        known = {root.architecture.fingerprint for root in roots}
        # Plain floats: infinite scores then compare without a warning.
        tree = [(-float(s), i, 0, root) for i, (s, root) in enumerate(zip(score(roots), roots, strict=True))]
        queue: list[tuple[float, int, int, Descendant]] = []
        best = max((-s for s, *_ in tree), default=-math.inf)
        n_scored, n_draws, temperature = 0, 0, self.temperature
        # Draws are limited where they only find what is known; but "nothing is left" takes a look at every node.
        while tree and n_scored < self.n_candidates:
            if n_draws >= 4 * self.n_candidates and (found or not queue):
                break
            if not queue:  # At the start; and where all have been expanded, which is not to have drawn every child.
                queue = sorted(tree)
            _, _, n_steps, node = heapq.heappop(queue)
            children: dict[str, Descendant] = {}
            for _ in range(self.n_children):
                n_draws += 1
                child = random_child(space, node, rng)
                if child is not None and child.architecture.fingerprint not in known:
                    children[child.architecture.fingerprint] = child
            known |= children.keys()
            batch = list(children.values())
            scores = score(batch) if batch else np.empty(0)
            n_scored += len(batch)
            for value, child in zip(map(float, scores), batch, strict=True):
                if is_new(child):
                    found[child.architecture.fingerprint] = (value, child)
                if n_steps + 1 < self.max_steps and len(child.steps) < space.max_morphisms:
                    tree.append((-value, len(tree), n_steps + 1, child))
                    if value > best or rng.random() < math.exp((value - best) / temperature):
                        heapq.heappush(queue, tree[-1])
                best = max(best, value)
            temperature *= self.cooling
        return sorted(found.values(), key=lambda item: -item[0])
