"""From architectures and hyperparameters to points of the surrogate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optuna_nas_morph.encoding import AnySpace, Member
from optuna_nas_morph.history import Observation
from optuna_nas_morph.hyperparameters import Conditions, Cube
from optuna_nas_morph.surrogate import Points


def training_feature(epochs: float) -> float:
    """Effective epochs on a logarithmic scale."""
    return math.log1p(epochs) / math.log(1000.0)


@dataclass(frozen=True)
class Encoder:
    """Turns architectures and hyperparameters into points of the surrogate.

    A vector is: hyperparameters in the unit cube, for each conditional one whether it is asked for, features of the
    architecture, and the training behind its weights (where that is known of any). Candidates are predicted at one
    reference training, so that an old lineage is not mistaken for a good architecture. Where it is not known how much
    is behind a trial (it is about to start, or has not said), the reference is taken for it.
    """

    space: AnySpace | None
    cube: Cube
    conditions: Conditions
    reference: float | None

    @staticmethod
    def of(space: AnySpace | None, cube: Cube, observed: Sequence[Observation]) -> Encoder:
        """The encoder that suits what has been observed."""
        points = np.array([cube.encode(o.hyperparameters) for o in observed]).reshape(len(observed), -1)
        members = [o.member for o in observed]
        known = [o.epochs for o in observed if o.epochs is not None]
        reference = training_feature(float(np.median(known))) if known else None
        return Encoder(space, cube, Conditions(cube, points, features_of(space, members)), reference)

    @property
    def is_categorical(self) -> np.ndarray:
        flags = np.ones(len(self.conditions.conditional), dtype=bool)
        of_space = np.array(() if self.space is None else self.space.feature_is_categorical, dtype=bool)
        training = np.zeros(int(self.reference is not None), dtype=bool)
        return np.concatenate([self.cube.is_categorical, flags, of_space, training])

    def filled(self, points: np.ndarray) -> np.ndarray:
        """Vectors of hyperparameters with the middle where one was not asked for."""
        return np.where(np.isnan(points), np.where(self.cube.is_categorical, 0.0, 0.5), points)

    def points_of(self, observations: Sequence[Observation], training: float | None = None) -> Points:
        """Observations as they are, or as if all had had one training."""
        points = np.array([self.cube.encode(o.hyperparameters) for o in observations])
        points = points.reshape(len(observations), self.cube.n_dims)
        known = [self.reference or 0.0 if o.epochs is None else training_feature(o.epochs) for o in observations]
        trainings = np.array(known) if training is None else np.full(len(observations), training)
        return self.points([o.member for o in observations], points, trainings)

    def product(self, members: Sequence[Member | None], points: np.ndarray) -> tuple[np.ndarray, Points]:
        """Every architecture with every vector of hyperparameters, architecture by architecture.

        Returns:
            The vectors, NaN where a hyperparameter would not be asked for, of shape (m * p, d); and the points.
        """
        every = [member for member in members for _ in points]
        tiled = np.tile(points, (len(members), 1))
        if len(self.conditions.conditional):
            tiled = self.conditions.apply(tiled, features_of(self.space, every))
        return tiled, self.points(every, tiled, np.full(len(every), self.reference or 0.0))

    def points(self, members: Sequence[Member | None], points: np.ndarray, training: np.ndarray) -> Points:
        """Architectures with vectors of hyperparameters (NaN where one is not asked for) and training, pair by pair."""
        parts = [self.conditions.expand(points), features_of(self.space, members)]
        if self.reference is not None:
            parts.append(training[:, None])
        index: dict[Any, int] = {}
        owner = [index.setdefault(member.graph, len(index)) for member in members if member is not None]
        z = np.concatenate(parts, axis=1)
        return Points(tuple(index), np.array(owner or np.zeros(len(members)), dtype=int), z)


def features_of(space: AnySpace | None, members: Sequence[Member | None]) -> np.ndarray:
    """Features of architectures, of shape (n, f)."""
    n_features = 0 if space is None else len(space.feature_is_categorical)
    compute: Callable[[Any], tuple[float, ...]] = (lambda _: ()) if space is None else space.features
    return np.array([compute(member) for member in members], dtype=float).reshape(len(members), n_features)
