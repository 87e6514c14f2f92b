"""From observations to an acquisition: what is fitted to what, and how the answers are put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optuna_nas_morph.acquisition import (
    Acquisition,
    LogExpectedHypervolumeImprovement,
    LogExpectedImprovement,
    ThompsonSampling,
    log_probability_of_feasibility,
)
from optuna_nas_morph.acquisition.log_expected_hypervolume_improvement import (
    non_dominated_boxes,
    reference_point,
)
from optuna_nas_morph.history import Observation
from optuna_nas_morph.surrogate import N_ANCHORS, Mean, Points, Quantity, Surrogate, fit_surrogate
from optuna_nas_morph.targets import chebyshev, extrapolate, feasibility, log_regret, pareto_front, standardise

Values = Callable[[Points], np.ndarray]
_PRICE_OF_DRAW = 10
"""How much more a value that is drawn jointly costs than a mean and a variance, about."""

_Value = Callable[[Points, np.ndarray, np.ndarray], np.ndarray]  # of points, predicted means (k, m), variances (k, m)


@dataclass(frozen=True)
class Belief:
    """What is believed of candidates.

    Attributes:
        surrogate:
            Gaussian processes of the objectives, then of the constraints.
        acquisition:
            How much each point is worth trying, to be maximised, of shape (m,).
        n_covariances:
            Similarities to observations that it takes, per point.
    """

    surrogate: Surrogate
    acquisition: Values
    n_covariances: int


def believe(
    observed: Sequence[Observation],
    points: Points,
    running: Points,
    reference: np.ndarray,
    is_categorical: np.ndarray,
    *,
    signs: Sequence[float],
    kernel: Any,
    acquisition: Acquisition | ThompsonSampling | None,
    deterministic: bool,
    rng: np.random.Generator,
    means: Sequence[Sequence[Mean]] = (),
) -> Belief:
    """Fit the surrogate and make the acquisition.

    One objective: the acquisition, by default the log expected improvement. Several: by default the log expected
    hypervolume improvement, every objective with a Gaussian process of its own; with an acquisition given, the
    objectives are scalarised with random weights first. Where trials have constraints, the log probability of keeping
    to them is added; as long as no trial has kept to all, that is all there is.

    Args:
        observed:
            Finished trials with values or constraints; at least one has values.
        points:
            They as points.
        running:
            Running trials as points.
        reference:
            The observed points' vectors at the reference training.  # (n, d)
        is_categorical:
            Per entry of a vector, whether it is an index of a choice.  # (d,)
        signs:
            Per objective, 1 to maximise and -1 to minimise.
        kernel:
            The graph kernel.
        acquisition:
            The acquisition function.
        deterministic:
            Whether values have no noise.
        rng:
            Source of randomness.
        means:
            What is thought of the objectives beforehand: per earlier task, one function for each objective.
    """
    by_volume = len(signs) > 1 and acquisition is None
    rows = np.array([i for i, o in enumerate(observed) if o.values is not None])
    targets = targets_of([observed[i] for i in rows], signs, by_volume, rng)
    # A scalarised objective may follow any of them.
    by_target = list(zip(*means, strict=True)) if by_volume else [[mean for of_task in means for mean in of_task]]
    names = sorted({name for o in observed for name in o.constraints})
    constraints, borders = _constraints(observed, names)
    surrogate = fit_surrogate(
        points,
        [Quantity(rows, *pair) for pair in zip(targets, by_target or [()] * len(targets), strict=True)] + constraints,
        running,
        is_categorical,
        kernel=kernel,
        deterministic=deterministic,
        rng=rng,
    )
    feasible = np.array([_is_feasible(observed[i], names) for i in rows])
    value: _Value | None = None
    if not feasible.any():
        pass  # First of all one has to be found that keeps to the constraints.
    elif by_volume:
        value = _hypervolume_improvement(np.stack(targets, axis=1)[feasible])
    elif isinstance(acquisition, ThompsonSampling):
        path = surrogate.path(0, rng)
        value = lambda points, means, variances: path(points)  # noqa: E731
    else:
        # With equal training everywhere the best observed value is the mark; else the best that would be seen at the
        # reference training.
        at_reference = Points(points.graphs, points.owner[rows], reference[rows])
        same = np.allclose(reference, points.z)
        values = targets[0] if same else surrogate.predict(at_reference)[0][0]
        value = _pointwise(acquisition or LogExpectedImprovement(), float(np.max(values[feasible])))

    def whole(points: Points) -> np.ndarray:
        means, variances = surrogate.predict(points)
        total = np.zeros(len(points)) if value is None else value(points, means, variances)
        for k, border in enumerate(borders, start=len(targets)):
            total = total + log_probability_of_feasibility(means[k], variances[k], border)
        return total

    n_covariances = sum(len(posterior.y) for posterior in surrogate.posteriors) * (1 + len(means))
    if isinstance(acquisition, ThompsonSampling):
        n_covariances += N_ANCHORS * _PRICE_OF_DRAW
    return Belief(surrogate, whole, n_covariances)


def targets_of(
    observed: Sequence[Observation], signs: Sequence[float], by_volume: bool, rng: np.random.Generator
) -> list[np.ndarray]:
    """What Gaussian processes are fitted to, one or one per objective, larger is better."""
    values = np.array([o.values for o in observed], dtype=float) * signs
    if len(signs) == 1:
        curves = [{step: signs[0] * value for step, value in o.curve.items()} for o in observed]
        is_partial = np.array([o.is_partial for o in observed])
        return [log_regret(extrapolate(curves, values[:, 0], is_partial))]
    return [standardise(column) for column in values.T] if by_volume else [chebyshev(values, rng)]


def _constraints(observed: Sequence[Observation], names: Sequence[str]) -> tuple[list[Quantity], list[float]]:
    """A quantity per constraint, of the trials that have set it, and where its border is."""
    quantities, borders = [], []
    for name in names:
        rows = np.array([i for i, o in enumerate(observed) if name in o.constraints])
        targets, border = feasibility(np.array([observed[i].constraints[name] for i in rows]))
        quantities.append(Quantity(rows, targets))
        borders.append(border)
    return quantities, borders


def _is_feasible(observation: Observation, names: Sequence[str]) -> bool:
    """Whether a trial has kept to every constraint. One that has not set a constraint has not."""
    return all(observation.constraints.get(name, 1.0) <= 0 for name in names)


def _pointwise(acquisition: Acquisition, best: float) -> _Value:
    def value(points: Points, means: np.ndarray, variances: np.ndarray) -> np.ndarray:
        return acquisition(means[0], variances[0], best)

    return value


def _hypervolume_improvement(values: np.ndarray) -> _Value:
    front = values[pareto_front(values)]
    lower, upper = non_dominated_boxes(front, reference_point(values))
    k = values.shape[1]

    def value(points: Points, means: np.ndarray, variances: np.ndarray) -> np.ndarray:
        return LogExpectedHypervolumeImprovement()(means[:k], variances[:k], lower, upper)

    return value
