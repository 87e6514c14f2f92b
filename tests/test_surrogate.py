"""What Gaussian processes are given and what they answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.gaussian_process.kernels import Matern

from optuna_nas_morph import surrogate as module
from optuna_nas_morph.gp import Hyperparameters
from optuna_nas_morph.ir import LabelledGraph
from optuna_nas_morph.kernels import WeisfeilerLehman, level_grams
from optuna_nas_morph.surrogate import Points, Quantity, Surrogate, fit_surrogate

IS_CATEGORICAL = np.array([False, True])
GRAPHS = tuple(
    LabelledGraph(("in", *labels, "out"), tuple((i, i + 1) for i in range(len(labels) + 1)))
    for labels in ("a", "b", "ab", "ba", "aab", "bb", "abab", "bbba", "aaaa", "c")
)
KINDS = ["graphs", "no graphs"]


def points(n: int, seed: int, kind: str, graphs: tuple[LabelledGraph, ...] = GRAPHS) -> Points:
    """Random points, several of a graph."""
    rng = np.random.default_rng(seed)
    z = np.stack([rng.random(n), rng.integers(0, 3, n)], axis=1)
    if kind == "no graphs":
        return Points((), np.zeros(n, dtype=int), z)
    return Points(graphs, rng.integers(len(graphs), size=n), z)


def covariance(h: Hyperparameters, a: Points, b: Points) -> np.ndarray:
    """That of the notation table of gp.py, with scikit-learn's Matern kernel and every graph compared by itself."""
    one_hot = np.array([[0, 0], [1, 0], [0.5, np.sqrt(0.75)]])  # three categories at a distance of 1 to each other

    def scaled(p: Points) -> np.ndarray:
        s = np.sqrt(h.inverse_squared_lengthscales)
        return np.column_stack([s[0] * p.z[:, 0], s[1] * one_hot[p.z[:, 1].astype(int)]])

    matern = Matern(nu=2.5)(scaled(a), scaled(b))
    if not a.graphs:
        return h.z_variance * matern
    each = [[level_grams(WeisfeilerLehman(), (g, f))[:, 0, 1] for f in b.graphs] for g in a.graphs]
    grams = np.moveaxis(np.array(each), 2, 0)[:, a.owner[:, None], b.owner[None, :]]
    weighted = np.tensordot(np.array(h.level_weights), grams, axes=1)
    return weighted * (1 - h.interaction + h.interaction * matern) + h.z_variance * matern


def joined(a: Points, b: Points) -> Points:
    return Points(a.graphs + b.graphs, np.concatenate([a.owner, b.owner + len(a.graphs)]), np.concatenate([a.z, b.z]))


def part(p: Points, rows: Any) -> Points:
    return Points(p.graphs, p.owner[rows], p.z[rows])


class Problem:
    """Two quantities, of which the second is known of a part of the observations, and two running points."""

    def __init__(self, kind: str, n: int = 24, n_running: int = 2, deterministic: bool = False) -> None:
        rng = np.random.default_rng(0)
        self.observed, self.running = points(n, 1, kind), points(n_running, 2, kind, GRAPHS[3:6])
        first = np.sin(5 * self.observed.z[:, 0]) + (self.observed.owner % 3) + 0.1 * rng.normal(size=n)
        second = self.observed.z[:, 0] - (self.observed.z[:, 1] == 1) + 0.1 * rng.normal(size=n)
        rows = np.array([i for i in range(n) if i % 3])
        self.quantities = [
            Quantity(np.arange(n), (first - first.mean()) / first.std()),
            Quantity(rows, (second[rows] - second[rows].mean()) / second[rows].std()),
        ]
        self.surrogate = fit_surrogate(
            self.observed,
            self.quantities,
            self.running,
            IS_CATEGORICAL,
            kernel=WeisfeilerLehman(),
            deterministic=deterministic,
            rng=np.random.default_rng(3),
        )

    def by_hand(self, k: int, at: Points) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of quantity ``k`` at points, from its hyperparameters alone."""
        h, quantity = self.surrogate.posteriors[k].hyperparameters, self.quantities[k]
        known = part(self.observed, quantity.rows)
        noisy = covariance(h, known, known) + h.noise * np.eye(len(known))
        # A running point comes out as predicted.
        believed = covariance(h, self.running, known) @ np.linalg.solve(noisy, quantity.targets)
        known, y = joined(known, self.running), np.append(quantity.targets, believed)
        noisy = covariance(h, known, known) + h.noise * np.eye(len(known))
        cross = covariance(h, at, known)
        return cross @ np.linalg.solve(noisy, y), covariance(h, at, at) - cross @ np.linalg.solve(noisy, cross.T)


@pytest.fixture(scope="module", params=KINDS)
def problem(request: pytest.FixtureRequest) -> Problem:
    return Problem(request.param)


@pytest.fixture
def kind(problem: Problem) -> str:
    return "graphs" if problem.observed.graphs else "no graphs"


# Predictions.


def test_predictions_are_those_of_each_posterior(problem: Problem, kind: str) -> None:
    new = points(17, 5, kind)
    means, variances = problem.surrogate.predict(new)
    assert means.shape == variances.shape == (2, 17)
    for k in range(2):
        mean, expected = problem.by_hand(k, new)
        np.testing.assert_allclose(means[k], mean, atol=1e-7)
        np.testing.assert_allclose(variances[k], np.diagonal(expected), atol=1e-7)
    assert not np.allclose(means[0], means[1])


@pytest.mark.parametrize("chunk", [1, 26 * 3, 26 * 16, 10**9])
def test_chunks_make_no_difference(problem: Problem, kind: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    new = points(17, 5, kind)
    if kind == "graphs":  # in another order, some of them twice, some for nobody
        new = Points(GRAPHS[::-1], np.array([9, 9, 0, 3, 3, 1, 0, 5, 4, 4, 4, 2, 1, 9, 0, 1, 2]), new.z)
    expected = problem.surrogate.predict(new)
    one_by_one = [problem.surrogate.predict(part(new, [i])) for i in range(17)]
    monkeypatch.setattr(module, "_CHUNK", chunk)
    for got, whole, single in zip(problem.surrogate.predict(new), expected, zip(*one_by_one, strict=True), strict=True):
        np.testing.assert_allclose(got, whole, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(np.concatenate(single, axis=1), whole, rtol=1e-9, atol=1e-12)


def test_every_graph_once_in_order() -> None:
    # The similarities are then used as they come.
    problem = Problem("graphs")
    new = Points(GRAPHS, np.arange(10), points(10, 6, "graphs").z)
    mean, expected = problem.by_hand(0, new)
    np.testing.assert_allclose(problem.surrogate.predict(new)[0][0], mean, atol=1e-7)
    np.testing.assert_allclose(problem.surrogate.predict(new)[1][0], np.diagonal(expected), atol=1e-7)


def test_no_point(problem: Problem, kind: str) -> None:
    means, variances = problem.surrogate.predict(points(0, 0, kind))
    assert means.shape == variances.shape == (2, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_running_is_known_but_no_better(kind: str) -> None:
    with_running, without = Problem(kind), Problem(kind, n_running=0)
    at = with_running.running
    (means, variances), (free_means, free_variances) = with_running.surrogate.predict(at), without.surrogate.predict(at)
    np.testing.assert_allclose(means, free_means, atol=1e-6)
    assert np.all(variances < free_variances)
    assert [len(p.y) for p in with_running.surrogate.posteriors] == [26, 18]
    assert [len(p.y) for p in without.surrogate.posteriors] == [24, 16]


# Paths.


def test_a_path_is_one_function(problem: Problem, kind: str) -> None:
    path = problem.surrogate.path(0, np.random.default_rng(0))
    new = points(30, 7, kind)
    values = path(new)
    assert values.shape == (30,)
    np.testing.assert_array_equal(path(new), values)
    rows = np.random.default_rng(1).permutation(30)
    np.testing.assert_array_equal(path(part(new, rows)), values[rows])
    np.testing.assert_array_equal(path(joined(points(5, 8, kind), part(new, [3, 3, 3])))[5:], values[[3, 3, 3]])
    np.testing.assert_array_equal(path(new), values)
    assert path(points(0, 0, kind)).shape == (0,)


def test_the_generator_decides_which(problem: Problem, kind: str) -> None:
    new = points(10, 7, kind)
    first, again, other = (problem.surrogate.path(0, np.random.default_rng(s))(new) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.any(first == other)


@pytest.mark.parametrize(("k", "n_anchors"), [(0, 4), (1, 500)])
def test_paths_have_the_posteriors_moments(
    problem: Problem, kind: str, k: int, n_anchors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Asked for in three batches, of which with four anchors the last is drawn given two of the first and two of the
    # second.
    monkeypatch.setattr(module, "N_ANCHORS", n_anchors)
    batches = [points(2, 10, kind), points(4, 11, kind), points(3, 12, kind)]
    rng, n_draws = np.random.default_rng(0), 200 if kind == "graphs" else 1000
    draws = np.empty((n_draws, 9))
    for i in range(n_draws):
        path = problem.surrogate.path(k, rng)
        draws[i] = np.concatenate([path(batch) for batch in batches])
    mean, expected = problem.by_hand(k, joined(joined(batches[0], batches[1]), batches[2]))
    deviation = np.sqrt(np.diagonal(expected))
    standard = (draws - mean) / deviation
    np.testing.assert_allclose(standard.mean(axis=0), 0, atol=4.5 / np.sqrt(n_draws))
    correlation = expected / np.outer(deviation, deviation)
    close = np.ones((9, 9), dtype=bool)
    if n_anchors == 4:
        # What came after the anchors is correlated with what is no anchor through those alone.
        close[4:6, 6:] = close[6:, 4:6] = False
    error = np.abs(standard.T @ standard / n_draws - correlation)
    assert error[close].max() < 4.5 * np.sqrt(2 / n_draws)


@pytest.mark.parametrize("kind", KINDS)
def test_more_points_than_anchors(kind: str) -> None:
    problem = Problem(kind)
    path = problem.surrogate.path(0, np.random.default_rng(0))
    many = points(1300, 9, kind)
    values = np.concatenate([path(part(many, slice(0, 700))), path(part(many, slice(700, 1300)))])
    np.testing.assert_array_equal(path(many), values)
    means, variances = problem.surrogate.predict(many)
    assert np.all(np.abs(values - means[0]) < 6 * np.sqrt(variances[0]))
    # It is continuous where it has been asked before, also in a batch of its own.
    near = Points(many.graphs, many.owner[:400], many.z[:400] + np.array([1e-6, 0.0]))
    np.testing.assert_allclose(path(near), values[:400], atol=0.05)


def test_a_path_goes_through_observations_without_noise(problem: Problem, kind: str) -> None:
    exact = Problem(kind, deterministic=True)
    _, first = np.unique(np.column_stack([exact.observed.owner, exact.observed.z]).round(12), axis=0, return_index=True)
    values = exact.surrogate.path(0, np.random.default_rng(0))(exact.observed)
    np.testing.assert_allclose(values[first], exact.quantities[0].targets[first], atol=0.02)


def test_a_surrogate_without_hyperparameters() -> None:
    observed = Points(GRAPHS, np.arange(10), np.empty((10, 0)))
    surrogate: Surrogate = fit_surrogate(
        observed,
        [Quantity(np.arange(10), np.linspace(-1.5, 1.5, 10))],
        Points((), np.empty(0, dtype=int), np.empty((0, 0))),
        np.zeros(0, dtype=bool),
        kernel=WeisfeilerLehman(),
        deterministic=False,
        rng=np.random.default_rng(0),
    )
    new = Points(GRAPHS, np.array([3, 3, 0]), np.empty((3, 0)))
    means, _ = surrogate.predict(new)
    values = surrogate.path(0, np.random.default_rng(0))(new)
    assert means[0, 0] == means[0, 1]
    assert values[0] == values[1] != values[2]
