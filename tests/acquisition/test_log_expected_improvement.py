from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from optuna_nas_morph.acquisition import LogExpectedImprovement
from optuna_nas_morph.acquisition.log_expected_improvement import log_h
from tests.acquisition.contract import AcquisitionContract


def exact_log_h(z: float) -> float:
    """By quadrature of ``h(z) / phi(z)``, the integral of ``t exp(z t - t^2 / 2)`` over ``t > 0``: it cannot underflow.

    In the tail ``u = -z t`` brings it to the scale 1.
    """
    if z > -1:
        integral, _ = quad(lambda t: t * np.exp(z * t - 0.5 * t**2), 0, abs(z) + 40, points=[abs(z)], epsrel=1e-13)
    else:
        scaled, _ = quad(lambda u: u * np.exp(-u - 0.5 * (u / z) ** 2), 0, np.inf, epsabs=0, epsrel=1e-13)
        integral = scaled / z**2
    return -0.5 * z**2 - 0.5 * np.log(2 * np.pi) + np.log(integral)


class TestLogExpectedImprovement(AcquisitionContract):
    acquisition = LogExpectedImprovement()

    @pytest.mark.parametrize(("mean", "variance", "best"), [(0.3, 0.5, 0.0), (-1.0, 2.0, 1.5), (2.0, 0.1, 1.0)])
    def test_against_quadrature(self, mean, variance, best):
        density = norm(mean, np.sqrt(variance)).pdf
        expected, _ = quad(lambda y: (y - best) * density(y), best, mean + 40 * np.sqrt(variance), epsabs=1e-14)
        value = LogExpectedImprovement()(np.array([mean]), np.array([variance]), best)[0]
        assert value == pytest.approx(np.log(expected), rel=1e-8)

    @pytest.mark.parametrize(
        "z", [30.0, 5.0, 1.0, 0.0, -0.5, -0.999, -1.0, -1.001, -3.0, -10.0, -40.0, -199.0, -201.0, -1e4]
    )
    def test_against_scaled_quadrature(self, z):
        assert log_h(np.array([z]))[0] == pytest.approx(exact_log_h(z), rel=1e-11, abs=1e-11)

    @pytest.mark.parametrize("border", [-1.0, -200.0])
    def test_cases_meet(self, border):
        left, right = log_h(np.array([np.nextafter(border, -np.inf), np.nextafter(border, np.inf)]))
        assert left == pytest.approx(right, rel=1e-14, abs=1e-11)

    def test_ranks_where_expected_improvement_underflows(self):
        z = np.array([-1e12, -1e6, -300.0, -199.0, -41.0, -40.0])
        assert np.all(np.diff(log_h(z)) > 0)
        assert np.all(np.isfinite(log_h(z)))
