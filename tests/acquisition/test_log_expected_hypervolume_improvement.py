from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from optuna_nas_morph.acquisition import LogExpectedHypervolumeImprovement, LogExpectedImprovement
from optuna_nas_morph.acquisition.log_expected_hypervolume_improvement import non_dominated_boxes, reference_point

ACQUISITION = LogExpectedHypervolumeImprovement()
FRONT_2 = np.array([[0.0, 2.0], [1.0, 1.5], [1.0, 1.5], [2.0, -0.5], [0.5, 0.5]])  # a duplicate, a dominated point
FRONT_3 = np.array([[0.0, 2.0, 1.0], [1.0, 1.0, 1.0], [2.0, 0.0, 0.5], [0.5, 0.5, 2.0]])
FRONTS = [pytest.param(FRONT_2, id="two objectives"), pytest.param(FRONT_3, id="three objectives")]


def grid_fronts(k: int) -> st.SearchStrategy[np.ndarray]:
    """Values on a small grid: ties, duplicates and points that are not above the reference -1 are frequent."""
    return arrays(np.float64, st.tuples(st.integers(0, 7), st.just(k)), elements=st.integers(-2, 4).map(float))


def improvement(front: np.ndarray, reference: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Volume that each point adds to a front, by inclusion and exclusion of the boxes that both cover."""
    total = np.prod(np.maximum(y - reference, 0), axis=1)
    for size in range(1, len(front) + 1):
        for subset in combinations(front, size):
            corner = np.minimum(y, np.min(subset, axis=0))
            total -= (-1) ** (size + 1) * np.prod(np.maximum(corner - reference, 0), axis=1)
    return total


# The value.


@pytest.mark.parametrize("front", FRONTS)
def test_against_monte_carlo(front: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    k, m = front.shape[1], 12
    reference = np.full(k, -1.0)
    mean, variance = rng.uniform(-1, 3, (k, m)), rng.uniform(0.05, 1.5, (k, m)) ** 2
    values = np.exp(ACQUISITION(mean, variance, *non_dominated_boxes(front, reference)))
    for i in range(m):
        draws = mean[:, i] + np.sqrt(variance[:, i]) * rng.standard_normal((40_000, k))
        volumes = improvement(front, reference, draws)
        assert values[i] == pytest.approx(volumes.mean(), abs=5 * volumes.std() / 200 + 1e-12)


@pytest.mark.parametrize("front", FRONTS)
def test_without_variance_it_is_the_hypervolume_that_is_added(front: np.ndarray) -> None:
    optuna_hypervolume = pytest.importorskip("optuna._hypervolume").compute_hypervolume
    k = front.shape[1]
    reference = np.full(k, -1.0)
    boxes = non_dominated_boxes(front, reference)
    before = optuna_hypervolume(-front, -reference)
    for y in np.random.default_rng(1).uniform(0.2, 3, (20, k)):
        added = optuna_hypervolume(-np.vstack([front, y]), -reference) - before
        value = np.exp(ACQUISITION(y[:, None], np.zeros((k, 1)), *boxes))[0]
        assert value == pytest.approx(added, abs=1e-8)


@pytest.mark.parametrize("front", FRONTS)
def test_against_optunas(front: np.ndarray) -> None:
    acqf, box_decomposition = pytest.importorskip("optuna._gp.acqf"), pytest.importorskip("optuna._hypervolume")
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    k = front.shape[1]
    reference = np.full(k, -1.0)
    on_front = np.array(
        [p for p in np.unique(front, axis=0) if not any((q >= p).all() and (q > p).any() for q in front)]
    )
    theirs = box_decomposition.get_non_dominated_box_bounds(-on_front, -reference)
    low, high = -theirs[1], -theirs[0]  # they minimise
    normal = torch.distributions.Normal(0.0, 1.0)
    sobol = torch.quasirandom.SobolEngine(k, scramble=True, seed=0).draw(2**14, dtype=torch.float64)
    samples = normal.icdf(sobol.clamp(1e-9, 1 - 1e-9))
    for _ in range(8):
        mean, deviation = rng.uniform(-0.5, 3, k), rng.uniform(0.2, 1.5, k)
        expected = acqf.logehvi(
            torch.from_numpy(mean) + torch.from_numpy(deviation) * samples,
            torch.from_numpy(low),
            torch.from_numpy(high - low),
        )
        value = ACQUISITION(mean[:, None], deviation[:, None] ** 2, *non_dominated_boxes(front, reference))[0]
        assert value == pytest.approx(float(expected), abs=0.02)


@given(
    arrays(np.float64, st.integers(0, 5), elements=st.floats(-10, 10)),
    arrays(np.float64, 4, elements=st.floats(-100, 100)),
    arrays(np.float64, 4, elements=st.floats(0, 10)),
)
def test_with_one_objective_it_is_the_log_expected_improvement(
    observed: np.ndarray, mean: np.ndarray, variance: np.ndarray
) -> None:
    boxes = non_dominated_boxes(observed[:, None], np.array([-3.0]))
    best = max([*observed, -3.0])
    np.testing.assert_allclose(
        ACQUISITION(mean[None], variance[None], *boxes), LogExpectedImprovement()(mean, variance, best), rtol=1e-12
    )


@pytest.mark.parametrize("front", FRONTS)
def test_candidates_far_away_are_ranked(front: np.ndarray) -> None:
    k = front.shape[1]
    boxes = non_dominated_boxes(front, np.full(k, -1.0))
    for variance in (1.0, 1e-4):
        means = np.tile([-1e8, -1e4, -300.0, -100.0, -40.0, -39.9, -5.0, 0.0, 3.0, 1e4], (k, 1))
        values = ACQUISITION(means, np.full_like(means, variance), *boxes)
        assert np.all(np.isfinite(values))
        assert np.all(np.diff(values) > 0)
        # And where only one objective is out of reach.
        means[1:] = 1.0
        values = ACQUISITION(means, np.full_like(means, variance), *boxes)
        assert np.all(np.isfinite(values))
        assert np.all(np.diff(values) > 0)


@given(
    grid_fronts(3),
    arrays(np.float64, (3, 4), elements=st.floats(-1e3, 1e3) | st.sampled_from([-1.0, 0.0, 1.0, 4.0])),
    arrays(np.float64, (3, 4), elements=st.just(0.0) | st.floats(1e-12, 1e3)),
    st.integers(0, 2),
    st.floats(0, 10),
)
def test_finite_and_monotone_in_every_mean(
    front: np.ndarray, mean: np.ndarray, variance: np.ndarray, objective: int, step: float
) -> None:
    boxes = non_dominated_boxes(front, np.full(3, -1.0))
    more = mean.copy()
    more[objective] += step
    low, high = ACQUISITION(mean, variance, *boxes), ACQUISITION(more, variance, *boxes)
    assert np.all(np.isfinite(low)) and np.all(np.isfinite(high))
    assert np.all(low <= high + 1e-6 * (1 + np.abs(high)))


def test_boxes_without_extent_are_no_error() -> None:
    front = np.array([[1.0, 1.0 + 2**-50], [1.0 + 2**-52, 1.0]])
    boxes = non_dominated_boxes(front, np.zeros(2))
    mean = np.tile([-1e3, 0.0, 1.0, 1e3], (2, 1))
    for variance in (0.0, 1.0, 1e6):
        with np.errstate(all="raise", under="ignore"):
            values = ACQUISITION(mean, np.full_like(mean, variance), *boxes)
        assert np.all(np.isfinite(values))


def test_values_do_not_depend_on_the_batch_and_arguments_are_not_changed() -> None:
    rng = np.random.default_rng(0)
    mean, variance = rng.normal(size=(2, 6)), rng.random((2, 6))
    boxes = non_dominated_boxes(FRONT_2, np.full(2, -1.0))
    before = [x.copy() for x in (mean, variance, *boxes)]
    whole = ACQUISITION(mean, variance, *boxes)
    parts = [ACQUISITION(mean[:, i : i + 1], variance[:, i : i + 1], *boxes)[0] for i in range(6)]
    np.testing.assert_array_equal(whole, parts)
    for x, y in zip(before, (mean, variance, *boxes), strict=True):
        np.testing.assert_array_equal(x, y)
    assert ACQUISITION(np.empty((2, 0)), np.empty((2, 0)), *boxes).shape == (0,)


def test_negative_variance_is_refused() -> None:
    with pytest.raises(ValueError, match=r"variance must be non-negative but got -1\.0"):
        ACQUISITION(np.zeros((2, 1)), np.array([[1.0], [-1.0]]), *non_dominated_boxes(FRONT_2, np.zeros(2)))


# Boxes.


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_boxes_are_disjoint_and_cover_exactly_what_is_not_dominated(k: int) -> None:
    @given(grid_fronts(k))
    def check(front: np.ndarray) -> None:
        lower, upper = non_dominated_boxes(front, np.full(k, -1.0))
        assert lower.shape == upper.shape == (len(lower), k)
        assert np.all(lower < upper)
        # The middle of every cell of the grid, beyond its ends too.
        points = np.stack(np.meshgrid(*[np.arange(-2.5, 6)] * k), axis=-1).reshape(-1, k)
        n_covering = np.sum(np.all((points[:, None] > lower[None]) & (points[:, None] < upper[None]), axis=2), axis=1)
        is_dominated = np.any(np.all(points[:, None] <= front[None], axis=2), axis=1)
        expected = ~is_dominated & np.all(points > -1, axis=1)
        np.testing.assert_array_equal(n_covering, expected.astype(int))

    check()


@pytest.mark.parametrize("k", [2, 3, 4])
def test_volume_of_bounded_boxes(k: int) -> None:
    optuna_hypervolume = pytest.importorskip("optuna._hypervolume").compute_hypervolume
    for seed in range(10):
        rng = np.random.default_rng(seed)
        front = rng.uniform(-0.5, 1, (8, k))
        above = front[np.all(front > 0, axis=1)]
        lower, upper = non_dominated_boxes(front, np.zeros(k))
        volume = np.prod(np.minimum(upper, 1.5) - lower, axis=1).sum()
        dominated = optuna_hypervolume(-above, np.zeros(k)) if len(above) else 0.0
        assert volume == pytest.approx(1.5**k - dominated, rel=1e-12)


def test_reference_point_lies_below_every_point_of_the_front() -> None:
    np.testing.assert_allclose(reference_point(np.array([[0.0, 5.0], [2.0, 1.0]])), [-0.2, 0.6])
    # No extent: as much as if it were 1.
    np.testing.assert_allclose(reference_point(np.array([[3.0, -2.0]])), [2.9, -2.1])
    np.testing.assert_allclose(reference_point(np.array([[3.0, 0.0], [3.0, 4.0]])), [2.9, -0.4])
