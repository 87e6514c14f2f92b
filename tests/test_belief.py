"""What is fitted to what, and how the answers are put together. Without architectures, which change nothing here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState
from scipy.stats import norm

from optuna_nas_morph.acquisition import (
    LogExpectedHypervolumeImprovement,
    LogExpectedImprovement,
    ThompsonSampling,
    UpperConfidenceBound,
)
from optuna_nas_morph.acquisition.log_expected_hypervolume_improvement import non_dominated_boxes, reference_point
from optuna_nas_morph.belief import Belief, believe
from optuna_nas_morph.history import Observation
from optuna_nas_morph.surrogate import Points
from optuna_nas_morph.targets import feasibility, log_regret, standardise

X = np.linspace(0, 1, 12)
AT = np.linspace(0.02, 0.98, 25)


def trial(
    x: float,
    values: float | tuple[float, ...] | None,
    state: TrialState = TrialState.COMPLETE,
    curve: dict[int, float] | None = None,
    **constraints: float,
) -> Observation:
    values = (float(values),) if isinstance(values, int | float) else values
    return Observation(0, state, {"x": x}, None, values, constraints, curve or {}, None)


def points(x: Sequence[float] | np.ndarray, training: Sequence[float] | np.ndarray | None = None) -> Points:
    columns = [np.asarray(x, dtype=float)] if training is None else [np.asarray(x, dtype=float), np.asarray(training)]
    return Points((), np.zeros(len(x), dtype=int), np.stack(columns, axis=1))


def belief(
    observed: Sequence[Observation],
    signs: Sequence[float] = (1.0,),
    running: Sequence[float] = (),
    acquisition: Any = None,
    seed: int = 0,
) -> Belief:
    at = points([o.hyperparameters["x"] for o in observed])
    return believe(
        observed,
        at,
        points(running),
        at.z,
        np.array([False]),
        signs=signs,
        kernel=None,
        acquisition=acquisition,
        deterministic=False,
        rng=np.random.default_rng(seed),
    )


def f(x: Any) -> Any:
    return np.sin(6 * x) + x


def log_feasible(b: Belief, k: int, column: np.ndarray, at: Points) -> np.ndarray:
    """Of the constraint that quantity ``k`` is about."""
    means, variances = b.surrogate.predict(at)
    return norm(means[k], np.sqrt(variances[k])).logsf(feasibility(column)[1])


# One objective.


def test_by_default_it_is_the_log_expected_improvement_over_the_best() -> None:
    b = belief([trial(x, f(x)) for x in X])
    targets = log_regret(f(X))
    np.testing.assert_allclose(b.surrogate.posteriors[0].y, targets)
    means, variances = b.surrogate.predict(points(AT))
    expected = LogExpectedImprovement()(means[0], variances[0], targets.max())
    np.testing.assert_allclose(b.acquisition(points(AT)), expected)


def test_the_given_acquisition_is_used() -> None:
    b = belief([trial(x, f(x)) for x in X], acquisition=UpperConfidenceBound(1.0))
    means, variances = b.surrogate.predict(points(AT))
    np.testing.assert_allclose(b.acquisition(points(AT)), means[0] + np.sqrt(variances[0]))


def test_minimising_is_maximising_the_opposite() -> None:
    low = belief([trial(x, -f(x), curve={0: -f(x)}) for x in X], signs=(-1.0,))
    high = belief([trial(x, f(x), curve={0: f(x)}) for x in X])
    np.testing.assert_allclose(low.acquisition(points(AT)), high.acquisition(points(AT)))


def test_next_to_what_is_running_is_worth_less() -> None:
    observed = [trial(x, f(x)) for x in X[::2]]
    free = belief(observed).acquisition(points(AT))
    there = AT[np.argmax(free)]
    busy = belief(observed, running=[there]).acquisition(points(AT))
    assert busy[np.argmax(free)] < free.max()


def test_thompson_sampling_is_one_draw() -> None:
    b = belief([trial(x, f(x)) for x in X], acquisition=ThompsonSampling())
    values = b.acquisition(points(AT))
    np.testing.assert_array_equal(b.acquisition(points(AT[::-1])), values[::-1])
    means, variances = b.surrogate.predict(points(AT))
    assert np.all(np.abs(values - means[0]) < 5 * np.sqrt(variances[0]))
    others = [belief([trial(x, f(x)) for x in X], acquisition=ThompsonSampling(), seed=s) for s in (0, 1)]
    np.testing.assert_array_equal(others[0].acquisition(points(AT)), values)
    assert not np.array_equal(others[1].acquisition(points(AT)), values)


# Pruned trials and effective epochs.


def test_pruned_trials_count_with_what_they_would_have_come_to() -> None:
    whole = [trial(x, f(x), curve={0: f(x) - 3.0, 1: f(x)}) for x in X[:8]]
    cut = [trial(x, f(x) - 3.0, TrialState.PRUNED, {0: f(x) - 3.0}) for x in X[8:]]
    np.testing.assert_allclose(belief([*whole, *cut]).surrogate.posteriors[0].y, log_regret(f(X)), atol=1e-9)
    # Losses as well.
    whole = [trial(x, f(x), curve={0: f(x) + 3.0, 1: f(x)}) for x in X[:8]]
    cut = [trial(x, f(x) + 3.0, TrialState.PRUNED, {0: f(x) + 3.0}) for x in X[8:]]
    b = belief([*whole, *cut], signs=(-1.0,))
    np.testing.assert_allclose(b.surrogate.posteriors[0].y, log_regret(-f(X)), atol=1e-9)


def test_the_best_is_that_at_the_reference_training() -> None:
    # What was trained longer is better by that alone.
    training = np.tile([0.2, 0.8], 6)
    values = f(X) + 4 * training
    observed = [trial(x, v) for x, v in zip(X, values, strict=True)]
    reference = points(X, np.full(12, 0.2)).z
    b = believe(
        observed,
        points(X, training),
        points([], []),
        reference,
        np.array([False, False]),
        signs=(1.0,),
        kernel=None,
        acquisition=None,
        deterministic=False,
        rng=np.random.default_rng(0),
    )
    at = points(AT, np.full(25, 0.2))
    at_reference, _ = b.surrogate.predict(Points((), np.zeros(12, dtype=int), reference))
    best = at_reference[0].max()
    assert best < b.surrogate.posteriors[0].y.max() - 0.5
    means, variances = b.surrogate.predict(at)
    np.testing.assert_allclose(b.acquisition(at), LogExpectedImprovement()(means[0], variances[0], best))


# Constraints.


def test_the_log_probability_of_every_constraint_is_added() -> None:
    memory, latency = X - 0.6, 0.3 - X
    b = belief([trial(x, f(x), memory=x - 0.6, latency=0.3 - x) for x in X])
    at = points(AT)
    means, variances = b.surrogate.predict(at)
    assert len(means) == 3
    feasible = (memory <= 0) & (latency <= 0)
    expected = LogExpectedImprovement()(means[0], variances[0], log_regret(f(X))[feasible].max())
    # In the order of their names.
    expected += log_feasible(b, 1, latency, at) + log_feasible(b, 2, memory, at)
    np.testing.assert_allclose(b.acquisition(at), expected)
    best = AT[np.argmax(b.acquisition(at))]
    assert 0.25 < best < 0.65


@pytest.mark.parametrize("acquisition", [None, UpperConfidenceBound(), ThompsonSampling()])
@pytest.mark.parametrize("n_objectives", [1, 2])
def test_as_long_as_nothing_is_feasible_that_is_all_that_counts(acquisition: Any, n_objectives: int) -> None:
    values = [(f(x), x)[:n_objectives] for x in X]
    b = belief(
        [trial(x, v, c=1.0 + x) for x, v in zip(X, values, strict=True)], (1.0, -1.0)[:n_objectives], (), acquisition
    )
    at = points(AT)
    k = 2 if n_objectives == 2 and acquisition is None else 1
    np.testing.assert_allclose(b.acquisition(at), log_feasible(b, k, 1.0 + X, at))
    assert np.argmax(b.acquisition(at)) < 5


def test_what_is_not_feasible_is_not_the_best() -> None:
    x, values = X, f(X)
    constraint = np.where(values == values.max(), 0.1, -1.0)
    b = belief([trial(*row[:2], c=row[2]) for row in zip(x, values, constraint, strict=True)])
    at = points(AT)
    means, variances = b.surrogate.predict(at)
    targets = log_regret(values)  # all of them are learned from
    second = np.sort(targets)[-2]
    expected = LogExpectedImprovement()(means[0], variances[0], second) + log_feasible(b, 1, constraint, at)
    np.testing.assert_allclose(b.surrogate.posteriors[0].y, targets)
    np.testing.assert_allclose(b.acquisition(at), expected)


def test_a_constraint_that_was_not_set_was_not_kept_and_one_of_0_was() -> None:
    best = int(np.argmax(f(X)))
    at = points(AT)
    # The best trial has not set it; the second best is right at the border.
    second = int(np.argsort(f(X))[-2])
    constraint = np.full(12, 1.0)
    constraint[second] = 0.0
    observed = [trial(x, f(x), c=c) for x, c in zip(X, constraint, strict=True)]
    observed[best] = trial(X[best], f(X[best]))
    b = belief(observed)
    assert [len(p.y) for p in b.surrogate.posteriors] == [12, 11]
    means, variances = b.surrogate.predict(at)
    expected = LogExpectedImprovement()(means[0], variances[0], log_regret(f(X))[second])
    expected += log_feasible(b, 1, np.delete(constraint, best), at)
    np.testing.assert_allclose(b.acquisition(at), expected)


def test_failed_trials_with_constraints_help() -> None:
    # Trials that ran out of memory have no value, but say where memory ends.
    done = [trial(x, x, memory=-1.0) for x in np.linspace(0, 0.6, 7)]
    failed = [trial(x, None, TrialState.FAIL, memory=2.0) for x in np.linspace(0.65, 1.0, 5)]
    at = points(AT)
    unaware, aware = belief([trial(x, x) for x in np.linspace(0, 0.6, 7)]), belief([failed[0], *done, *failed[1:]])
    assert [len(p.y) for p in aware.surrogate.posteriors] == [7, 12]
    np.testing.assert_allclose(aware.surrogate.posteriors[0].y, log_regret(np.linspace(0, 0.6, 7)))
    assert AT[np.argmax(unaware.acquisition(at))] > 0.65
    assert AT[np.argmax(aware.acquisition(at))] < 0.65


# Several objectives.


def test_by_default_it_is_the_log_expected_hypervolume_improvement() -> None:
    values = np.stack([f(X), (X - 0.5) ** 2], axis=1)
    b = belief([trial(x, tuple(v)) for x, v in zip(X, values.tolist(), strict=True)], signs=(1.0, -1.0))
    at = points(AT)
    means, variances = b.surrogate.predict(at)
    columns = np.stack([standardise(values[:, 0]), standardise(-values[:, 1])], axis=1)
    for k in range(2):
        np.testing.assert_allclose(b.surrogate.posteriors[k].y, columns[:, k])
    boxes = non_dominated_boxes(columns, reference_point(columns))
    np.testing.assert_allclose(b.acquisition(at), LogExpectedHypervolumeImprovement()(means, variances, *boxes))


def test_only_what_is_feasible_is_on_the_front() -> None:
    values = np.stack([X, 1 - X], axis=1)
    values[3] = 5.0  # dominates all
    constraint = np.where(np.arange(12) == 3, 1.0, -1.0)
    observed = [trial(x, tuple(v), c=c) for x, v, c in zip(X, values.tolist(), constraint, strict=True)]
    b = belief(observed, signs=(1.0, 1.0))
    at = points(AT)
    means, variances = b.surrogate.predict(at)
    columns = np.stack([standardise(column) for column in values.T], axis=1)[constraint <= 0]
    boxes = non_dominated_boxes(columns, reference_point(columns))
    expected = LogExpectedHypervolumeImprovement()(means[:2], variances[:2], *boxes)
    np.testing.assert_allclose(b.acquisition(at), expected + log_feasible(b, 2, constraint, at))


@pytest.mark.parametrize("acquisition", [UpperConfidenceBound(), ThompsonSampling()])
def test_with_an_acquisition_they_are_one_with_random_weights(acquisition: Any) -> None:
    observed = [trial(x, (f(x), (x - 0.5) ** 2)) for x in X]
    first, second = (belief(observed, (1.0, -1.0), (), acquisition, seed).surrogate.posteriors for seed in (0, 1))
    assert len(first) == len(second) == 1
    assert not np.allclose(first[0].y, second[0].y)
