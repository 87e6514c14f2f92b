from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from optuna_nas_morph.acquisition import log_probability_of_feasibility


@given(st.floats(-50, 50), st.floats(1e-6, 100), st.floats(-50, 50))
def test_against_scipy(mean: float, variance: float, border: float) -> None:
    value = log_probability_of_feasibility(np.array([mean]), np.array([variance]), border)[0]
    assert value == pytest.approx(norm(mean, np.sqrt(variance)).logsf(border), rel=1e-9, abs=1e-300)


def test_against_counting() -> None:
    draws = 0.3 + 2.0 * np.random.default_rng(0).standard_normal(100_000)
    value = log_probability_of_feasibility(np.array([0.3]), np.array([4.0]), 1.0)[0]
    assert np.exp(value) == pytest.approx(np.mean(draws >= 1.0), abs=0.01)


def test_at_the_border_it_is_a_half_and_without_variance_all_or_nothing() -> None:
    at, above, below = log_probability_of_feasibility(np.array([1.0, 1.1, 0.9]), np.array([4.0, 0.0, 0.0]), 1.0)
    assert at == pytest.approx(np.log(0.5))
    assert above == pytest.approx(0.0, abs=1e-12)
    assert np.isfinite(below) and below < -1e6


def test_hopeless_candidates_are_ranked() -> None:
    values = log_probability_of_feasibility(np.array([-1e100, -1e6, -300.0, -40.0, 0.0]), np.ones(5), 1.0)
    assert np.all(np.isfinite(values))
    assert np.all(np.diff(values) > 0)


def test_negative_variance_is_refused() -> None:
    with pytest.raises(ValueError, match=r"variance must be non-negative but got -1\.0"):
        log_probability_of_feasibility(np.array([0.0]), np.array([-1.0]), 0.0)
