from __future__ import annotations

import copy
import itertools
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from optuna_nas_morph import gp
from optuna_nas_morph.ir.labelled import LabelledGraph
from optuna_nas_morph.kernels import EditDistance, fit_kernel, sequence_distance
from optuna_nas_morph.kernels.layer_sequence import layer_distance, layer_sequence
from optuna_nas_morph.kernels.sequence_distance import Stack, layer_distances, skip_distances
from tests.kernels.contract import KernelContract
from tests.kernels.strategies import multigraphs

unhurried = settings(deadline=None)


def chain(*labels, skips=()):
    return LabelledGraph(labels, tuple((i, i + 1) for i in range(len(labels) - 1)) + tuple(skips))


WORDS = [chain(*word) for n in range(1, 5) for word in itertools.product("abc", repeat=n)]
FEW = WORDS[3:12]


class TestEditDistance(KernelContract):
    kernel = EditDistance()
    n_levels = 5
    graphs = multigraphs()
    learns = True


class TestFewLandmarks(KernelContract):
    kernel = EditDistance(skip_weight=0.3, n_landmarks=2, lengthscales=(1.0,), normalize=False)
    graphs = multigraphs()
    learns = True


# The distance.

LABELS = ("conv.w3+relu", "conv.w3", "conv.w5", "pool")
COSTS = np.array([[layer_distance(a, b) for b in LABELS] for a in LABELS])
layers = st.lists(st.integers(0, len(LABELS) - 1), max_size=5)
skips = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9), st.sampled_from([0, 0, 2])), max_size=4)


def stack_of(many_layers, many_skips):
    return Stack.of(
        [np.array(each, dtype=np.int64) for each in many_layers],
        [np.array(each, dtype=np.int64).reshape(-1, 3) for each in many_skips],
    )


@cache
def naive_layers(a, b):
    if not a or not b:
        return len(a) + len(b)
    matched = naive_layers(a[:-1], b[:-1]) + COSTS[a[-1], b[-1]]
    return min(naive_layers(a[:-1], b) + 1, naive_layers(a, b[:-1]) + 1, matched)


def naive_skips(a, b):
    few, many = sorted([a, b], key=len)
    totals = []
    for partners in itertools.permutations(many, len(few)):
        pairs = [np.array(pair) for pair in zip(few, partners, strict=True)]
        totals.append(sum(np.abs(x - y).sum() / np.maximum(x, y).sum() for x, y in pairs))
    return min(totals) + len(many) - len(few)


@unhurried
@given(layers, st.lists(layers, min_size=1, max_size=6))
def test_alignment_of_layers_is_the_recursion(one, many):
    distances = layer_distances(np.array(one, dtype=np.int64), stack_of(many, [[]] * len(many)), COSTS)
    np.testing.assert_allclose(distances, [naive_layers(tuple(one), tuple(other)) for other in many])


@unhurried
@given(skips, st.lists(skips, min_size=1, max_size=4))
def test_matching_of_skips_is_the_best_of_all(one, many):
    distances = skip_distances(np.array(one, dtype=np.int64).reshape(-1, 3), stack_of([[]] * len(many), many))
    np.testing.assert_allclose(distances, [naive_skips(one, other) for other in many])


def test_the_papers_distance():
    a = chain("conv.w5", "conv.w5", "conv.w6", "pool", "linear.w3", skips=[(0, 2)])
    b = chain("conv.w6", "conv.w5", "pool", "linear.w4", skips=[(0, 3), (1, 3)])
    # Two widths doubled, a layer and a skip left out, and a skip that starts at rank 1 and skips 2 layers instead of 1.
    assert EditDistance().distances([a], [b])[0, 0] == pytest.approx(0.5 + 0.5 + 1 + 1 + 1 / 3)
    assert EditDistance(skip_weight=0.5).distances([a], [b])[0, 0] == pytest.approx(2 + (1 + 1 / 3) / 2)
    assert EditDistance(skip_weight=0).distances([a], [b])[0, 0] == pytest.approx(2)


def test_widths_of_dense_layers_count():
    narrow, wide = (chain("input", f"linear.w{w}+relu", "linear.w3") for w in (5, 6))
    assert EditDistance().distances([narrow], [wide])[0, 0] == 0.5


@unhurried
@given(multigraphs(), multigraphs(), multigraphs(), st.floats(0, 3))
def test_distance_is_a_metric(x, y, z, skip_weight):
    graphs = [x, y, z]
    d = EditDistance(skip_weight=skip_weight).distances(graphs, graphs)
    np.testing.assert_array_equal(np.diagonal(d), 0)
    np.testing.assert_allclose(d, d.T, atol=1e-12)
    assert np.all(d >= 0)
    assert d[0, 2] <= d[0, 1] + d[1, 2] + 1e-12
    if layer_sequence(x) != layer_sequence(y) and skip_weight > 0.01:
        assert d[0, 1] > 0


# The kernel.


def test_positive_semi_definite_where_the_papers_is_not():
    d = EditDistance().distances(WORDS, WORDS)
    assert np.linalg.eigvalsh(np.exp(-d)).min() < -0.1
    assert np.linalg.eigvalsh(np.exp(-(d**2))).min() < -0.1
    fitted = fit_kernel(EditDistance(), WORDS[::2])
    assert np.linalg.eigvalsh(fitted.grams).min() > -1e-10
    assert np.linalg.eigvalsh(fitted.among(WORDS)).min() > -1e-10


def test_levels_are_length_scales_of_landmark_distances():
    kernel = EditDistance(n_landmarks=4, lengthscales=(0.5, 3.0))
    levels = kernel.fit_levels(FEW)
    assert len(levels.landmarks) == 4
    phi = kernel.distances(FEW, levels.landmarks) / 2
    r = np.linalg.norm(phi[:, None] - phi, axis=2)
    median = np.median(r[np.triu_indices(len(FEW), 1)][r[np.triu_indices(len(FEW), 1)] > 0])
    expected = [np.exp(-(r**2) / (2 * (scale * median) ** 2)) for scale in (0.5, 3.0)]
    np.testing.assert_allclose(fit_kernel(kernel, FEW).grams, expected)


@unhurried
@given(st.lists(multigraphs(), min_size=1, max_size=4), multigraphs(), multigraphs())
def test_features_are_lipschitz(train, x, y):
    kernel = EditDistance()
    phi = kernel.fit_levels(train).embed([x, y])
    assert np.linalg.norm(phi[0] - phi[1]) <= kernel.distances([x], [y])[0, 0] + 1e-12


def test_landmarks_are_the_farthest_points():
    graphs = [chain(*"a" * n) for n in (3, 4, 9, 1, 6, 9)]
    assert EditDistance(n_landmarks=3).fit_levels(graphs).landmarks == (graphs[0], graphs[2], graphs[4])
    all_of_them = EditDistance().fit_levels(graphs).landmarks
    assert sorted(len(graph.labels) for graph in all_of_them) == [1, 3, 4, 6, 9]  # no graph twice


def test_equal_graphs():
    fitted = fit_kernel(EditDistance(), [chain("a", "b")] * 3)
    np.testing.assert_array_equal(fitted.grams, 1)
    assert np.all(fitted.cross([chain("a", "b", "c")]) < 1)


def test_median_of_many_graphs(monkeypatch):
    monkeypatch.setattr("optuna_nas_morph.kernels.edit_distance._N_MEDIAN", 4)
    some = EditDistance().fit_levels([chain(*"a" * n) for n in range(1, 9)])
    assert some.lengthscales != EditDistance().fit_levels([chain(*"a" * n) for n in (1, 3, 5, 7)]).lengthscales
    phi = some.embed([chain(*"a" * n) for n in (1, 3, 5, 7)])
    r = np.linalg.norm(phi[:, None] - phi, axis=2)[np.triu_indices(4, 1)]
    assert some.lengthscales[2] == pytest.approx(np.median(r))


def test_grakel_interface_is_the_mean_of_the_levels():
    kernel = EditDistance()
    with pytest.raises(NotFittedError, match="EditDistance is not fitted: call fit first"):
        kernel.transform(FEW)
    similarities = kernel.fit_transform(FEW)
    np.testing.assert_allclose(similarities, fit_kernel(kernel, FEW).grams.mean(axis=0))
    np.testing.assert_allclose(kernel.diagonal(), [5.0] * len(FEW))
    np.testing.assert_allclose(kernel.transform(FEW[:2]), similarities[:2])
    np.testing.assert_allclose(EditDistance(normalize=False).fit_transform(FEW), 5 * similarities)


@pytest.mark.parametrize("level", range(5))
def test_gaussian_process_finds_the_length_scale(level):
    rng = np.random.default_rng(0)
    graphs = [chain(*(f"conv.w{width}" for width in rng.integers(2, 9, rng.integers(1, 12)))) for _ in range(60)]
    grams = fit_kernel(EditDistance(), graphs).grams
    y = np.linalg.cholesky(grams[level] + 1e-8 * np.eye(60)) @ rng.normal(size=60)
    y = (y - y.mean()) / y.std()
    posterior = gp.fit(grams, np.zeros((60, 0)), np.zeros(0, dtype=bool), y, rng=rng)
    weights = np.array(posterior.hyperparameters.level_weights)
    assert abs(weights @ np.arange(5) / weights.sum() - level) < 1.01
    assert weights[max(level - 1, 0) : level + 2].sum() > 0.75 * weights.sum()


# What is remembered.


def count_distances(monkeypatch):
    counted = []

    def count(one, stack, costs):
        counted.append(len(stack.n_layers))
        return layer_distances(one, stack, costs)

    monkeypatch.setattr(sequence_distance, "layer_distances", count)
    return counted


def test_one_more_graph_costs_few_distances(monkeypatch):
    kernel = EditDistance(n_landmarks=3)
    counted = count_distances(monkeypatch)
    expected = fit_kernel(kernel, WORDS[:50]).grams
    assert sum(counted) == 3 * 50
    counted.clear()
    np.testing.assert_array_equal(fit_kernel(kernel, WORDS[:50]).grams, expected)
    assert sum(counted) == 0
    fitted = fit_kernel(kernel, [*WORDS[:50], chain("a", "d")])
    assert sum(counted) == 3
    fitted.cross(WORDS[:50])
    assert sum(counted) == 3
    fitted.cross([chain("d"), chain("d")])
    assert sum(counted) == 6  # a graph that is given twice is compared once


@unhurried
@given(st.lists(multigraphs(), min_size=4, max_size=8))
def test_small_cache_changes_nothing(graphs):
    small, large = EditDistance(cache_size=1), EditDistance()
    for kernel in (small, large):
        fit_kernel(kernel, graphs[::-1])
    np.testing.assert_array_equal(fit_kernel(small, graphs).grams, fit_kernel(large, graphs).grams)
    remembered = sum(len(network.distances) for network in small._memory._networks.values())
    assert remembered == small._memory._n_distances <= 1


def test_what_was_not_used_for_longest_is_forgotten(monkeypatch):
    kernel = EditDistance(cache_size=3)
    counted = count_distances(monkeypatch)
    a, b, c, d = (chain(label) for label in "abcd")
    kernel.distances([a, b, c], [d])
    kernel.distances([a], [d])
    kernel.distances([chain("e")], [d])  # b is forgotten
    counted.clear()
    kernel.distances([a, c], [d])
    assert not counted
    kernel.distances([b], [d])
    assert counted == [1]


def test_threads_share_distances():
    kernel = EditDistance()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: kernel.distances(WORDS[i:], WORDS[:5]), range(8)))
    expected = EditDistance().distances(WORDS, WORDS[:5])
    for i, result in enumerate(results):
        np.testing.assert_array_equal(result, expected[i:])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda kernel: pickle.loads(pickle.dumps(kernel))])
def test_copies(duplicate):
    kernel = EditDistance().fit(FEW)
    twin = duplicate(kernel)
    np.testing.assert_array_equal(twin.transform(WORDS), kernel.transform(WORDS))
    assert twin._memory._networks.keys() == kernel._memory._networks.keys()
    twin.distances([chain("new")], FEW)
    assert chain("new") not in kernel._memory._networks


def test_parameters():
    params = {"skip_weight": 2.0, "n_landmarks": 3, "lengthscales": (1.0, 2.0), "normalize": False, "cache_size": 9}
    kernel = EditDistance(**params)
    assert kernel.get_params() == params
    assert clone(kernel).get_params() == params
    skipping, plain = chain(*"aaaa", skips=[(0, 3)]), chain(*"aaaa")
    assert kernel.distances([skipping], [plain])[0, 0] == 2
    fitted = fit_kernel(kernel, [skipping, plain])
    expected = fitted.grams
    kernel.fit([plain]).set_params(skip_weight=0.5, lengthscales=(1.0,))
    assert kernel.distances([skipping], [plain])[0, 0] == 0.5
    np.testing.assert_array_equal(fitted.cross([skipping, plain]), expected)
    with pytest.raises(NotFittedError, match="call fit first"):
        kernel.transform([plain])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_landmarks": 0}, "n_landmarks must be a positive integer but got 0."),
        ({"n_landmarks": True}, "n_landmarks must be a positive integer but got True."),
        ({"cache_size": 1.5}, "cache_size must be a positive integer but got 1.5."),
        ({"skip_weight": -1}, "skip_weight must be finite and non-negative but got -1."),
        ({"skip_weight": float("nan")}, "skip_weight must be finite and non-negative but got nan."),
        ({"lengthscales": ()}, "lengthscales must be finite positive numbers but got ()."),
        ({"lengthscales": (1.0, 0.0)}, "lengthscales must be finite positive numbers but got (1.0, 0.0)."),
    ],
)
def test_parameters_out_of_range(params, message):
    for make in (lambda: EditDistance(**params), lambda: EditDistance().set_params(**params)):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            make()
