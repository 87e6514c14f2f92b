"""What holds for every acquisition function."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from optuna_nas_morph.acquisition import Acquisition

means = st.floats(-1e3, 1e3)
variances = st.just(0.0) | st.floats(1e-12, 1e3)


# Subclasses inherit the tests on purpose: each is a test of its own.
inherited = settings(deadline=None, suppress_health_check=[HealthCheck.differing_executors])


class AcquisitionContract:
    """Subclass, and set ``acquisition``."""

    acquisition: Acquisition

    @inherited
    @given(arrays(np.float64, 5, elements=means), arrays(np.float64, 5, elements=variances), means)
    def test_finite_vectorised_and_deterministic(self, mean, variance, best):
        values = self.acquisition(mean, variance, best)
        assert values.shape == (5,)
        assert np.all(np.isfinite(values))
        one_by_one = [self.acquisition(mean[i : i + 1], variance[i : i + 1], best)[0] for i in range(5)]
        np.testing.assert_array_equal(values, one_by_one)
        np.testing.assert_array_equal(values, self.acquisition(mean, variance, best))

    @inherited
    @given(st.floats(-50, 50), st.floats(1e-3, 50), st.floats(1e-3, 10), st.floats(-50, 50))
    def test_increasing_in_mean(self, mean, step, variance, best):
        low, high = self.acquisition(np.array([mean, mean + step]), np.array([variance, variance]), best)
        assert low < high

    @inherited
    @given(st.floats(-50, 50), st.floats(1e-9, 50), st.floats(0, 10), st.floats(0, 10))
    def test_non_decreasing_in_variance_below_the_best(self, mean, gap, variance, more):
        low, high = self.acquisition(np.array([mean, mean]), np.array([variance, variance + more]), mean + gap)
        assert low <= high + 1e-9 * abs(high)

    def test_arguments_are_not_changed(self):
        mean, variance = np.array([0.0, 1.0]), np.array([0.0, 2.0])
        self.acquisition(mean, variance, 0.5)
        np.testing.assert_array_equal(mean, [0.0, 1.0])
        np.testing.assert_array_equal(variance, [0.0, 2.0])

    def test_negative_variance_is_refused(self):
        with pytest.raises(ValueError, match=r"variance must be non-negative but got -1\.0"):
            self.acquisition(np.array([0.0]), np.array([-1.0]), 0.0)
