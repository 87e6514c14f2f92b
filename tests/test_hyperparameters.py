"""Optuna's parameters as points of the unit cube."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from optuna_nas_morph.hyperparameters import Cube

DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "float": FloatDistribution(-3.0, 5.0),
    "float log": FloatDistribution(1e-6, 1e2, log=True),
    "float step": FloatDistribution(0.1, 0.9, step=0.2),
    "float step inexact": FloatDistribution(0.0, 0.9, step=0.3),
    "float single": FloatDistribution(2.0, 2.0),
    "float enormous": FloatDistribution(-1e300, 1e300),
    "int": IntDistribution(-2, 7),
    "int step": IntDistribution(1, 9, step=4),
    "int log": IntDistribution(1, 1000, log=True),
    "int single": IntDistribution(3, 3),
    "choice": CategoricalDistribution(("a", None, 2.5, True, 7)),
    "one choice": CategoricalDistribution(("a",)),
}
CUBE = Cube(DISTRIBUTIONS)
RNG_SEEDS = st.integers(0, 10_000)


def holds(distribution: BaseDistribution, value: object) -> bool:
    return bool(distribution._contains(distribution.to_internal_repr(value)))


@given(
    st.lists(st.floats(-0.5, 1.5) | st.sampled_from([0.0, 1.0, -1e9, 1e9]), min_size=12, max_size=12),
)
def test_any_vector_is_a_point_of_every_distribution(entries: list[float]) -> None:
    params = CUBE.decode(np.array(entries))
    assert list(params) == list(DISTRIBUTIONS)
    for name, value in params.items():
        assert type(value) in (int, float, str, bool, type(None))  # plain, not numpy's
        assert holds(DISTRIBUTIONS[name], value), (name, value)
    assert CUBE.contains(params)
    # Decoding is a projection.
    assert close(CUBE.decode(CUBE.encode(params)), params)


def close(a: dict[str, object], b: dict[str, object]) -> bool:
    """Equal but for rounding."""
    return all(
        a[k] == b[k] if not isinstance(b[k], float) else a[k] == pytest.approx(b[k], rel=1e-9, abs=1e-9) for k in b
    )


@pytest.mark.parametrize("name", ["int", "int step", "int log", "choice", "float step", "float step inexact"])
def test_every_discrete_value_survives(name: str) -> None:
    distribution = DISTRIBUTIONS[name]
    cube = Cube({name: distribution})
    if isinstance(distribution, CategoricalDistribution):
        values = list(distribution.choices)
    elif isinstance(distribution, IntDistribution):
        values = list(range(distribution.low, distribution.high + 1, distribution.step))
    else:
        n = int(np.floor((distribution.high - distribution.low) / distribution.step + 1e-9)) + 1
        values = [distribution.low + i * distribution.step for i in range(n)]
    for value in values:
        decoded = cube.decode(cube.encode({name: value}))[name]
        assert decoded == pytest.approx(value) if isinstance(value, float) else decoded is value or decoded == value


@pytest.mark.parametrize("name", ["int", "int step", "int log", "choice", "float step"])
def test_every_discrete_value_is_drawn_and_integers_evenly(name: str) -> None:
    cube = Cube({name: DISTRIBUTIONS[name]})
    drawn = [cube.decode(p)[name] for p in cube.sample(3000, np.random.default_rng(0))]
    if name == "int":
        counts = np.bincount(np.array(drawn) + 2, minlength=10)
        assert counts.min() > 200 and counts.max() < 400  # 300 expected, deviation 16
    if name == "choice":
        assert {repr(v) for v in drawn} == {"'a'", "None", "2.5", "True", "7"}
    if name == "int step":
        assert set(drawn) == {1, 5, 9}
    if name == "int log":
        assert 1 in drawn and max(drawn) > 900
    if name == "float step":
        assert len(set(drawn)) == 5


def test_a_logarithmic_scale_is_uniform_in_the_logarithm() -> None:
    cube = Cube({"lr": FloatDistribution(1e-4, 1.0, log=True)})
    encoded = [cube.encode({"lr": v})[0] for v in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)]
    np.testing.assert_allclose(encoded, [0, 0.25, 0.5, 0.75, 1], atol=1e-12)


def test_contains() -> None:
    cube = Cube({"n": IntDistribution(1, 5), "c": CategoricalDistribution(("a", "b"))})
    assert cube.contains({"n": 3, "c": "b", "other": 0})
    assert cube.contains({"n": 3})
    for wrong in ({"n": 9}, {"n": 9, "c": "a"}, {"n": "x", "c": "a"}, {"n": 3, "c": "z"}, {"n": None, "c": "a"}):
        assert not cube.contains(wrong)


@given(RNG_SEEDS)
def test_neighbours_are_points_and_near(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = CUBE.sample(8, rng)
    before = points.copy()
    moved = CUBE.perturb(points, 0.01, rng)
    np.testing.assert_array_equal(points, before)
    numeric = ~CUBE.is_categorical
    assert np.all((moved[:, numeric] >= 0) & (moved[:, numeric] <= 1))
    assert np.all(np.abs(moved - points)[:, numeric] < 0.1)
    for p in moved:
        assert CUBE.contains(CUBE.decode(p))


@given(RNG_SEEDS)
def test_snapped_points_stay_where_they_are(seed: int) -> None:
    points = CUBE.sample(5, np.random.default_rng(seed))
    snapped = CUBE.snap(points)
    for point, there in zip(points, snapped, strict=True):
        assert close(CUBE.decode(there), CUBE.decode(point))
    np.testing.assert_allclose(CUBE.snap(snapped), snapped, atol=1e-9)


def test_an_empty_cube() -> None:
    cube = Cube({})
    assert cube.n_dims == 0
    assert cube.sample(3, np.random.default_rng(0)).shape == (3, 0)
    assert cube.decode(np.empty(0)) == {}
    assert cube.contains({"anything": 1})
    assert cube.encode({"anything": 1}).shape == (0,)
    assert cube.snap(np.empty((3, 0))).shape == (3, 0)
    assert cube.perturb(np.empty((2, 0)), 0.1, np.random.default_rng(0)).shape == (2, 0)
