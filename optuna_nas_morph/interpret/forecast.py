"""What the surrogate would have said of each trial before its value came."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from optuna.study import Study
from scipy.stats import norm

from optuna_nas_morph.encoding import AnySpace
from optuna_nas_morph.history import Observation
from optuna_nas_morph.interpret.model import (
    Evidence,
    Model,
    check_objective,
    fit_to,
    n_architectures,
    read_evidence,
)

FIRST = 5
"""Trials with values before the first forecast."""


@dataclass(frozen=True)
class Forecast:
    """A trial as the trials before it predict it, in the units of the objective.

    Attributes:
        trial:
            Its number.
        observed:
            Its value.
        mean:
            The value that is predicted, the median of its distribution.
        low, high:
            Ends of the interval in which the value is expected, noise included.
        n_known:
            Trials that the prediction is made from.
    """

    trial: int
    observed: float
    mean: float
    low: float
    high: float
    n_known: int

    @property
    def is_covered(self) -> bool:
        """Whether the interval holds the value."""
        return self.low <= self.observed <= self.high


def forecasts(
    study: Study,
    *,
    objective: int = 0,
    space: AnySpace | None = None,
    kernel: Any = None,
    level: float = 0.9,
    n_fits: int = 20,
    seed: int = 0,
) -> list[Forecast]:
    """Predict every completed trial from those with lower numbers, each with the training that is behind its weights.

    The surrogate is fitted anew ``n_fits`` times at most, at steps that grow with the study, so a prediction may lack
    the newest of the trials before it: ``n_known`` says. Nothing is taken from the sampler, so any sampler's trials
    will do.

    Args:
        study:
            A study with an architecture space.
        objective:
            Which objective, of several.
        space:
            The space, needed only for a `CellSpace` that this process has not used yet.
        kernel:
            The graph kernel; by default `optuna_nas_morph.kernels.WeisfeilerLehman`.
        level:
            Probability of the intervals.
        n_fits:
            How often the surrogate is fitted at most.
        seed:
            Seed of the fits.

    Returns:
        Forecasts in the order of the trials; none before 5 trials with values.

    Raises:
        ValueError: If the space is not known or an argument is out of range.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1 but got {level!r}.")
    if type(n_fits) is not int or n_fits < 1:
        raise ValueError(f"n_fits must be a positive integer but got {n_fits!r}.")
    from optuna_nas_morph.kernels import WeisfeilerLehman, check_kernel

    if kernel is None:
        kernel = WeisfeilerLehman()
    check_kernel(kernel)
    check_objective(study, objective)
    evidence = read_evidence(study, space)
    found: list[Forecast] = []
    for first, last in _blocks(len(evidence.observed), n_fits):
        known, new = evidence.observed[:first], evidence.observed[first:last]
        if n_architectures(known) >= 2:
            rng = np.random.default_rng([seed, first])
            found += forecast(replace(evidence, observed=known), new, objective, kernel, level, rng)
    return found


def forecast(
    known: Evidence, new: Sequence[Observation], objective: int, kernel: Any, level: float, rng: np.random.Generator
) -> Iterator[Forecast]:
    """Predict trials from others, of at least two architectures; those that were pruned are left out."""
    if any(not o.is_partial for o in new):
        model = fit_to(known, objective, kernel, rng)
        yield from forecast_by(model, new, objective, level, len(known.observed))


def forecast_by(
    model: Model, new: Sequence[Observation], objective: int, level: float, n_known: int
) -> Iterator[Forecast]:
    """Predict trials by a model that was fitted to ``n_known`` others; those that were pruned are left out."""
    new = [o for o in new if not o.is_partial]
    if not new:
        return
    means, variances = model.surrogate.predict(model.encoder.points_of(new))
    noise = model.surrogate.posteriors[0].hyperparameters.noise
    widths = norm.ppf(0.5 + level / 2) * np.sqrt(variances[0] + noise)
    for o, mean, width in zip(new, means[0], widths, strict=True):
        at = model.in_units(np.array([mean, mean - width, mean + width])).tolist()
        assert o.values is not None
        yield Forecast(o.number, o.values[objective], at[0], min(at[1:]), max(at[1:]), n_known)


def _blocks(n: int, n_fits: int) -> list[tuple[int, int]]:
    """Ranges of trials that are predicted by one fit: each a part of those before it, the same for each."""
    if n <= FIRST:
        return []
    ends = np.unique(np.round(np.geomspace(FIRST, n, n_fits + 1)).astype(int)).tolist()
    return list(itertools.pairwise(ends))
