"""From objective values to targets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from optuna_nas_morph.targets import best_and_latest, chebyshev, standardise

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
