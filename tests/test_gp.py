from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad, minimize
from scipy.stats import multivariate_normal, norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from optuna_nas_morph import gp
from optuna_nas_morph.gp import (
    MINIMUM_NOISE,
    Hyperparameters,
    _Data,
    _Model,
    condition,
    fit,
    log_marginal_likelihood,
    log_prior,
)

NUMERIC = np.zeros(3, dtype=bool)
MIXED = np.array([False, False, True])
NO_Z = np.zeros(0, dtype=bool)


def random_grams(rng, n_levels, n):
    """Return positive semi-definite matrices with a unit diagonal."""
    features = rng.normal(size=(n_levels, n, 4))
    features /= np.linalg.norm(features, axis=2, keepdims=True)
    return features @ np.swapaxes(features, 1, 2)


def problem(seed, n, n_levels, is_categorical):
    """Return Gram matrices (None without levels), numeric parts and values of n points."""
    rng = np.random.default_rng(seed)
    z = rng.random((n, len(is_categorical)))
    z[:, is_categorical] = rng.integers(0, 3, (n, is_categorical.sum()))
    return random_grams(rng, n_levels, n) if n_levels else None, z, rng.normal(size=n)


def naive_covariance(h, grams, z1, z2, is_categorical):
    """The covariance of the notation table, one pair of points at a time."""
    covariance = np.zeros((len(z1), len(z2)))
    for i, j in itertools.product(range(len(z1)), range(len(z2))):
        r2 = sum(
            a * (float(x != y) if categorical else (x - y) ** 2)
            for a, x, y, categorical in zip(h.inverse_squared_lengthscales, z1[i], z2[j], is_categorical, strict=True)
        )
        u = np.sqrt(5 * r2)
        matern = (1 + u + u**2 / 3) * np.exp(-u)
        graph = sum(w * grams[level, i, j] for level, w in enumerate(h.level_weights))
        covariance[i, j] = graph * (1 - h.interaction + h.interaction * matern) + h.z_variance * matern
    return covariance


KINDS = {
    "both": (2, MIXED, Hyperparameters((0.7, 0.2), 0.3, 0.5, (2.0, 0.3, 0.8), 0.05)),
    "graphs": (3, NO_Z, Hyperparameters((0.7, 0.0, 0.4), 0.0, 0.0, (), 0.02)),
    "hyperparameters": (0, MIXED, Hyperparameters((), 0.0, 1.3, (5.0, 0.1, 1.0), 0.1)),
}


@pytest.fixture(params=list(KINDS))
def kind(request):
    return KINDS[request.param]


def split(grams, z, y, n):
    """Return the observations, and what prediction of the other points needs."""
    if grams is None:
        return (None, z[:n], y[:n]), (None, None, z[n:])
    return (grams[:, :n, :n], z[:n], y[:n]), (grams[:, n:, :n], grams[:, n:, n:], z[n:])


def test_prediction_is_the_textbook_formula(kind):
    n_levels, is_categorical, h = kind
    grams, z, y = problem(0, 14, n_levels, is_categorical)
    (train, z_train, y_train), (cross, among, z_new) = split(grams, z, y, 9)
    posterior = condition(train, z_train, is_categorical, y_train, h)
    noisy = naive_covariance(h, train, z_train, z_train, is_categorical) + h.noise * np.eye(9)
    k = naive_covariance(h, cross, z_new, z_train, is_categorical)
    prior = naive_covariance(h, among, z_new, z_new, is_categorical)
    expected_mean = k @ np.linalg.solve(noisy, y_train)
    expected_covariance = prior - k @ np.linalg.solve(noisy, k.T)
    mean, covariance = posterior.joint(cross, among, z_new)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-9)
    np.testing.assert_allclose(covariance, expected_covariance, atol=1e-10)
    mean, variance = posterior.predict(cross, z_new)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-9)
    np.testing.assert_allclose(variance, np.diagonal(expected_covariance), rtol=1e-9)
    sign, log_determinant = np.linalg.slogdet(noisy)
    expected = -0.5 * (y_train @ np.linalg.solve(noisy, y_train) + log_determinant + 9 * np.log(2 * np.pi))
    assert sign == 1
    assert posterior.log_marginal_likelihood == pytest.approx(expected, rel=1e-12)


def test_prior_diagonal_of_unnormalised_graphs():
    h = Hyperparameters((0.5, 2.0), 0.0, 0.0, (), 0.1)
    grams = random_grams(np.random.default_rng(0), 2, 4)
    posterior = condition(grams, np.zeros((4, 0)), NO_Z, np.ones(4), h)
    _, one = posterior.predict(grams[:, :1], np.zeros((1, 0)))
    _, more = posterior.predict(grams[:, :1], np.zeros((1, 0)), np.array([[3.0], [2.0]]))
    assert more[0] - one[0] == pytest.approx(0.5 * 2 + 2.0 * 1)


@pytest.mark.parametrize("n_levels", [0, 2])
def test_without_weight_on_graphs_it_is_scikit_learns_matern(n_levels):
    grams, z, y = problem(1, 25, n_levels, NUMERIC)
    (train, z_train, y_train), (cross, _, z_new) = split(grams, z, y, 15)
    h = Hyperparameters((0.0,) * n_levels, 0.4 if n_levels else 0.0, 1.7, (4.0, 0.25, 1.0), 0.03)
    posterior = condition(train, z_train, NUMERIC, y_train, h)
    kernel = ConstantKernel(1.7) * Matern(length_scale=[0.5, 2.0, 1.0], nu=2.5)
    oracle = GaussianProcessRegressor(kernel + WhiteKernel(0.03), alpha=0.0, optimizer=None).fit(z_train, y_train)
    mean, variance = posterior.predict(cross, z_new)
    expected_mean, expected_std = oracle.predict(z_new, return_std=True)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-9)
    np.testing.assert_allclose(variance + h.noise, expected_std**2, rtol=1e-9)
    assert posterior.log_marginal_likelihood == pytest.approx(oracle.log_marginal_likelihood(), rel=1e-10)


def test_likelihood_gradient_is_scikit_learns():
    _, z, y = problem(2, 20, 0, NUMERIC)
    model, data = _Model(0, 3, False), _Data.of(None, z, NUMERIC, y)
    theta = model.from_hyperparameters(Hyperparameters((), 0.0, 1.7, (4.0, 0.25, 1.0), 0.03))
    kernel = ConstantKernel(1.7) * Matern(length_scale=[0.5, 2.0, 1.0], nu=2.5) + WhiteKernel(0.03)
    oracle = GaussianProcessRegressor(kernel, alpha=0.0, optimizer=None).fit(z, y)
    expected, expected_gradient = oracle.log_marginal_likelihood(oracle.kernel_.theta, eval_gradient=True)
    value, gradient = log_marginal_likelihood(data, model, theta)
    assert value == pytest.approx(expected, rel=1e-10)
    expected_gradient[1:4] *= -0.5  # theirs is of log length-scales, ours of the logarithms of their inverse squares
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-7)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 3), st.integers(0, 3), st.booleans(), st.integers(1, 8), st.integers(0, 2), st.integers(0, 1000))
def test_gradients_are_finite_differences(n_levels, n_dims, deterministic, n, n_means, seed):
    assume(n_levels + n_dims > 0)
    is_categorical = MIXED[3 - n_dims :]
    grams, z, _ = problem(seed, n, n_levels, is_categorical)
    model, rng = _Model(n_levels, n_dims, deterministic), np.random.default_rng(seed)
    theta = model.default() + 0.5 * rng.normal(size=model.n_theta)
    # Values that the model expects: others have a likelihood too large to be differenced, near a singular covariance.
    prior = condition(grams, z, is_categorical, np.zeros(n), model.to_hyperparameters(theta))
    means = rng.normal(size=(n_means, n))
    data = _Data.of(grams, z, is_categorical, prior.cholesky @ rng.normal(size=n) + means.sum(axis=0), means)
    for function in (
        lambda t: log_prior(model, t),
        lambda t: log_marginal_likelihood(data, model, t),
    ):
        analytic = function(theta)[1]
        step = 1e-4
        numeric = [
            (function(theta + step * e)[0] - function(theta - step * e)[0]) / (2 * step) for e in np.eye(len(theta))
        ]
        np.testing.assert_allclose(analytic, numeric, rtol=1e-5, atol=1e-5 * (1 + np.abs(analytic).max()))


def test_gradient_by_scipy():
    grams, z, y = problem(3, 12, 2, MIXED)
    model, data = _Model(2, 3, False), _Data.of(grams, z, MIXED, y)
    theta = model.default()
    scale = np.linalg.norm(log_marginal_likelihood(data, model, theta)[1])
    error = check_grad(
        lambda t: log_marginal_likelihood(data, model, t)[0],
        lambda t: log_marginal_likelihood(data, model, t)[1],
        theta,
    )
    assert error < 1e-5 * scale


# Functions that the values follow.


def test_scales_maximise_likelihood_times_prior(kind):
    n_levels, is_categorical, h = kind
    grams, z, y = problem(31, 15, n_levels, is_categorical)
    means = np.random.default_rng(31).normal(size=(2, 15))
    y = y + 0.9 * means[0] - 0.4 * means[1]
    covariance = (
        naive_covariance(h, np.zeros((0, 15, 15)) if grams is None else grams, z, z, is_categorical)
    ) + h.noise * np.eye(15)

    def loss(scales):
        log_prior_of_scales = norm(0.5, 0.5).logpdf(scales).sum()
        return -multivariate_normal(np.zeros(15), covariance).logpdf(y - scales @ means) - log_prior_of_scales

    expected = minimize(loss, [0.5, 0.5], bounds=[(0, None)] * 2, options={"ftol": 1e-15, "gtol": 1e-10})
    posterior = condition(grams, z, is_categorical, y, h, means)
    np.testing.assert_allclose(posterior.scales, expected.x, atol=1e-6)
    model = _Model(n_levels, len(is_categorical), False)
    data = _Data.of(grams, z, is_categorical, y, means)
    h = replace(h, level_weights=tuple(max(w, 1e-3) for w in h.level_weights))
    value, _ = log_marginal_likelihood(data, model, model.from_hyperparameters(h))
    scales = condition(grams, z, is_categorical, y, h, means).scales
    plain, _ = log_marginal_likelihood(
        _Data.of(grams, z, is_categorical, y - scales @ means), model, model.from_hyperparameters(h)
    )
    assert value == pytest.approx(plain - 2 * np.sum((scales - 0.5) ** 2))


def test_with_means_it_is_scikit_learns_process_about_what_they_leave_over():
    _, z, y = problem(32, 20, 0, NUMERIC)
    means = np.random.default_rng(32).normal(size=(1, 20))
    y = y + 0.7 * means[0]
    posterior = condition(
        None, z[:14], NUMERIC, y[:14], Hyperparameters((), 0.0, 1.7, (4.0, 0.25, 1.0), 0.03), means[:, :14]
    )
    (scale,) = posterior.scales
    assert scale > 0.3
    kernel = ConstantKernel(1.7) * Matern(length_scale=[0.5, 2.0, 1.0], nu=2.5) + WhiteKernel(0.03)
    oracle = GaussianProcessRegressor(kernel, alpha=0.0, optimizer=None).fit(z[:14], (y - scale * means[0])[:14])
    expected, deviation = oracle.predict(z[14:], return_std=True)
    mean, variance = posterior.predict(None, z[14:])
    np.testing.assert_allclose(mean, expected, rtol=1e-9)
    np.testing.assert_allclose(variance, deviation**2 - 0.03, rtol=1e-7)


@pytest.mark.parametrize(("slope", "low", "high"), [(1.0, 0.6, 1.2), (0.0, 0.0, 0.3), (-1.0, 0.0, 0.0)])
def test_scales_follow_the_evidence(slope, low, high):
    rng = np.random.default_rng(33)
    z, mean = rng.random((120, 1)), rng.normal(size=120)
    y = slope * mean + 0.3 * rng.normal(size=120)
    posterior = fit(None, z, np.array([False]), (y - y.mean()) / y.std(), rng=rng, means=mean[None] - mean.mean())
    assert low <= posterior.scales[0] <= high
    # Beyond what was observed, and with a fantasy, they stay.
    assert posterior.fantasize(None, None, z[:1]).scales is posterior.scales


def test_layout_round_trips(kind):
    n_levels, is_categorical, h = kind
    h = replace(h, level_weights=tuple(max(w, 0.01) for w in h.level_weights))
    model = _Model(n_levels, len(is_categorical), False)
    back = model.to_hyperparameters(model.from_hyperparameters(h))
    for field in ("level_weights", "interaction", "z_variance", "inverse_squared_lengthscales", "noise"):
        assert getattr(back, field) == pytest.approx(getattr(h, field))


def test_fit_finds_the_level_that_matters():
    rng = np.random.default_rng(4)
    grams = random_grams(rng, 3, 60)
    y = rng.multivariate_normal(np.zeros(60), grams[1] + 0.01 * np.eye(60))
    posterior = fit(grams, np.zeros((60, 0)), NO_Z, (y - y.mean()) / y.std(), rng=rng)
    w = posterior.hyperparameters.level_weights
    assert w[1] > 10 * max(w[0], w[2])


def test_fit_finds_the_dimension_that_matters():
    rng = np.random.default_rng(5)
    z = rng.random((50, 3))
    z[:, 2] = rng.integers(0, 3, 50)
    for relevant in range(3):
        y = np.sin(6 * z[:, relevant]) + 0.05 * rng.normal(size=50)
        posterior = fit(None, z, MIXED, (y - y.mean()) / y.std(), rng=rng)
        scales = np.array(posterior.hyperparameters.inverse_squared_lengthscales)
        assert scales.argmax() == relevant
        assert scales[relevant] > 5 * np.delete(scales, relevant).max()
        assert posterior.hyperparameters.noise < 0.1


@pytest.mark.parametrize("interaction", [False, True])
def test_fit_finds_whether_hyperparameters_act_on_architectures(interaction):
    rng = np.random.default_rng(6)
    group, z = rng.integers(0, 4, 80), rng.random((80, 1))
    grams = (group[:, None] == group[None, :]).astype(float)[None]
    phase = 1.5 * group if interaction else 0.0
    y = np.sin(4 * z[:, 0] + phase) + (0.0 if interaction else 0.8 * group) + 0.02 * rng.normal(size=80)
    h = fit(grams, z, np.array([False]), (y - y.mean()) / y.std(), rng=rng).hyperparameters
    assert (h.interaction > 0.5) == interaction
    if not interaction:
        assert h.z_variance > h.level_weights[0] * h.interaction


def test_fit_maximises_and_predicts(kind):
    n_levels, is_categorical, h = kind
    rng = np.random.default_rng(7)
    grams, z, _ = problem(8, 60, n_levels, is_categorical)
    covariance = naive_covariance(h, grams, z, z, is_categorical)
    latent = rng.multivariate_normal(np.zeros(60), covariance)
    y = latent + np.sqrt(h.noise) * rng.normal(size=60)
    (train, z_train, y_train), (cross, _, z_new) = split(grams, z, y, 40)
    posterior = fit(train, z_train, is_categorical, y_train, rng=rng)
    truth = condition(train, z_train, is_categorical, y_train, h)
    assert posterior.log_marginal_likelihood > truth.log_marginal_likelihood - 3
    mean, variance = posterior.predict(cross, z_new)
    best_mean, _ = truth.predict(cross, z_new)
    assert np.mean((mean - latent[40:]) ** 2) < 1.5 * np.mean((best_mean - latent[40:]) ** 2)
    assert np.mean((mean - latent[40:]) ** 2 / variance) < 4


def test_warm_start_stays_at_the_optimum():
    grams, z, y = problem(9, 30, 2, MIXED)
    cold = fit(grams, z, MIXED, y, rng=np.random.default_rng(0), n_restarts=3)
    warm = fit(grams, z, MIXED, y, rng=np.random.default_rng(0), start=cold.hyperparameters, n_restarts=0)
    model = _Model(2, 3, False)

    def objective(posterior):
        prior, _ = log_prior(model, model.from_hyperparameters(posterior.hyperparameters))
        return posterior.log_marginal_likelihood + prior

    assert objective(warm) == pytest.approx(objective(cold), abs=1e-2)
    fresh = fit(grams, z, MIXED, y, rng=np.random.default_rng(0), n_restarts=0)
    assert objective(cold) >= objective(fresh) - 1e-6


def test_same_generator_same_fit():
    grams, z, y = problem(10, 15, 2, MIXED)
    first, second = (fit(grams, z, MIXED, y, rng=np.random.default_rng(3)).hyperparameters for _ in range(2))
    assert first == second


def test_deterministic_values_are_interpolated():
    _, z, _ = problem(11, 20, 0, NUMERIC)
    y = np.sin(3 * z[:, 0]) + z[:, 1]
    y = (y - y.mean()) / y.std()
    posterior = fit(None, z, NUMERIC, y, rng=np.random.default_rng(0), deterministic=True)
    assert posterior.hyperparameters.noise == MINIMUM_NOISE
    mean, variance = posterior.predict(None, z)
    np.testing.assert_allclose(mean, y, atol=1e-3)
    assert np.all(variance < 1e-5)


def test_fantasy_equals_conditioning_on_all(kind):
    n_levels, is_categorical, h = kind
    grams, z, y = problem(12, 15, n_levels, is_categorical)
    (train, z_train, y_train), (cross, among, z_new) = split(grams, z, y, 10)
    posterior = condition(train, z_train, is_categorical, y_train, h)
    extended = posterior.fantasize(cross, among, z_new, values=y[10:])
    expected = condition(grams, z, is_categorical, y, h)
    np.testing.assert_allclose(extended.cholesky, expected.cholesky, atol=1e-8)
    np.testing.assert_allclose(extended.alpha, expected.alpha, rtol=1e-6)
    assert extended.log_marginal_likelihood == pytest.approx(expected.log_marginal_likelihood)


def test_believer_keeps_the_mean_and_lowers_the_variance(kind):
    n_levels, is_categorical, h = kind
    grams, z, y = problem(13, 15, n_levels, is_categorical)
    (train, z_train, y_train), (cross, among, z_new) = split(grams, z, y, 10)
    posterior = condition(train, z_train, is_categorical, y_train, h)
    believer = posterior.fantasize(cross, among, z_new)
    cross_of_all = None if grams is None else grams[:, 10:, :]
    mean, variance = posterior.predict(cross, z_new)
    believed_mean, believed_variance = believer.predict(cross_of_all, z_new)
    np.testing.assert_allclose(believed_mean, mean, atol=1e-8)
    assert np.all(believed_variance < variance)


# Many observations.


def many(kind, n):
    """Return n observations of a function that the kernel can have."""
    n_levels, is_categorical, h = kind
    grams, z, _ = problem(21, n, n_levels, is_categorical)
    rng = np.random.default_rng(22)
    y = condition(grams, z, is_categorical, np.zeros(n), h).cholesky @ rng.normal(size=n)
    return grams, z, is_categorical, (y - y.mean()) / y.std()


def test_fit_from_coarse_to_fine_is_about_as_good_as_at_once(kind, monkeypatch):
    observations = many(kind, 120)
    at_once = fit(*observations, rng=np.random.default_rng(0))
    monkeypatch.setattr(gp, "MANY", 40)
    coarse_to_fine = fit(*observations, rng=np.random.default_rng(0))
    assert len(coarse_to_fine.y) == 120
    np.testing.assert_array_equal(coarse_to_fine.y, observations[-1])
    assert coarse_to_fine.log_marginal_likelihood > at_once.log_marginal_likelihood - 1


def test_fit_from_coarse_to_fine_costs_one_start_on_all(kind, monkeypatch):
    n_started: list[int] = []

    def spy(loss, x0, **rest):
        n_started.append(len(loss.__closure__[0].cell_contents.y))
        return minimize(loss, x0, **rest)

    minimize = gp.minimize
    monkeypatch.setattr(gp, "minimize", spy)
    monkeypatch.setattr(gp, "MANY", 20)
    fit(*many(kind, 21), rng=np.random.default_rng(0), n_restarts=2)
    assert n_started == [20, 20, 20, 21]
    n_started.clear()
    fit(*many(kind, 20), rng=np.random.default_rng(0), n_restarts=2)
    assert n_started == [20, 20, 20]


def test_same_generator_same_fit_to_many(kind, monkeypatch):
    monkeypatch.setattr(gp, "MANY", 15)
    observations = many(kind, 40)
    first, second = (fit(*observations, rng=np.random.default_rng(3)).hyperparameters for _ in range(2))
    assert first == second


def test_as_many_as_are_many():
    rng = np.random.default_rng(0)
    z = rng.random((gp.MANY + 20, 2))
    y = np.sin(5 * z[:, 0]) + 0.1 * rng.normal(size=len(z))
    posterior = fit(None, z, NUMERIC[:2], (y - y.mean()) / y.std(), rng=rng)
    assert len(posterior.y) == gp.MANY + 20
    assert posterior.hyperparameters.noise < 0.05
    scales = posterior.hyperparameters.inverse_squared_lengthscales
    assert scales[0] > 5 * scales[1]


# Fantasies with a noise of their own.


def test_fantasies_without_noise_are_interpolated(kind):
    n_levels, is_categorical, h = kind
    grams, z, y = problem(12, 15, n_levels, is_categorical)
    (train, z_train, y_train), (cross, among, z_new) = split(grams, z, y, 10)
    posterior = condition(train, z_train, is_categorical, y_train, h)
    cross_of_all = None if grams is None else grams[:, 10:, :]
    exact = posterior.fantasize(cross, among, z_new, y[10:], noise=1e-8)
    mean, variance = exact.predict(cross_of_all, z_new)
    np.testing.assert_allclose(mean, y[10:], atol=1e-4)
    assert np.all(variance < 1e-6)
    # Observations keep theirs: the textbook formula with two noises.
    noises = np.append(np.full(10, h.noise), np.full(5, 0.3))
    extended = posterior.fantasize(cross, among, z_new, y[10:], noise=0.3)
    k = naive_covariance(h, grams, z, z, is_categorical)
    mean, variance = extended.predict(grams, z)
    np.testing.assert_allclose(mean, k @ np.linalg.solve(k + np.diag(noises), y), atol=1e-9)
    np.testing.assert_allclose(variance, np.diagonal(k - k @ np.linalg.solve(k + np.diag(noises), k)), atol=1e-9)
    same = posterior.fantasize(cross, among, z_new, y[10:], noise=h.noise)
    np.testing.assert_array_equal(same.alpha, posterior.fantasize(cross, among, z_new, y[10:]).alpha)


def test_no_pending_point():
    grams, z, y = problem(14, 6, 2, MIXED)
    posterior = fit(grams, z, MIXED, y, rng=np.random.default_rng(0))
    same = posterior.fantasize(np.empty((2, 0, 6)), np.empty((2, 0, 0)), np.empty((0, 3)))
    np.testing.assert_array_equal(same.alpha, posterior.alpha)
    mean, variance = posterior.predict(np.empty((2, 0, 6)), np.empty((0, 3)))
    assert mean.shape == variance.shape == (0,)
    samples = posterior.sample(np.empty((2, 0, 6)), np.empty((2, 0, 0)), np.empty((0, 3)), np.random.default_rng(0))
    assert samples.shape == (1, 0)


def test_samples_have_the_posteriors_moments():
    grams, z, y = problem(15, 12, 2, MIXED)
    (train, z_train, y_train), (cross, among, z_new) = split(grams, z, y, 9)
    posterior = condition(train, z_train, MIXED, y_train, KINDS["both"][2])
    samples = posterior.sample(cross, among, z_new, np.random.default_rng(0), 20_000)
    mean, covariance = posterior.joint(cross, among, z_new)
    np.testing.assert_allclose(samples.mean(axis=0), mean, atol=0.05)
    np.testing.assert_allclose(np.cov(samples.T), covariance, atol=0.05)
    again = posterior.sample(cross[:, [0, 0]], among[:, [0, 0]][:, :, [0, 0]], z_new[[0, 0]], np.random.default_rng(0))
    assert again[0, 0] == pytest.approx(again[0, 1], abs=1e-3)  # one point twice: a singular covariance


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize(
    "y",
    [
        np.array([0.3]),
        np.zeros(10),
        np.full(10, 2.0),
        np.linspace(0, 1e-12, 10),
        np.array([0.0] * 9 + [3.0]),
        np.linspace(-1e3, 1e3, 10),
    ],
    ids=["one", "zeros", "constant", "almost constant", "outlier", "not standardised"],
)
@pytest.mark.parametrize("duplicated", [False, True])
def test_awkward_values(kind, y, deterministic, duplicated):
    n_levels, is_categorical, _ = kind
    n = len(y)
    grams, z, _ = problem(16, n, n_levels, is_categorical)
    if duplicated:
        grams, z = None if grams is None else np.ones((n_levels, n, n)), np.tile(z[:1], (n, 1))
    posterior = fit(grams, z, is_categorical, y, rng=np.random.default_rng(0), deterministic=deterministic)
    mean, variance = posterior.predict(grams, z)
    assert len(posterior.y) == n
    assert np.all(np.isfinite(mean))
    assert np.all(variance > 0)
    assert np.isfinite(posterior.log_marginal_likelihood)


def test_no_observation():
    with pytest.raises(ValueError, match="y must hold at least one observation but is empty"):
        fit(None, np.zeros((0, 3)), NUMERIC, np.zeros(0), rng=np.random.default_rng(0))


def test_kernel_that_is_no_kernel():
    indefinite = np.array([[[1.0, 5.0], [5.0, 1.0]]])
    with pytest.raises(np.linalg.LinAlgError, match=r"2 points is not positive definite, even with 0\.01"):
        fit(indefinite, np.zeros((2, 0)), NO_Z, np.array([-1.0, 1.0]), rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grams": np.ones((2, 4, 5))}, r"grams must have shape \(2, 5, 5\) but got \(2, 4, 5\)"),
        ({"z": np.zeros((4, 3))}, r"z must have shape \(5, 3\) but got \(4, 3\)"),
        ({"y": np.zeros((5, 1))}, r"y must have shape \(5,\) but got \(5, 1\)"),
        ({"y": np.array([0, 0, 0, 0, np.nan])}, "y must be finite but holds NaN or infinity"),
        ({"z": np.full((5, 3), np.inf)}, "z must be finite but holds NaN or infinity"),
        ({"means": np.zeros((1, 4))}, r"means must have shape \(1, 5\) but got \(1, 4\)"),
        ({"means": np.full((1, 5), np.nan)}, "means must be finite but holds NaN or infinity"),
        ({"grams": None, "z": np.zeros((5, 0)), "is_categorical": NO_Z}, "Either grams or z must describe"),
        ({"n_restarts": -1}, "n_restarts must be non-negative but got -1"),
        ({"start": KINDS["graphs"][2]}, "must be for 2 levels and 3 dimensions but got 3 and 0"),
    ],
)
def test_wrong_arguments(changes, message):
    grams, z, y = problem(17, 5, 2, MIXED)
    arguments = {"grams": grams, "z": z, "is_categorical": MIXED, "y": y, "rng": np.random.default_rng(0)} | changes
    with pytest.raises(ValueError, match=message):
        fit(**arguments)


def test_wrong_arguments_of_predictions():
    grams, z, y = problem(18, 5, 2, MIXED)
    posterior = fit(grams, z, MIXED, y, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"grams must have shape \(2, 5, 5\) but got \(0, 5, 5\)"):
        posterior.predict(None, z)
    with pytest.raises(ValueError, match=r"z must have shape \(5, 3\) but got \(5, 2\)"):
        posterior.predict(grams, z[:, :2])
    with pytest.raises(ValueError, match=r"prior_diagonal must have shape \(2, 5\) but got \(5,\)"):
        posterior.predict(grams, z, np.ones(5))
    with pytest.raises(ValueError, match=r"values must have shape \(5,\) but got \(4,\)"):
        posterior.fantasize(grams, grams, z, np.zeros(4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise": -0.1}, "must be finite and non-negative but got"),
        ({"level_weights": (float("nan"),)}, "must be finite and non-negative but got"),
        ({"interaction": 1.1}, "interaction must be between 0 and 1 but got 1.1"),
    ],
)
def test_hyperparameters_out_of_range(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(KINDS["both"][2], **changes)
