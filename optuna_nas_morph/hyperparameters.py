"""Optuna's parameters as points of the unit cube, for a Gaussian process."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution


@dataclass(frozen=True)
class Cube:
    """A set of parameters as one vector: numbers in [0, 1], categorical choices as their index.

    Args:
        distributions:
            The parameters, in the order of the vector's entries.
    """

    distributions: Mapping[str, BaseDistribution]

    @property
    def n_dims(self) -> int:
        """Entries of a vector."""
        return len(self.distributions)

    @property
    def is_categorical(self) -> np.ndarray:
        """Per entry, whether it is an index of a choice, of shape (d,)."""
        return np.array([isinstance(d, CategoricalDistribution) for d in self.distributions.values()], dtype=bool)

    def contains(self, params: Mapping[str, Any]) -> bool:
        """Whether every parameter is there, and within its distribution."""
        return all(
            name in params and _contains(distribution, params[name])
            for name, distribution in self.distributions.items()
        )

    def encode(self, params: Mapping[str, Any]) -> np.ndarray:
        """Parameters to a vector, of shape (d,)."""
        return np.array([_to_unit(d, params[name]) for name, d in self.distributions.items()], dtype=float)

    def decode(self, point: np.ndarray) -> dict[str, Any]:
        """A vector to parameters, as plain Python scalars; steps and integers are rounded to.

        Args:
            point:
                Entries outside of their range are moved to its end.  # (d,)
        """
        return {name: _from_unit(d, float(u)) for (name, d), u in zip(self.distributions.items(), point, strict=True)}

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Uniform points, of shape (n, d)."""
        points = rng.random((n, self.n_dims))
        for i, d in enumerate(self.distributions.values()):
            if isinstance(d, CategoricalDistribution):
                points[:, i] = rng.integers(len(d.choices), size=n)
        return points

    def perturb(self, points: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
        """Neighbours: numbers moved by normal noise, about one choice in every d drawn anew.

        Args:
            points:
                Where to start.  # (n, d)
            scale:
                Standard deviation of the noise.
            rng:
                Source of randomness.

        Returns:
            One neighbour of each point.  # (n, d)
        """
        categorical = self.is_categorical
        moved = np.clip(points + rng.normal(0.0, scale, points.shape), 0.0, 1.0)
        redraw = rng.random(points.shape) < 1 / max(1, self.n_dims)
        fresh = np.where(redraw, self.sample(len(points), rng), points)
        return np.where(categorical, fresh, moved)

    def snap(self, points: np.ndarray) -> np.ndarray:
        """The points that `decode` really stands for, of shape (n, d)."""
        return np.array([self.encode(self.decode(p)) for p in points]).reshape(points.shape)


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    try:
        internal = distribution.to_internal_repr(value)
    except (TypeError, ValueError):
        return False
    return distribution._contains(internal)


def _bounds(distribution: FloatDistribution | IntDistribution) -> tuple[float, float]:
    """Ends of the range on the scale that is uniform; integers own half a unit to each side."""
    low, high = float(distribution.low), float(distribution.high)
    if isinstance(distribution, IntDistribution) and not distribution.log:
        return low - 0.5 * distribution.step, high + 0.5 * distribution.step
    if isinstance(distribution, IntDistribution):
        return math.log(low - 0.5), math.log(high + 0.5)
    return (math.log(low), math.log(high)) if distribution.log else (low, high)


def _to_unit(distribution: BaseDistribution, value: Any) -> float:
    if isinstance(distribution, CategoricalDistribution):
        return float(distribution.to_internal_repr(value))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = _bounds(distribution)
    x = math.log(value) if distribution.log else float(value)
    return 0.5 if high <= low else (x - low) / (high - low)


def _from_unit(distribution: BaseDistribution, u: float) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        index = min(max(round(u), 0), len(distribution.choices) - 1)
        return distribution.choices[index]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = _bounds(distribution)
    x = low + min(max(u, 0.0), 1.0) * (high - low)
    x = math.exp(x) if distribution.log else x
    if distribution.step is not None:
        x = distribution.low + round((x - distribution.low) / distribution.step) * distribution.step
    x = min(max(x, distribution.low), distribution.high)
    return int(x) if isinstance(distribution, IntDistribution) else float(x)
