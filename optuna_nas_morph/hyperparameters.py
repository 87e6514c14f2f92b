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
        """Whether every parameter that is there is within its distribution."""
        return all(_contains(d, params[name]) for name, d in self.distributions.items() if name in params)

    def encode(self, params: Mapping[str, Any]) -> np.ndarray:
        """Parameters to a vector, of shape (d,); NaN where one is not there."""
        return np.array(
            [_to_unit(d, params[name]) if name in params else math.nan for name, d in self.distributions.items()],
            dtype=float,
        )

    def decode(self, point: np.ndarray) -> dict[str, Any]:
        """A vector to parameters, as plain Python scalars; steps and integers are rounded to.

        Args:
            point:
                Entries outside of their range are moved to its end; parameters at NaN are left out.  # (d,)
        """
        return {
            name: _from_unit(d, float(u))
            for (name, d), u in zip(self.distributions.items(), point, strict=True)
            if not math.isnan(u)
        }

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


_N_COPIES = 8


class Conditions:
    """Which hyperparameters an objective asks for: learned from what it has asked for so far.

    For each one that is not always asked for, a decision tree from the features of the architecture and those of the
    others that have been there whenever it has. It is shown every trial several times with random values where one was
    not asked for, so that it decides by none that may not be there. Where all of them always are, nothing is learned.

    Args:
        cube:
            The hyperparameters.
        points:
            Hyperparameters of trials, NaN where one was not asked for.  # (n, d)
        features:
            Features of their architectures.  # (n, f)
    """

    def __init__(self, cube: Cube, points: np.ndarray, features: np.ndarray) -> None:
        missing = np.isnan(points)
        self.conditional = np.flatnonzero(missing.any(axis=0))
        """Indices of the hyperparameters that are not always asked for."""
        self._trees: list[tuple[np.ndarray, Any]] = []  # per conditional one: what it may depend on, and its tree
        if len(self.conditional):
            # Imported when it is needed: it takes a second.
            from sklearn.tree import DecisionTreeClassifier

            again = np.tile(points, (_N_COPIES, 1))
            filled = np.where(np.isnan(again), cube.sample(len(again), np.random.default_rng(0)), again)
            seen = np.concatenate([filled, np.tile(features, (_N_COPIES, 1))], axis=1)
            for i in self.conditional:
                was_there = np.all(~missing | missing[:, [i]], axis=0) & (np.arange(cube.n_dims) != i)
                may_matter = np.concatenate([was_there, np.ones(features.shape[1], dtype=bool)])
                tree = DecisionTreeClassifier(random_state=0)
                tree.fit(seen * may_matter, np.tile(missing[:, i], _N_COPIES))
                self._trees.append((may_matter, tree))

    def apply(self, points: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Put NaN where a hyperparameter would not be asked for.

        Args:
            points:
                Vectors of hyperparameters without NaN.  # (m, d)
            features:
                Features of the architectures that they come with.  # (m, f)
        """
        applied = points.copy()
        if len(points):
            seen = np.concatenate([points, features], axis=1)
            for i, (may_matter, tree) in zip(self.conditional, self._trees, strict=True):
                applied[tree.predict(seen * may_matter), i] = math.nan
        return applied

    def expand(self, points: np.ndarray) -> np.ndarray:
        """What a Gaussian process is given: 0.5 where a value is NaN, and per conditional one whether it is.

        Args:
            points:
                Vectors of hyperparameters, NaN where one is not asked for.  # (n, d)
        """
        flags = np.isnan(points[:, self.conditional]).astype(float)
        return np.concatenate([np.where(np.isnan(points), 0.5, points), flags], axis=1)


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
