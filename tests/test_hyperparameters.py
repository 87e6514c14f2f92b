"""Optuna's parameters as points of the unit cube."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from optuna_nas_morph.hyperparameters import Conditions, Cube

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


# What is there and what is not.


@given(st.sets(st.sampled_from(sorted(DISTRIBUTIONS))), RNG_SEEDS)
def test_what_is_not_there_is_nan_and_back(names: set[str], seed: int) -> None:
    everything = CUBE.decode(CUBE.sample(1, np.random.default_rng(seed))[0])
    params = {name: value for name, value in everything.items() if name in names}
    point = CUBE.encode(params)
    np.testing.assert_array_equal(np.isnan(point), [name not in names for name in DISTRIBUTIONS])
    decoded = CUBE.decode(point)
    assert decoded.keys() == params.keys()
    assert close(decoded, params)
    np.testing.assert_array_equal(np.isnan(CUBE.snap(point[None])[0]), np.isnan(point))


# What an objective asks for.

OPTIMIZER = CategoricalDistribution(("adam", "sgd", "rmsprop"))
TRAINING = Cube(
    {
        "nesterov": CategoricalDistribution((False, True)),  # for sgd with much momentum
        "lr": FloatDistribution(1e-4, 1e-1, log=True),
        "momentum": FloatDistribution(0.0, 1.0),  # for sgd
        "optimizer": OPTIMIZER,
        "dropout": FloatDistribution(0.0, 0.5),  # for large architectures
    }
)
NESTEROV, LR, MOMENTUM, OPTIMIZER_AT, DROPOUT = range(5)


def asked(points: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Points with NaN where the objective would not ask."""
    is_sgd = points[:, OPTIMIZER_AT] == 1
    points = points.copy()
    points[~(is_sgd & (points[:, MOMENTUM] > 0.5)), NESTEROV] = np.nan
    points[~is_sgd, MOMENTUM] = np.nan
    points[features[:, 1] <= 0.5, DROPOUT] = np.nan
    return points


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points where everything is there, and features of architectures, of which the second matters."""
    rng = np.random.default_rng(seed)
    return TRAINING.sample(n, rng), rng.random((n, 3))


def learned(n: int, seed: int) -> Conditions:
    points, features = drawn(n, seed)
    return Conditions(TRAINING, asked(points, features), features)


@pytest.mark.parametrize("seed", range(3))
def test_nested_conditions_are_learned(seed: int) -> None:
    conditions = learned(80, seed)
    assert conditions.conditional.tolist() == [NESTEROV, MOMENTUM, DROPOUT]
    points, features = drawn(1000, 100 + seed)
    # Where numbers decide, up to what has been seen.
    clear = (np.abs(points[:, MOMENTUM] - 0.5) > 0.15) & (np.abs(features[:, 1] - 0.5) > 0.15)
    right = np.all(np.isnan(conditions.apply(points, features)) == np.isnan(asked(points, features)), axis=1)
    assert right[clear].mean() > 0.95
    # What the optimizer alone decides is known exactly.
    np.testing.assert_array_equal(
        np.isnan(conditions.apply(points, features)[:, MOMENTUM]), points[:, OPTIMIZER_AT] != 1
    )


def test_what_is_asked_for_keeps_its_value() -> None:
    points, features = drawn(200, 1)
    before = points.copy()
    applied = learned(60, 0).apply(points, features)
    there = ~np.isnan(applied)
    np.testing.assert_array_equal(applied[there], points[there])
    np.testing.assert_array_equal(points, before)
    assert there[:, [LR, OPTIMIZER_AT]].all()


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_decided_by_what_is_not_there(seed: int) -> None:
    conditions = learned(60, seed)
    points, features = drawn(300, 2)
    applied = conditions.apply(points, features)
    other = np.where(np.isnan(applied), TRAINING.sample(300, np.random.default_rng(3)), points)
    again = conditions.apply(other, features)
    differ = np.any(np.isnan(again) != np.isnan(applied), axis=1)
    # No more than the few that a leaf of one trial decides.
    assert differ.mean() < 0.02
    # And what a Gaussian process is given does not depend on it.
    np.testing.assert_array_equal(conditions.expand(again[~differ]), conditions.expand(applied[~differ]))


def test_a_hyperparameter_does_not_decide_on_itself_nor_on_what_it_depends_on() -> None:
    # Once a study has settled, what is there has about one value, by which it can be told from what is not there.
    cube = Cube(
        {
            "kind": CategoricalDistribution(tuple("abcde")),
            "of c": FloatDistribution(0.0, 1.0),
            "of of c": FloatDistribution(0.0, 1.0),
        }
    )
    points = cube.sample(60, np.random.default_rng(0))
    points[::2, 0] = 2
    points[:, 2] = 0.9
    for of_c in (points[:, 1], 0.3 + 0.001 * points[:, 1]):
        points[:, 1] = of_c
        points[points[:, 1] < 0.2, 2] = np.nan
        points[points[:, 0] != 2, 1:] = np.nan
        conditions = Conditions(cube, points, np.empty((60, 0)))
        candidates = cube.sample(500, np.random.default_rng(1))
        applied = conditions.apply(candidates, np.empty((500, 0)))
        np.testing.assert_array_equal(np.isnan(applied[:, 1]), candidates[:, 0] != 2)


def test_what_a_gaussian_process_is_given() -> None:
    conditions = learned(60, 0)
    point = np.array([[np.nan, 0.3, 0.7, 1.0, np.nan]])
    np.testing.assert_array_equal(conditions.expand(point), [[0.5, 0.3, 0.7, 1.0, 0.5, 1.0, 0.0, 1.0]])


def test_without_conditions_nothing_is_learned() -> None:
    points, features = drawn(20, 0)
    conditions = Conditions(TRAINING, points, features)
    assert len(conditions.conditional) == 0
    np.testing.assert_array_equal(conditions.apply(points, features), points)
    np.testing.assert_array_equal(conditions.expand(points), points)


def test_what_was_never_asked_for_is_never_there() -> None:
    points, features = drawn(20, 0)
    points[:, DROPOUT] = np.nan
    conditions = Conditions(TRAINING, points, features)
    assert conditions.conditional.tolist() == [DROPOUT]
    applied = conditions.apply(*drawn(5, 1))
    np.testing.assert_array_equal(np.isnan(applied), [[False] * 4 + [True]] * 5)


def test_one_trial_without_features_and_no_trial_at_all() -> None:
    point = np.array([[np.nan, 0.1, 0.2, 0.0, 0.3]])
    one = Conditions(TRAINING, point, np.empty((1, 0)))
    assert np.isnan(one.apply(TRAINING.sample(3, np.random.default_rng(0)), np.empty((3, 0)))[:, 0]).all()
    none = Conditions(TRAINING, np.empty((0, 5)), np.empty((0, 2)))
    points = TRAINING.sample(3, np.random.default_rng(0))
    np.testing.assert_array_equal(none.apply(points, np.empty((3, 2))), points)
    assert one.apply(np.empty((0, 5)), np.empty((0, 0))).shape == (0, 5)
    empty = Conditions(Cube({}), np.empty((3, 0)), np.ones((3, 2)))
    assert empty.apply(np.empty((2, 0)), np.ones((2, 2))).shape == (2, 0)
    assert empty.expand(np.empty((2, 0))).shape == (2, 0)


def test_the_same_trials_teach_the_same() -> None:
    points, features = drawn(200, 5)
    np.random.seed(1)  # noqa: NPY002
    first = learned(30, 0).apply(points, features)
    np.random.seed(2)  # noqa: NPY002
    np.testing.assert_array_equal(learned(30, 0).apply(points, features), first)
