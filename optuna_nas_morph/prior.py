"""What finished studies of other tasks say about a new one.

A Gaussian process is fitted to each earlier study by itself. Its posterior mean is a function that the objective of the
new study may follow, by a scale that is fitted to the new observations and is 0 where they do not (`gp.fit`): the mean
transfers what was learned of architectures and hyperparameters, the variance remains that of the new task alone. So no
belief about an earlier task outlives the evidence against it. (Stacking as in Google Vizier, Golovin et al., KDD 2017,
Section 3.3, but with a scale.)
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from optuna.study import Study, StudyDirection

from optuna_nas_morph import lineage
from optuna_nas_morph.belief import targets_of
from optuna_nas_morph.encoder import Encoder
from optuna_nas_morph.encoding import AnySpace
from optuna_nas_morph.history import HistoryReader, Observation
from optuna_nas_morph.spaces import MorphSpace
from optuna_nas_morph.surrogate import Mean, Points, Quantity, Surrogate, fit_surrogate
from optuna_nas_morph.targets import best_and_latest, ranking

MAX_OBSERVATIONS = 300
"""Trials of an earlier study that are used; of more, the best half of that number and the latest."""


@dataclass(frozen=True, eq=False)
class Prior:
    """A finished study of another task. Made by `read_prior`.

    Attributes:
        name:
            Of the study.
        space:
            Its space; :obj:`None` if it has none.
        signs:
            Per objective, 1 where it was maximised and -1 where it was minimised.
        observed:
            Its trials with values.
    """

    name: str
    space: AnySpace | None
    signs: tuple[float, ...]
    observed: Sequence[Observation]
    _fits: dict[bytes, Surrogate] = field(default_factory=dict, init=False, repr=False)

    def means(self, encoder: Encoder, kernel: Any) -> list[Mean]:
        """What it says of the points of a new study: per objective the posterior mean, on the scale of its targets.

        Compared are graphs, the hyperparameters that both studies have, the features of architectures (of a closed
        space only if both studies have the same), and the training behind weights if both know of it. A trial whose
        hyperparameters are outside of their ranges in the new study is left out.

        Args:
            encoder:
                Of the new study.
            kernel:
                The graph kernel.

        Returns:
            Nothing where there is nothing to compare by, or where fewer than two trials are left.
        """
        observed = [o for o in self.observed if encoder.cube.contains(o.hyperparameters)]
        comparable = encoder.space is not None or self.space is None
        columns = self._columns(encoder)
        if not comparable or len(observed) < 2 or (self.space is None and not columns.any()):
            warnings.warn(
                f"prior_studies has {self.name!r}, which says nothing here: it has no two trials with hyperparameters "
                "in the ranges of this study, or neither architectures nor hyperparameters in common with it.",
                stacklevel=2,
            )
            return []
        # Of a space that is not comparable there are no features, and nothing stands in their columns.
        own = encoder if self._has_features(encoder) else replace(encoder, space=None)
        points = own.points_of(observed)
        z = points.z[:, self._columns(own)]
        is_categorical = encoder.is_categorical[columns]
        key = b"".join([z.tobytes(), is_categorical.tobytes(), repr([o.number for o in observed]).encode()])
        if key not in self._fits:
            rng = np.random.default_rng(0)  # What it says must not depend on when it is asked.
            targets = targets_of(observed, self.signs, len(self.signs) > 1, rng)
            self._fits[key] = fit_surrogate(
                Points(points.graphs, points.owner, z),
                [Quantity(np.arange(len(observed)), column) for column in targets],
                Points((), np.empty(0, dtype=int), z[:0]),
                is_categorical,
                kernel=kernel,
                deterministic=False,
                rng=rng,
            )
        return [PosteriorMean(self._fits[key], k, columns) for k in range(len(self.signs))]

    def _has_features(self, encoder: Encoder) -> bool:
        """Whether the space of a new study can tell the features of its architectures."""
        if isinstance(encoder.space, MorphSpace):
            return isinstance(self.space, MorphSpace)
        return encoder.space is not None and self.space is not None and encoder.space.digest == self.space.digest

    def _columns(self, encoder: Encoder) -> np.ndarray:
        """Which entries of the vectors of a new study are known of its trials, of shape (d,)."""
        names = list(encoder.cube.distributions)
        has = np.array([any(name in o.hyperparameters for o in self.observed) for name in names], dtype=bool)
        n_features = 0 if encoder.space is None else len(encoder.space.feature_is_categorical)
        parts = [has, has[encoder.conditions.conditional], np.full(n_features, self._has_features(encoder))]
        if encoder.reference is not None:
            parts.append(np.array([any(o.epochs is not None for o in self.observed)]))
        return np.concatenate(parts)


@dataclass(frozen=True)
class PosteriorMean:
    """The posterior mean of one quantity, which looks at some of the entries of vectors only.

    Args:
        surrogate:
            What was learned.
        k:
            Which quantity of it.
        columns:
            Which entries of a vector it looks at.  # (d,)
    """

    surrogate: Surrogate
    k: int
    columns: np.ndarray

    def __call__(self, points: Points) -> np.ndarray:
        """See `Mean`."""
        means, _ = self.surrogate.predict(self._seen(points))
        column: np.ndarray = means[self.k]
        return column

    def _seen(self, points: Points) -> Points:
        if self.surrogate.kernel is None:
            return Points((), np.zeros(len(points), dtype=int), points.z[:, self.columns])
        return Points(points.graphs, points.owner, points.z[:, self.columns])


def read_prior(study: Study, n_objectives: int) -> Prior:
    """A finished study, for a new one with so many objectives.

    Raises:
        ValueError: If it has another number of objectives, or a space that this process does not know, or fewer than
            two trials of it can be read.
    """
    signs = tuple(-1.0 if d == StudyDirection.MINIMIZE else 1.0 for d in study.directions)
    if len(signs) != n_objectives:
        raise ValueError(
            f"prior_studies must hold studies with as many objectives as this one, {n_objectives}, but "
            f"{study.study_name!r} has {len(signs)}."
        )
    space = lineage.space_of(study)
    if space is None and any(trial.user_attrs.get(lineage.FINGERPRINT) for trial in study.get_trials(deepcopy=False)):
        raise ValueError(
            f"prior_studies has {study.study_name!r}, whose space holds a Python function that this process does not "
            "know: it does once it has called suggest_architecture with that space in any study."
        )
    history = HistoryReader().read(study, space, -1)
    observed = [o for o in history.observations if o.state.is_finished() and o.values is not None]
    if len(observed) < 2:
        raise ValueError(
            f"prior_studies must hold studies with at least two trials that can be read, but {study.study_name!r} has "
            f"{len(observed)}."
        )
    kept = best_and_latest(ranking([o.values for o in observed], signs), MAX_OBSERVATIONS)
    return Prior(study.study_name, space, signs, [observed[i] for i in kept])
