"""From objective values to targets."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata

from optuna_nas_morph.targets import (
    LogRegret,
    Standard,
    best_and_latest,
    chebyshev,
    extrapolate,
    feasibility,
    log_regret,
    pareto_front,
    ranking,
    standardise,
)

FLOATS = st.floats(allow_nan=False, allow_infinity=True, width=64)
COLUMNS = arrays(np.float64, st.integers(1, 30), elements=FLOATS)


@given(COLUMNS)
def test_any_values_give_finite_targets_in_the_same_order(column: np.ndarray) -> None:
    targets = standardise(column)
    assert np.all(np.isfinite(targets))
    order = np.argsort(column, kind="stable")
    assert np.all(np.diff(targets[order]) >= -1e-12)
    if np.any(targets):
        assert np.mean(targets) == pytest.approx(0, abs=1e-9)
        assert np.std(targets) == pytest.approx(1, abs=1e-9)


@given(
    arrays(np.float64, st.integers(2, 30), elements=st.integers(-1000, 1000).map(float)),
    st.floats(0.01, 100),
    st.integers(-1000, 1000),
)
def test_unit_and_offset_of_the_objective_do_not_matter(column: np.ndarray, scale: float, offset: int) -> None:
    np.testing.assert_allclose(standardise(scale * column + offset), standardise(column), atol=1e-8)


def test_without_extremes_it_is_the_textbook_formula() -> None:
    column = np.array([0.1, 0.4, 0.3, 0.2, 0.9])
    np.testing.assert_allclose(standardise(column), (column - column.mean()) / column.std(), rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 3.7, -1e308, 1e308, 5e-324])
def test_constant_values_are_all_0(value: float) -> None:
    assert standardise(np.full(7, value)).tolist() == [0.0] * 7
    assert standardise(np.array([value])).tolist() == [0.0]


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_only_infinities_are_all_0(value: float) -> None:
    assert standardise(np.full(3, value)).tolist() == [0.0] * 3


def test_infinities_are_the_ends_of_the_finite_values() -> None:
    np.testing.assert_array_equal(
        standardise(np.array([1.0, np.inf, 2.0, -np.inf, 4.0])), standardise(np.array([1.0, 4.0, 2.0, 1.0, 4.0]))
    )


@pytest.mark.parametrize("diverged", [-1e3, -1e9, -1e20, -1e30, -1e100, -1e308, -np.finfo(float).max])
def test_a_diverged_training_leaves_the_others_apart(diverged: float) -> None:
    bulk = np.array([0.50, 0.55, 0.60, 0.65, 0.70, 0.75])
    targets = standardise(np.append(bulk, diverged))
    # Wherever it went, it stands at the lower fence.
    np.testing.assert_allclose(targets, standardise(np.append(bulk, -1e4)), rtol=1e-6)
    assert np.all(np.diff(targets[:-1]) > 0.1)
    assert np.argmin(targets) == 6


def test_a_very_good_value_stays_where_it_is() -> None:
    column = np.array([0.50, 0.55, 0.60, 0.65, 0.70, 99.0])
    np.testing.assert_allclose(standardise(column), (column - column.mean()) / column.std(), rtol=1e-12)


# One objective on the scale of the regret.


@given(COLUMNS)
def test_any_values_give_finite_log_regrets_in_the_same_order(column: np.ndarray) -> None:
    targets = log_regret(column)
    assert np.all(np.isfinite(targets))
    assert np.all(np.diff(targets[np.argsort(column, kind="stable")]) >= -1e-12)
    if np.any(targets):
        assert np.mean(targets) == pytest.approx(0, abs=1e-9)
        assert np.std(targets) == pytest.approx(1, abs=1e-9)


@given(
    arrays(np.float64, st.integers(2, 30), elements=st.integers(-1000, 1000).map(float)),
    st.floats(0.01, 100),
    st.integers(-1000, 1000),
)
def test_unit_and_offset_do_not_matter_to_log_regrets(column: np.ndarray, scale: float, offset: int) -> None:
    np.testing.assert_allclose(log_regret(scale * column + offset), log_regret(column), atol=1e-7)


def test_log_regret_by_hand() -> None:
    column = np.array([0.1, 0.4, 0.3, 0.2, 0.9])
    # 0.9 is 0.6 above the median: the top is 1.5.
    expected = -np.log(1.5 - column)
    np.testing.assert_allclose(log_regret(column), (expected - expected.mean()) / expected.std(), rtol=1e-9)


def test_log_regret_of_accuracies_is_about_the_log_error() -> None:
    accuracy = np.array([0.10, 0.50, 0.80, 0.90, 0.93, 0.94])
    targets = log_regret(accuracy)
    # A point of accuracy counts for more near the top than far from it.
    slopes = np.diff(targets) / np.diff(accuracy)
    assert np.all(np.diff(slopes[1:]) > 0)


def test_where_half_of_the_values_are_the_best_the_unit_is_the_standard_deviation() -> None:
    column = np.array([1.0, 1.0, 1.0, 0.0])
    z = (column - column.mean()) / column.std()
    expected = -np.log(z.max() + 1.0 - z)
    np.testing.assert_allclose(log_regret(column), (expected - expected.mean()) / expected.std(), rtol=1e-9)


@pytest.mark.parametrize("value", [0.0, 3.7, -1e308, 1e308, 5e-324, np.inf, -np.inf])
@pytest.mark.parametrize("n", [1, 7])
def test_log_regrets_of_constant_values_are_all_0(value: float, n: int) -> None:
    np.testing.assert_array_equal(log_regret(np.full(n, value)), np.zeros(n))


def test_log_regrets_of_few_values() -> None:
    assert log_regret(np.empty(0)).shape == (0,)
    np.testing.assert_allclose(log_regret(np.array([3.0, -1e3])), [1.0, -1.0])
    np.testing.assert_allclose(log_regret(np.array([-np.inf, 3.0, 4.0]))[0], log_regret(np.array([3.0, 3.0, 4.0]))[0])


@pytest.mark.parametrize("scale", [1e-12, 1e-300, 1.0, 1e308])
def test_differences_of_any_size_are_seen(scale: float) -> None:
    offset = 0.5 if scale == 1e-12 else 0.0
    np.testing.assert_allclose(
        log_regret(offset + scale * np.array([0.0, 0.25, 0.5, 1.0])),
        log_regret(np.array([0.0, 0.25, 0.5, 1.0])),
        atol=1e-3,
    )


# Several objectives.


@given(arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(2, 4)), elements=FLOATS), st.integers(0, 99))
def test_any_objectives_give_finite_targets(values: np.ndarray, seed: int) -> None:
    targets = chebyshev(values, np.random.default_rng(seed))
    assert targets.shape == (len(values),)
    assert np.all(np.isfinite(targets))


def test_what_is_dominated_is_never_better() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(20, 3))
    for _ in range(50):
        targets = chebyshev(values, rng)
        for i in range(20):
            for j in range(20):
                if np.all(values[i] > values[j]):
                    assert targets[i] >= targets[j]


def test_every_point_of_a_concave_front_wins_for_some_weights() -> None:
    # A weighted sum would only ever find the two ends.
    values = np.array([[0.0, 1.0], [0.3, 0.3], [1.0, 0.0]])
    rng = np.random.default_rng(0)
    assert {int(np.argmax(chebyshev(values, rng))) for _ in range(100)} == {0, 1, 2}


# Constraints.


@given(arrays(np.float64, st.integers(1, 20), elements=FLOATS))
def test_any_constraint_is_finite_and_keeps_its_order_and_sides(column: np.ndarray) -> None:
    targets, border = feasibility(column)
    assert np.all(np.isfinite(targets)) and np.isfinite(border)
    assert np.all(np.diff(targets[np.argsort(-column, kind="stable")]) >= -1e-12)
    margin = 1e-12 * (1 + abs(border))
    if np.any(targets):
        assert np.mean(targets) == pytest.approx(0, abs=1e-9)
        assert np.std(targets) == pytest.approx(1, abs=1e-9)
    assert np.all(targets[column <= 0] >= border - margin)
    assert np.all(targets[column > 0] <= border + margin)


@given(arrays(np.float64, st.integers(1, 20), elements=st.integers(-1000, 1000).map(float)))
def test_the_border_is_where_0_is(column: np.ndarray) -> None:
    # Adding zeros is the only way to see where they go; they move the border with them.
    targets, border = feasibility(np.append(column, 0.0))
    assert targets[-1] == pytest.approx(border, abs=1e-12)
    assert np.all(targets[:-1][column < 0] > border)
    assert np.all(targets[:-1][column > 0] < border)


@pytest.mark.parametrize(("value", "side"), [(5.0, 1), (-5.0, -1), (1e308, 1), (-np.inf, -1), (np.inf, 1), (0.0, 0)])
@pytest.mark.parametrize("n", [1, 6])
def test_equal_constraints_are_on_one_side_of_the_border(value: float, side: int, n: int) -> None:
    targets, border = feasibility(np.full(n, value))
    assert targets.tolist() == [0.0] * n
    assert np.sign(border) == side


@given(arrays(np.float64, 7, elements=st.integers(-1000, 1000).map(float)), st.sampled_from([1e-200, 1e-3, 7.0, 1e200]))
def test_the_unit_of_a_constraint_does_not_matter(column: np.ndarray, scale: float) -> None:
    targets, border = feasibility(column)
    scaled, scaled_border = feasibility(scale * column)
    np.testing.assert_allclose(scaled, targets, atol=1e-8)
    assert scaled_border == pytest.approx(border, abs=1e-8)


@pytest.mark.parametrize("extreme", [np.inf, 1e308, 1e12])
def test_an_extreme_constraint_leaves_the_others_apart(extreme: float) -> None:
    column = np.array([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0])
    for values in (np.append(column, extreme), np.append(column, [-extreme] * 2)):
        targets, border = feasibility(values)
        assert np.all(-np.diff(targets[:6]) > 0.05)
        assert np.all((targets > border) == (values < 0))


# Pruned trials.


def test_a_pruned_trial_gains_what_others_gained_from_its_step_on() -> None:
    curves = [{0: 0.1, 1: 0.5}, {0: 0.2, 1: 0.7}, {0: 0.3, 1: 0.9}, {0: 0.25}, {0: 0.1, 1: 0.6}]
    finals = np.array([0.6, 0.9, 1.2, 0.25, 0.6])
    is_partial = np.array([False, False, False, True, True])
    before = finals.copy()
    # From step 0 on: 0.5, 0.7 and 0.9; from step 1 on: 0.1, 0.2 and 0.3.
    np.testing.assert_allclose(extrapolate(curves, finals, is_partial), [0.6, 0.9, 1.2, 0.25 + 0.7, 0.6 + 0.2])
    np.testing.assert_array_equal(finals, before)


def test_losses_to_be_minimised_come_with_their_sign_turned() -> None:
    curves = [{0: 3.0, 5: 1.0}, {0: 4.0}]
    finals, is_partial = np.array([1.0, 4.0]), np.array([False, True])
    turned = [{step: -value for step, value in curve.items()} for curve in curves]
    np.testing.assert_allclose(extrapolate(turned, -finals, is_partial), [-1.0, -2.0])
    np.testing.assert_allclose(extrapolate(curves, finals, is_partial), [1.0, 2.0])


def test_the_last_step_counts_whatever_the_order_of_reports() -> None:
    curves = [{4: 0.5, 2: 0.1}, {4: 0.3, 2: 0.0}]
    np.testing.assert_allclose(extrapolate(curves, np.array([1.0, 0.3]), np.array([False, True])), [1.0, 0.8])


@pytest.mark.parametrize(
    "curves",
    [
        [{1: 0.5}, {0: 0.3}],  # no report at that step
        [{0: math.nan, 1: 0.5}, {0: 0.3}],
        [{0: math.inf, 1: 0.5}, {0: 0.3}],
        [{}, {0: 0.3}],
        [{}, {}],
    ],
)
def test_without_a_partner_a_pruned_trial_has_its_last_value(curves: list[dict[int, float]]) -> None:
    np.testing.assert_array_equal(extrapolate(curves, np.array([0.6, 0.3]), np.array([False, True])), [0.6, 0.3])


def test_pruned_trials_are_no_partners_and_neither_are_infinities() -> None:
    curves = [{0: 0.1, 1: 0.3}, {0: 0.2}, {0: 0.0}, {0: -5.0}]
    finals = np.array([0.3, 0.2, 0.5, -math.inf])
    is_partial = np.array([True, True, False, False])
    np.testing.assert_allclose(extrapolate(curves, finals, is_partial), [0.3, 0.7, 0.5, -math.inf])


@given(
    st.lists(st.tuples(st.dictionaries(st.integers(0, 2), st.floats(), max_size=3), FLOATS, st.booleans()), max_size=8)
)
def test_any_curves_will_do(trials: list[tuple[dict[int, float], float, bool]]) -> None:
    curves = [curve for curve, _, _ in trials]
    finals = np.array([final for _, final, _ in trials])
    is_partial = np.array([partial for _, _, partial in trials], dtype=bool)
    values = extrapolate(curves, finals, is_partial)
    assert not np.any(np.isnan(values))
    np.testing.assert_array_equal(values[~is_partial], finals[~is_partial])


# What comes first.


@given(arrays(np.float64, st.integers(1, 15), elements=st.integers(-5, 5).map(float)), st.sampled_from([-1.0, 1.0]))
def test_with_one_objective_the_order_is_that_of_the_values(column: np.ndarray, sign: float) -> None:
    values: list[tuple[float, ...] | None] = [None, *((v,) for v in column.tolist()), None]
    order = ranking(values, (sign,))
    assert order[0] == order[-1] == -np.inf
    np.testing.assert_array_equal(rankdata(np.round(order[1:-1], 9)), rankdata(sign * column))


@given(arrays(np.float64, st.tuples(st.integers(1, 10), st.integers(2, 3)), elements=st.integers(0, 4).map(float)))
def test_with_several_those_on_the_front_come_first(values: np.ndarray) -> None:
    signs = (1.0, -1.0, 1.0)[: values.shape[1]]
    signed = values * signs
    on_front = np.array([not any((q >= p).all() and (q > p).any() for q in signed) for p in signed])
    np.testing.assert_array_equal(pareto_front(signed), on_front)
    order = ranking([tuple(v) for v in values.tolist()], signs)
    assert np.all(np.isfinite(order))
    if not on_front.all():
        assert order[on_front].min() > order[~on_front].max()


def test_nothing_to_rank() -> None:
    assert ranking([], (1.0,)).shape == (0,)
    assert ranking([None, None], (1.0, -1.0)).tolist() == [-np.inf, -np.inf]


def test_optuna_agrees_on_the_front() -> None:
    is_pareto_front = pytest.importorskip("optuna.study._multi_objective")._is_pareto_front
    for seed in range(10):
        values = np.random.default_rng(seed).integers(0, 5, (30, 3)).astype(float)
        np.testing.assert_array_equal(pareto_front(values), is_pareto_front(-values, assume_unique_lexsorted=False))


# Many observations.


def test_few_are_all_kept() -> None:
    assert best_and_latest(np.array([3.0, 1.0, 2.0]), 3).tolist() == [0, 1, 2]


def test_the_best_half_and_the_latest_are_kept_in_order() -> None:
    targets = np.array([9.0, 0.0, 8.0, 1.0, 7.0, 2.0, 3.0, 4.0])
    assert best_and_latest(targets, 4).tolist() == [0, 2, 6, 7]
    assert best_and_latest(targets, 5).tolist() == [0, 2, 5, 6, 7]


@given(arrays(np.float64, st.integers(1, 40), elements=st.integers(0, 5).map(float)), st.integers(1, 40))
def test_as_many_as_asked_for_with_the_best(targets: np.ndarray, n: int) -> None:
    kept = best_and_latest(targets, n)
    assert len(kept) == len(set(kept.tolist())) == min(n, len(targets))
    assert kept.tolist() == sorted(kept.tolist())
    if n > 1:
        assert targets[kept].max() == targets.max()


@pytest.mark.parametrize("kind", [Standard, LogRegret])
@given(column=arrays(np.float64, st.integers(1, 30), elements=st.floats(-1e3, 1e3).map(lambda x: round(x, 6))))
def test_targets_are_turned_back_into_values(kind: type[Standard] | type[LogRegret], column: np.ndarray) -> None:
    scale = kind.of(column)
    inner = scale if isinstance(scale, Standard) else scale.inner
    if not inner.deviation:
        expected = np.full(len(column), column.mean())
    else:
        expected = np.clip(column, inner.low, inner.high)
        if isinstance(scale, LogRegret):  # The logarithms have a lower fence of their own.
            lowest = scale.values(np.array([scale.targets(column).min()]))[0]
            expected = np.maximum(expected, lowest)
    np.testing.assert_allclose(scale.values(scale.targets(column)), expected, atol=1e-6)


def test_beyond_the_values_known() -> None:
    column = np.array([0.5, 0.7, 0.8, 0.9])
    scale = LogRegret.of(column)
    best = scale.targets(column)[-1:]
    # The median is 0.75, so the end of the scale is 1.05.
    np.testing.assert_allclose(scale.values(best + np.array([0.0, 30.0, 1e3])), [0.9, 1.05, 1.05], atol=1e-3)
    assert np.all(np.diff(scale.values(best + np.linspace(0, 3, 20))) > 0)
