"""Exact Gaussian process regression on architectures and hyperparameters.

Notation:

n, m: Number of observations and of new points.
L, d: Number of levels of the graph kernel and of numeric dimensions. Either may be 0.
g, z: A point's graph, seen only through Gram matrices, and its numeric part in ``[0, 1]^d``.
grams: Similarities of the observed graphs to each other, one matrix with a unit diagonal per level: (L, n, n).
cross_grams: Similarities of new graphs (rows) to the observed ones (columns): (L, m, n).
y: Observed values, to be maximised, with mean 0 and variance 1: (n,).
w, rho, s, a, noise: The hyperparameters, see `Hyperparameters`.
p, means: Number of functions that ``y`` is thought to follow, such as what is known from another task, and their
    values at the observations: (p, n).
beta: Their scales, non-negative: (p,). The Gaussian process is about ``y - beta means``.
r2: Squared distance ``sum_j a_j (z_j - z'_j)^2``. A categorical dimension counts 1 where the values differ, else 0.
matern: ``M(z, z') = (1 + u + u^2 / 3) exp(-u)`` with ``u = sqrt(5 r2)`` (RW 4.17): 1 where ``z = z'``.
k: The covariance of the function at two points,
    ``k((g, z), (g', z')) = sum_l w_l G_l(g, g') (1 - rho + rho M(z, z')) + s M(z, z')``.
    So an architecture has an effect of its own (``1 - rho``), one that depends on the hyperparameters (``rho``), and
    hyperparameters have an effect of their own (``s``). Sums and products of kernels are kernels (RW 4.2.4). Without
    graphs it is ``s M``, without hyperparameters ``sum_l w_l G_l``.
C: Covariance of the observations, ``k + noise I``: (n, n). ``C = chol chol^T``.
alpha: ``C^-1 (y - beta means)``: (n,).
pairs: The n (n + 1) / 2 entries of a lower triangle, row by row. C is symmetric, so half of it is computed.

RW is Rasmussen and Williams, Gaussian Processes for Machine Learning, MIT Press 2006. One non-negative weight per
level, found by marginal likelihood, takes the place of the number of iterations in NAS-BOWL (Ru et al., ICLR 2021).

A hyperparameter that is not always active is given as two dimensions: a categorical one that says whether it is active,
and its value, or 0.5 where it is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack, solve_triangular
from scipy.optimize import minimize, nnls

Floats = NDArray[np.float64]

MINIMUM_NOISE = 1e-6
MINIMUM_VARIANCE = 1e-12
MANY = 100
"""Observations from which on a fit starts from one to a part of them."""

_N_STEPS = 200
_N_FINE_STEPS = 10
_JITTERS = (0.0, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2)  # relative to the mean variance
_LARGEST_LOG = 9.0  # hyperparameters stay between exp(-9) and exp(9), rho's odds too
_SMALLEST_LOG_NOISE = float(np.log(MINIMUM_NOISE))
_SCALE_MEAN, _SCALE_DEVIATION = 0.5, 0.5  # of the prior of beta, a normal distribution cut off below 0


@dataclass(frozen=True)
class Hyperparameters:
    """What is learned about the covariance. Plain numbers: comparable, and a start for the next fit.

    Args:
        level_weights:
            ``w``, the variance that each level of the graph kernel explains.
        interaction:
            ``rho``, the share of it that depends on ``z``, between 0 and 1. 0 if there are no graphs or no ``z``.
        z_variance:
            ``s``, the variance that ``z`` explains whatever the graph. 0 if there is no ``z``.
        inverse_squared_lengthscales:
            ``a``, how fast the function varies along each dimension of ``z``.
        noise:
            Variance of the noise of observations.

    Raises:
        ValueError: If a value is out of range.
    """

    level_weights: tuple[float, ...]  # (L,)
    interaction: float
    z_variance: float
    inverse_squared_lengthscales: tuple[float, ...]  # (d,)
    noise: float

    def __post_init__(self) -> None:
        values = (*self.level_weights, self.z_variance, *self.inverse_squared_lengthscales, self.noise)
        if not all(np.isfinite(value) and value >= 0 for value in values):
            raise ValueError(f"Hyperparameters must be finite and non-negative but got {self}.")
        if not 0 <= self.interaction <= 1:
            raise ValueError(f"interaction must be between 0 and 1 but got {self.interaction}.")


@dataclass(frozen=True, eq=False)
class Posterior:
    """The function given the observations, for fixed hyperparameters. Made by `fit` or `condition`.

    ``cross_grams`` and ``grams`` below are None where there are no graphs. ``z`` has shape ``(m, 0)`` where there are
    no hyperparameters. Where ``means`` were given, the function is what they leave over: ``scales @ means`` at the new
    points is the caller's to add.
    """

    hyperparameters: Hyperparameters
    z: Floats  # (n, d)
    is_categorical: NDArray[np.bool_]  # (d,)
    y: Floats  # (n,), less what follows the means
    cholesky: Floats  # (n, n), lower
    alpha: Floats  # (n,)
    log_marginal_likelihood: float
    scales: Floats  # (p,), beta

    def predict(
        self,
        cross_grams: Floats | None,  # (L, m, n)
        z: Floats,  # (m, d)
        prior_diagonal: Floats | None = None,  # (L, m)
    ) -> tuple[Floats, Floats]:  # (m,), (m,)
        """Return the mean and the variance of the function (without noise) at new points, RW (2.25) and (2.26).

        Args:
            cross_grams:
                Similarities of the new graphs to the observed ones.
            z:
                Numeric part of the new points.
            prior_diagonal:
                Similarities of the new graphs to themselves, 1 by default.

        Raises:
            ValueError: If a shape does not fit.
        """
        cross = self._cross(cross_grams, z)
        weights = np.array(self.hyperparameters.level_weights)
        diagonal = np.ones((len(weights), len(z))) if prior_diagonal is None else prior_diagonal
        _check_shape("prior_diagonal", diagonal, (len(weights), len(z)))
        half = solve_triangular(self.cholesky, cross.T, lower=True, check_finite=False)
        variance = weights @ diagonal + self.hyperparameters.z_variance - np.einsum("nm,nm->m", half, half)
        return cross @ self.alpha, np.maximum(variance, MINIMUM_VARIANCE)

    def joint(
        self,
        cross_grams: Floats | None,  # (L, m, n)
        grams: Floats | None,  # (L, m, m)
        z: Floats,  # (m, d)
    ) -> tuple[Floats, Floats]:  # (m,), (m, m)
        """Return the mean and the covariance of the function at new points, RW (2.23) and (2.24) with noise.

        Args:
            cross_grams:
                Similarities of the new graphs to the observed ones.
            grams:
                Similarities of the new graphs to each other.
            z:
                Numeric part of the new points.

        Raises:
            ValueError: If a shape does not fit.
        """
        cross = self._cross(cross_grams, z)
        half = solve_triangular(self.cholesky, cross.T, lower=True, check_finite=False)
        return cross @ self.alpha, self._prior(grams, z, z) - half.T @ half

    def sample(
        self,
        cross_grams: Floats | None,  # (L, m, n)
        grams: Floats | None,  # (L, m, m)
        z: Floats,  # (m, d)
        rng: np.random.Generator,
        n_samples: int = 1,
    ) -> Floats:  # (n_samples, m)
        """Draw the function at new points jointly, as Thompson sampling needs. For arguments see `joint`."""
        mean, covariance = self.joint(cross_grams, grams, z)
        np.fill_diagonal(covariance, np.maximum(np.diagonal(covariance), MINIMUM_VARIANCE))
        standard = rng.standard_normal((n_samples, len(mean)))
        samples: Floats = mean + standard @ _cholesky(covariance).T
        return samples

    def fantasize(
        self,
        cross_grams: Floats | None,  # (L, m, n)
        grams: Floats | None,  # (L, m, m)
        z: Floats,  # (m, d)
        values: Floats | None = None,  # (m,)
        noise: float | None = None,
    ) -> Posterior:
        """Return the posterior that would hold if pending points were observed as well. Hyperparameters stay.

        The columns of later ``cross_grams`` are the observed graphs, then the pending ones.

        Args:
            cross_grams:
                Similarities of the pending graphs to the observed ones.
            grams:
                Similarities of the pending graphs to each other.
            z:
                Numeric part of the pending points.
            values:
                Their values; by default the posterior mean (the Kriging believer of Ginsbourger, Le Riche and Carraro,
                Kriging is Well-Suited to Parallelize Optimization, 2010).
            noise:
                Variance of their noise; by default that of all observations.

        Raises:
            ValueError: If a shape does not fit.
        """
        mean, covariance = self.joint(cross_grams, grams, z)
        values = mean if values is None else values
        _check_shape("values", values, (len(z),))
        n, m = len(self.y), len(z)
        cholesky = np.zeros((n + m, n + m))
        cholesky[:n, :n] = self.cholesky
        cholesky[n:, :n] = solve_triangular(self.cholesky, self._cross(cross_grams, z).T, lower=True).T
        cholesky[n:, n:] = _cholesky(covariance + (self.hyperparameters.noise if noise is None else noise) * np.eye(m))
        return _posterior(
            self.hyperparameters,
            np.concatenate([self.z, z]),
            self.is_categorical,
            np.concatenate([self.y, values]),
            cholesky,
            self.scales,
        )

    def coefficients(self, z: Floats) -> tuple[Floats, Floats]:  # (L, m, n), (m,)
        """Return how the mean at new points is put together.

        It is ``sum_l sum_i c[l, j, i] G_l(g_j, g_i) + r[j]`` for ``c``, ``r`` returned: linear in the similarities of
        the graphs, so a kernel that adds up parts of graphs gives each part its share.

        Args:
            z:
                Numeric part of the new points.

        Raises:
            ValueError: If a shape does not fit.
        """
        h = self.hyperparameters
        matern = self._matern(z, self.z)
        shared = (1 - h.interaction + h.interaction * matern) * self.alpha
        return np.array(h.level_weights)[:, None, None] * shared, h.z_variance * (matern @ self.alpha)

    def _cross(self, cross_grams: Floats | None, z: Floats) -> Floats:  # (m, n)
        return self._prior(cross_grams, z, self.z)

    def _prior(self, grams: Floats | None, z1: Floats, z2: Floats) -> Floats:  # (len(z1), len(z2))
        h = self.hyperparameters
        matern = self._matern(z1, z2)
        grams = np.empty((0, len(z1), len(z2))) if grams is None else grams
        _check_shape("grams", grams, (len(h.level_weights), len(z1), len(z2)))
        weighted = np.tensordot(np.array(h.level_weights), grams, axes=1)
        covariance: Floats = weighted * (1 - h.interaction + h.interaction * matern) + h.z_variance * matern
        return covariance

    def _matern(self, z1: Floats, z2: Floats) -> Floats:  # (len(z1), len(z2))
        _check_shape("z", z1, (len(z1), len(self.is_categorical)))
        r2 = np.zeros((len(z1), len(z2)))
        for j, scale in enumerate(self.hyperparameters.inverse_squared_lengthscales):
            r2 += scale * _squared_difference(z1[:, None, j], z2[None, :, j], bool(self.is_categorical[j]))
        return _matern52(r2)[0]


def fit(
    grams: Floats | None,  # (L, n, n)
    z: Floats,  # (n, d)
    is_categorical: NDArray[np.bool_],  # (d,)
    y: Floats,  # (n,)
    *,
    rng: np.random.Generator,
    start: Hyperparameters | None = None,
    deterministic: bool = False,
    n_restarts: int = 1,
    means: Floats | None = None,  # (p, n)
) -> Posterior:
    """Find the hyperparameters that maximise marginal likelihood times prior, and condition on the observations.

    L-BFGS-B in the logarithms of the hyperparameters, from ``start`` (or from the middle of the prior) and from
    ``n_restarts`` random points. Of more than ``MANY`` observations, that many random ones are fitted to first, and a
    few steps with all of them start from what was found. No observation is left out of the posterior.

    Args:
        grams:
            Similarities of the observed graphs, a matrix with a unit diagonal per level, or None without graphs.
        z:
            Numeric part of the observations, in ``[0, 1]``; categories as any distinct numbers.
        is_categorical:
            Which dimensions of ``z`` are categories.
        y:
            Observed values, to be maximised, standardised by the caller.
        rng:
            Draws the random starts.
        start:
            Hyperparameters of an earlier fit with as many levels and dimensions.
        deterministic:
            Whether observations are without noise, which is then fixed at ``MINIMUM_NOISE``.
        n_restarts:
            How many random starts besides the first.
        means:
            Functions that ``y`` is thought to follow, at the observations. For any hyperparameters the best ``beta`` is
            a non-negative least squares problem (RW 2.7 has it without the sign).

    Raises:
        ValueError: If there is no observation, neither graph nor ``z``, a shape does not fit or a value is not finite.
        numpy.linalg.LinAlgError: If the covariance is not positive definite, even with jitter.
    """
    if n_restarts < 0:
        raise ValueError(f"n_restarts must be non-negative but got {n_restarts}.")
    data, n_steps = _Data.of(grams, z, is_categorical, y, means), _N_STEPS
    if len(data.y) > MANY and start is None:
        some = np.sort(rng.choice(len(data.y), MANY, replace=False))
        part = None if grams is None else np.asarray(grams)[:, some][:, :, some]
        coarse = fit(
            part,
            data.z[some],
            is_categorical,
            data.y[some],
            rng=rng,
            deterministic=deterministic,
            n_restarts=n_restarts,
            means=data.means[:, some],
        )
        start, n_restarts, n_steps = coarse.hyperparameters, 0, _N_FINE_STEPS
    model = _Model(len(data.grams), len(data.squared_differences), deterministic)
    center = model.default()
    starts = [center if start is None else model.from_hyperparameters(start)]
    starts += [np.clip(center + rng.standard_normal(len(center)), *model.bounds()) for _ in range(n_restarts)]

    def loss(theta: Floats) -> tuple[float, Floats]:
        likelihood, likelihood_gradient = log_marginal_likelihood(data, model, theta)
        prior, prior_gradient = log_prior(model, theta)
        return -likelihood - prior, -likelihood_gradient - prior_gradient

    bounds = list(zip(*model.bounds(), strict=True))
    options = {"gtol": 1e-2, "ftol": 1e-7, "maxiter": n_steps}
    results = [minimize(loss, x0, jac=True, method="L-BFGS-B", bounds=bounds, options=options) for x0 in starts]
    best = min(results, key=lambda result: float(result.fun))
    return condition(grams, z, is_categorical, y, model.to_hyperparameters(best.x), means)


def condition(
    grams: Floats | None,  # (L, n, n)
    z: Floats,  # (n, d)
    is_categorical: NDArray[np.bool_],  # (d,)
    y: Floats,  # (n,)
    hyperparameters: Hyperparameters,
    means: Floats | None = None,  # (p, n)
) -> Posterior:
    """Condition on observations with given hyperparameters. For the other arguments and errors see `fit`."""
    data = _Data.of(grams, z, is_categorical, y, means)
    _check_fit(hyperparameters, len(data.grams), len(data.squared_differences))
    terms = _terms(data, hyperparameters)
    cholesky = _cholesky(_noisy_covariance(data, terms, hyperparameters))
    scales, _ = fit_scales(data, cholesky)
    return _posterior(hyperparameters, data.z, data.is_categorical, data.y - scales @ data.means, cholesky, scales)


@dataclass(frozen=True, eq=False)
class _Data:
    """Checked observations; what a fit looks at again and again is laid out by pairs."""

    z: Floats  # (n, d)
    is_categorical: NDArray[np.bool_]  # (d,)
    y: Floats  # (n,)
    grams: Floats  # (L, n_pairs)
    squared_differences: Floats  # (d, n_pairs)
    pairs: NDArray[np.intp]  # (n_pairs,), where they are in a flattened (n, n) matrix
    means: Floats  # (p, n)

    @staticmethod
    def of(
        grams: Floats | None, z: Floats, is_categorical: NDArray[np.bool_], y: Floats, means: Floats | None = None
    ) -> _Data:
        y, z = np.asarray(y, dtype=np.float64), np.asarray(z, dtype=np.float64)
        n, is_categorical = len(y), np.asarray(is_categorical, dtype=np.bool_)
        if n == 0:
            raise ValueError("y must hold at least one observation but is empty.")
        _check_shape("y", y, (n,))
        _check_shape("z", z, (n, len(is_categorical)))
        grams = np.empty((0, n, n)) if grams is None else np.asarray(grams, dtype=np.float64)
        _check_shape("grams", grams, (len(grams), n, n))
        if len(grams) == 0 and len(is_categorical) == 0:
            raise ValueError("Either grams or z must describe the observations but both are empty.")
        means = np.empty((0, n)) if means is None else np.asarray(means, dtype=np.float64)
        _check_shape("means", means, (len(means), n))
        for name, values in (("grams", grams), ("z", z), ("y", y), ("means", means)):
            if not np.all(np.isfinite(values)):
                raise ValueError(f"{name} must be finite but holds NaN or infinity.")
        rows, columns = np.tril_indices(n)
        squared_differences = np.empty((z.shape[1], len(rows)))
        for j in range(z.shape[1]):
            squared_differences[j] = _squared_difference(z[rows, j], z[columns, j], bool(is_categorical[j]))
        return _Data(z, is_categorical, y, grams[:, rows, columns], squared_differences, rows * n + columns, means)


@dataclass(frozen=True)
class _Model:
    """Which hyperparameters are free, and their layout in a vector theta: log w, logit rho, log s, log a, log noise."""

    n_levels: int
    n_dims: int
    deterministic: bool

    @property
    def n_variances(self) -> int:
        return self.n_levels + (self.n_dims > 0)

    @property
    def n_interactions(self) -> int:
        return int(self.n_levels > 0 and self.n_dims > 0)

    @property
    def n_theta(self) -> int:
        return self.n_variances + self.n_interactions + self.n_dims + (not self.deterministic)

    def to_hyperparameters(self, theta: Floats) -> Hyperparameters:
        end_w, end_rho, end_s = np.cumsum([self.n_levels, self.n_interactions, int(self.n_dims > 0)])
        return Hyperparameters(
            level_weights=tuple(np.exp(theta[:end_w]).tolist()),
            interaction=float(1 / (1 + np.exp(-theta[end_w]))) if end_rho > end_w else 0.0,
            z_variance=float(np.exp(theta[end_rho])) if end_s > end_rho else 0.0,
            inverse_squared_lengthscales=tuple(np.exp(theta[end_s : end_s + self.n_dims]).tolist()),
            noise=MINIMUM_NOISE if self.deterministic else float(np.exp(theta[-1])),
        )

    def from_hyperparameters(self, h: Hyperparameters) -> Floats:  # (n_theta,)
        _check_fit(h, self.n_levels, self.n_dims)
        odds = [h.interaction / (1 - h.interaction) if h.interaction < 1 else np.inf] * self.n_interactions
        s, noise = [h.z_variance] * (self.n_dims > 0), [h.noise] * (not self.deterministic)
        values = np.array([*h.level_weights, *odds, *s, *h.inverse_squared_lengthscales, *noise])
        lower, upper = self.bounds()
        theta: Floats = np.log(np.clip(values, np.exp(lower), np.exp(upper)))
        return np.clip(theta, lower, upper)

    def default(self) -> Floats:  # (n_theta,)
        w, s = (1 / self.n_variances,) * self.n_levels, 1 / self.n_variances
        return self.from_hyperparameters(Hyperparameters(w, 0.5, s, (1.0,) * self.n_dims, 0.01))

    def bounds(self) -> tuple[Floats, Floats]:  # (n_theta,), (n_theta,)
        lower = np.full(self.n_theta, -_LARGEST_LOG)
        if not self.deterministic:
            lower[-1] = _SMALLEST_LOG_NOISE
        return lower, np.full(self.n_theta, _LARGEST_LOG)


def log_prior(model: _Model, theta: Floats) -> tuple[float, Floats]:  # (), (n_theta,)
    """Return the log prior of the hyperparameters, up to a constant, and its gradient with respect to theta.

    Inverse squared length-scales and noise have the priors of Optuna's `_gp/prior.py`. Each of the V variances (w and
    s) has a Gamma(1 + 1 / V, 1) prior, so that for V = 1 it is Optuna's Gamma(2, 1), and rho has Beta(1.5, 1.5).
    """
    h = model.to_hyperparameters(theta)
    w, s, a = np.array(h.level_weights), h.z_variance, np.array(h.inverse_squared_lengthscales)
    variances = np.append(w, s)[: model.n_variances]
    concentration = 1 / model.n_variances
    value = float(np.sum(concentration * np.log(variances) - variances) - np.sum(0.1 / a + 0.1 * a))
    of_variances = concentration - variances
    gradient = [of_variances[: model.n_levels]]
    if model.n_interactions:
        value += 0.5 * float(np.log(h.interaction) + np.log1p(-h.interaction))
        gradient.append(np.array([0.5 * (1 - 2 * h.interaction)]))
    gradient += [of_variances[model.n_levels :], 0.1 / a - 0.1 * a]
    if not model.deterministic:
        value += 0.1 * float(np.log(h.noise)) - 30 * h.noise
        gradient.append(np.array([0.1 - 30 * h.noise]))
    return value, np.concatenate(gradient)


def log_marginal_likelihood(data: _Data, model: _Model, theta: Floats) -> tuple[float, Floats]:  # (), (n_theta,)
    """Return the log marginal likelihood, RW (2.30), and its gradient with respect to theta, RW (5.9).

    With means it is that of the best beta, times beta's prior: where beta is best, theta's gradient is that for a fixed
    one (the envelope theorem).
    """
    h, n = model.to_hyperparameters(theta), len(data.y)
    terms = _terms(data, h)
    cholesky = _cholesky(_noisy_covariance(data, terms, h))
    scales, log_prior_of_scales = fit_scales(data, cholesky)
    half = solve_triangular(cholesky, data.y - scales @ data.means, lower=True, check_finite=False)
    alpha = solve_triangular(cholesky, half, lower=True, trans=1, check_finite=False)
    inverse, _ = lapack.dpotri(cholesky.T)  # C^-1: its upper triangle in Fortran's order, its lower one in ours
    # RW (5.9): the derivative is tr((alpha alpha^T - C^-1) dC) / 2. Off the diagonal a pair counts twice.
    outer = (np.outer(alpha, alpha) - inverse.T).ravel()[data.pairs]
    diagonal = np.cumsum(np.arange(1, n + 1)) - 1  # where the pairs (i, i) are
    outer[diagonal] *= 0.5
    weighted = terms.weighted_grams
    gradient = [np.array(h.level_weights) * (data.grams @ (outer * terms.mixed_matern))]
    if model.n_interactions:
        gradient.append(np.array([h.interaction * (1 - h.interaction) * ((outer * weighted) @ (terms.matern - 1))]))
    if model.n_dims:
        gradient.append(np.array([h.z_variance * (outer @ terms.matern)]))
        of_r2 = outer * (h.interaction * weighted + h.z_variance) * terms.matern_slope
        gradient.append(np.array(h.inverse_squared_lengthscales) * (data.squared_differences @ of_r2))
    if not model.deterministic:
        gradient.append(np.array([h.noise * outer[diagonal].sum()]))
    return _log_likelihood(cholesky, half) + log_prior_of_scales, np.concatenate(gradient)


def fit_scales(data: _Data, cholesky: Floats) -> tuple[Floats, float]:  # (p,), ()
    """Return the beta that maximises the likelihood of the observations times its prior, and the log of the latter.

    That is the non-negative beta with the least ``|chol^-1 (y - beta means)|^2 + |(beta - mean) / deviation|^2``.
    """
    p = len(data.means)
    if p == 0:
        return np.empty(0), 0.0
    white = solve_triangular(cholesky, np.vstack([data.means, data.y]).T, lower=True, check_finite=False)
    rows = np.vstack([white[:, :p], np.eye(p) / _SCALE_DEVIATION])
    scales, _ = nnls(rows, np.append(white[:, p], np.full(p, _SCALE_MEAN / _SCALE_DEVIATION)))
    return scales, float(-0.5 * np.sum(((scales - _SCALE_MEAN) / _SCALE_DEVIATION) ** 2))


@dataclass(frozen=True, eq=False)
class _Terms:
    """The covariance of the function at pairs of observations, and what its derivatives need."""

    covariance: Floats  # (n_pairs,)
    weighted_grams: Floats  # (n_pairs,), sum_l w_l G_l
    matern: Floats  # (n_pairs,)
    matern_slope: Floats  # (n_pairs,), dM / dr2
    mixed_matern: Floats  # (n_pairs,), 1 - rho + rho M


def _terms(data: _Data, h: Hyperparameters) -> _Terms:
    matern, slope = _matern52(np.array(h.inverse_squared_lengthscales) @ data.squared_differences)
    weighted = np.array(h.level_weights) @ data.grams
    mixed = 1 - h.interaction + h.interaction * matern
    return _Terms(weighted * mixed + h.z_variance * matern, weighted, matern, slope, mixed)


def _matern52(r2: Floats) -> tuple[Floats, Floats]:
    """Return the Matern-5/2 correlation, RW (4.17), and its derivative with respect to the squared distance."""
    u = np.sqrt(5 * r2)
    decay = np.exp(-u)
    return (1 + u + u * u / 3) * decay, (-5 / 6) * (1 + u) * decay


def _squared_difference(z1: Floats, z2: Floats, is_categorical: bool) -> Floats:
    difference = z1 - z2
    return (difference != 0).astype(np.float64) if is_categorical else difference * difference


def _noisy_covariance(data: _Data, terms: _Terms, h: Hyperparameters) -> Floats:  # (n, n), its upper triangle is 0
    n = len(data.y)
    matrix = np.zeros(n * n)
    matrix[data.pairs] = terms.covariance
    matrix[:: n + 1] += h.noise
    return matrix.reshape(n, n)


def _cholesky(matrix: Floats) -> Floats:
    """Factorise a matrix given by its lower triangle, adding as little jitter as works (RW, Section A.4, Footnote 3).

    Raises:
        numpy.linalg.LinAlgError: If the largest jitter is not enough.
    """
    if len(matrix) == 0:
        return matrix
    scale = float(np.mean(np.diagonal(matrix)))
    for jitter in _JITTERS:
        attempt = np.array(matrix)
        attempt.ravel()[:: len(matrix) + 1] += jitter * scale
        # LAPACK reads our rows as columns: the lower triangle is its upper one, and nothing is copied.
        cholesky, failed = lapack.dpotrf(attempt.T, overwrite_a=1)
        if not failed:
            factor: Floats = cholesky.T
            return factor
    raise np.linalg.LinAlgError(
        f"The covariance matrix of {len(matrix)} points is not positive definite, even with {_JITTERS[-1]} of its mean "
        "variance added to the diagonal: the graph kernel is not positive semi-definite."
    )


def _posterior(
    hyperparameters: Hyperparameters,
    z: Floats,
    is_categorical: NDArray[np.bool_],
    y: Floats,
    cholesky: Floats,
    scales: Floats,
) -> Posterior:
    half = solve_triangular(cholesky, y, lower=True, check_finite=False)
    alpha = solve_triangular(cholesky, half, lower=True, trans=1, check_finite=False)
    likelihood = _log_likelihood(cholesky, half)
    return Posterior(hyperparameters, z, is_categorical, y, cholesky, alpha, likelihood, scales)


def _log_likelihood(cholesky: Floats, half: Floats) -> float:
    """Return RW (2.30) from ``half = chol^-1 y``, as in RW, Algorithm 2.1."""
    return float(-0.5 * half @ half - np.sum(np.log(np.diagonal(cholesky))) - 0.5 * len(half) * np.log(2 * np.pi))


def _check_fit(h: Hyperparameters, n_levels: int, n_dims: int) -> None:
    got = (len(h.level_weights), len(h.inverse_squared_lengthscales))
    if got != (n_levels, n_dims):
        raise ValueError(
            f"hyperparameters must be for {n_levels} levels and {n_dims} dimensions but got {got[0]} and {got[1]}."
        )


def _check_shape(name: str, values: Floats, expected: tuple[int, ...]) -> None:
    if values.shape != expected:
        raise ValueError(f"{name} must have shape {expected} but got {values.shape}.")
