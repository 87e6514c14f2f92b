from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import grakel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from optuna_nas_morph.ir.labelled import LabelledGraph
from optuna_nas_morph.kernels import WeisfeilerLehman
from tests.kernels.contract import KernelContract
from tests.kernels.strategies import multigraphs, simple_graphs, symmetric_graphs

unhurried = settings(deadline=None)

EMPTY = LabelledGraph((), ())
CHAIN = LabelledGraph(("in", "conv", "relu", "out"), ((0, 1), (1, 2), (2, 3)))


def to_grakel(graph):
    edges = {node: {} for node in range(len(graph.labels))}
    for source, target in graph.edges:
        edges[source][target] = 1.0
    return edges, dict(enumerate(graph.labels))


class TestWeisfeilerLehman(KernelContract):
    kernel = WeisfeilerLehman()
    n_levels = 3
    graphs = multigraphs()


class TestOutOnly(KernelContract):
    kernel = WeisfeilerLehman(n_iter=1, direction="out")
    n_levels = 2
    graphs = multigraphs()


class TestLabelsOnly(KernelContract):
    kernel = WeisfeilerLehman(n_iter=0)
    graphs = multigraphs()


def assert_equal_to_grakel(ours, stock, train, candidates):
    expected = stock.fit_transform([to_grakel(graph) for graph in train])
    np.testing.assert_allclose(ours.fit_transform(train), expected)
    np.testing.assert_allclose(ours.diagonal(), stock.diagonal())
    np.testing.assert_allclose(ours.transform(candidates), stock.transform([to_grakel(g) for g in candidates]))
    for diagonal, expected in zip(ours.diagonal(), stock.diagonal(), strict=True):
        np.testing.assert_allclose(diagonal, expected)


some = st.lists(simple_graphs(), min_size=1, max_size=5)
some_symmetric = st.lists(symmetric_graphs(), min_size=1, max_size=5)


@unhurried
@given(some, some, st.integers(1, 3), st.booleans())
def test_equal_to_grakel_on_simple_graphs(train, candidates, n_iter, normalize):
    ours = WeisfeilerLehman(n_iter, normalize, direction="out")
    ours.fit(candidates)  # whatever was fitted before does not matter
    assert_equal_to_grakel(ours, grakel.WeisfeilerLehman(n_iter=n_iter, normalize=normalize), train, candidates)


@unhurried
@given(some_symmetric, some_symmetric, st.integers(1, 3), st.booleans())
def test_equal_to_grakel_on_symmetric_graphs(train, candidates, n_iter, normalize):
    ours, stock = WeisfeilerLehman(n_iter, normalize), grakel.WeisfeilerLehman(n_iter=n_iter, normalize=normalize)
    assert_equal_to_grakel(ours, stock, train, candidates)


@unhurried
@given(some, some, st.booleans())
def test_no_iteration_is_the_vertex_histogram(train, candidates, normalize):
    ours, stock = WeisfeilerLehman(0, normalize), grakel.VertexHistogram(normalize=normalize)
    assert_equal_to_grakel(ours, stock, train, candidates)


@unhurried
@given(some, some)
def test_grakel_input_formats(train, candidates):
    ours = WeisfeilerLehman()
    expected = ours.fit_transform(train), ours.transform(candidates)
    other = WeisfeilerLehman()
    np.testing.assert_allclose(other.fit_transform(to_grakel(graph) for graph in train), expected[0])
    graphs = [grakel.Graph(*to_grakel(graph)) for graph in candidates]
    np.testing.assert_allclose(other.transform(graphs), expected[1])
    n = len(train[0].labels)
    adjacency = np.zeros((n, n))
    for source, target in train[0].edges:
        adjacency[source, target] = 1
    assert other.parse_input([[adjacency, dict(enumerate(train[0].labels))]])[0].labels == train[0].labels
    np.testing.assert_allclose(other.transform([[adjacency, dict(enumerate(train[0].labels))]])[0], expected[0][0])


@unhurried
@given(st.lists(multigraphs(), min_size=1, max_size=4), st.booleans())
def test_sum_of_levels_is_the_kernel(graphs, direction_is_both):
    kernel = WeisfeilerLehman(3, normalize=False, direction="both" if direction_is_both else "out")
    np.testing.assert_allclose(kernel.level_grams(graphs).sum(axis=0), kernel.fit_transform(graphs))
    np.testing.assert_allclose(kernel.level_grams(graphs, graphs[:1])[:, :, 0], kernel.level_grams(graphs)[:, :, 0])


def test_direction_and_parallel_edges_count():
    fork = LabelledGraph(("a", "b", "b"), ((0, 1), (0, 2)))
    join = LabelledGraph(("a", "b", "b"), ((1, 0), (2, 0)))
    grams = WeisfeilerLehman(1).level_grams([fork, join])
    assert grams[0, 0, 1] == pytest.approx(1.0)
    assert grams[1, 0, 1] == 0.0
    once, twice = (LabelledGraph(("a", "b"), ((0, 1),) * n) for n in (1, 2))
    assert WeisfeilerLehman(1).level_grams([once, twice])[1, 0, 1] == 0.0


def test_empty_graph():
    kernel = WeisfeilerLehman()
    np.testing.assert_allclose(kernel.fit_transform([EMPTY, CHAIN, EMPTY]), [[1, 0, 1], [0, 1, 0], [1, 0, 1]])
    np.testing.assert_array_equal(kernel.transform([EMPTY]), [[1, 0, 1]])
    np.testing.assert_array_equal(WeisfeilerLehman(normalize=False).fit_transform([EMPTY, CHAIN]), [[0, 0], [0, 12]])


def test_features_and_their_descriptions():
    kernel = WeisfeilerLehman(n_iter=2)
    by_level = [
        {kernel.describe(level, feature): count for feature, count in counts.items()}
        for level, counts in enumerate(kernel.features(LabelledGraph(("in", "conv", "conv"), ((0, 1), (0, 2)))))
    ]
    assert by_level[0] == {"in": 1, "conv": 2}
    assert by_level[1] == {"in -> [conv, conv]": 1, "conv <- [in]": 2}
    assert by_level[2] == {"in -> [conv <- [in], conv <- [in]]": 1, "conv <- [in -> [conv, conv]]": 2}


@unhurried
@given(multigraphs(min_nodes=1), st.sampled_from(["both", "out"]))
def test_motif_has_its_feature(graph, direction):
    kernel = WeisfeilerLehman(2, direction=direction)
    for level, counts in enumerate(kernel.features(graph)):
        for feature in counts:
            motif = kernel.motif(level, feature)
            assert feature in kernel.features(motif)[level]
            assert motif.labels[0] == kernel.describe(level, feature).split(" ")[0]


def test_motif_is_the_neighbourhood():
    kernel = WeisfeilerLehman()
    features = kernel.features(CHAIN)
    (feature,) = (f for f in features[1] if kernel.describe(1, f) == "conv <- [in] -> [relu]")
    assert kernel.motif(1, feature) == LabelledGraph(("conv", "in", "relu"), ((1, 0), (0, 2)))
    triangle = LabelledGraph(("a", "b", "c"), ((0, 1), (0, 2), (1, 2)))
    (feature,) = (f for f in kernel.features(triangle)[1] if kernel.describe(1, f) == "a -> [b, c]")
    assert kernel.motif(1, feature).edges == ((0, 1), (0, 2))  # the edge from b to c is two steps away


def test_unknown_features():
    kernel = WeisfeilerLehman(n_iter=0, cache_size=1)
    kernel.features(LabelledGraph(("a",), ()))
    with pytest.raises(ValueError, match="feature must be one of 1 on level 0 but got 1"):
        kernel.describe(0, 1)
    with pytest.raises(ValueError, match="level must be between 0 and 0 but got 1"):
        kernel.motif(1, 0)
    kernel.features(LabelledGraph(("b",), ()))
    with pytest.raises(ValueError, match="feature 0 of level 0 is in no remembered graph"):
        kernel.motif(0, 0)
    assert kernel.describe(0, 0) == "a"


def test_seen_graphs_are_not_relabelled(monkeypatch):
    kernel = WeisfeilerLehman()
    expected = kernel.fit_transform([CHAIN, EMPTY])

    def fail(*args):
        raise AssertionError("relabelled again")

    monkeypatch.setattr("optuna_nas_morph.kernels.vocabulary.Vocabulary._relabel", fail)
    np.testing.assert_array_equal(kernel.fit_transform([CHAIN, EMPTY]), expected)
    np.testing.assert_array_equal(kernel.set_params(n_iter=1).fit([EMPTY]).transform([CHAIN]), [[0.0]])


@unhurried
@given(st.lists(multigraphs(), min_size=4, max_size=8))
def test_small_cache_changes_nothing(graphs):
    small, large = WeisfeilerLehman(cache_size=1), WeisfeilerLehman()
    np.testing.assert_array_equal(small.level_grams(graphs), large.level_grams(graphs))
    assert len(small._vocabulary._counts) == 1


def test_parameters():
    kernel = WeisfeilerLehman(n_iter=1, normalize=False, direction="out", cache_size=7)
    params = {"n_iter": 1, "normalize": False, "direction": "out", "cache_size": 7}
    assert kernel.get_params() == params
    assert clone(kernel).get_params() == params
    kernel.fit([CHAIN])
    kernel.set_params(n_iter=3, direction="both")
    with pytest.raises(NotFittedError, match="call fit first"):
        kernel.transform([CHAIN])
    expected = WeisfeilerLehman(n_iter=3, normalize=False).fit_transform([CHAIN])
    np.testing.assert_array_equal(kernel.fit_transform([CHAIN]), expected)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_iter": -1}, "n_iter must be a non-negative integer but got -1."),
        ({"n_iter": 1.5}, "n_iter must be a non-negative integer but got 1.5."),
        ({"n_iter": True}, "n_iter must be a non-negative integer but got True."),
        ({"cache_size": 0}, "cache_size must be a positive integer but got 0."),
        ({"direction": "in"}, "direction must be 'both' or 'out' but got 'in'."),
    ],
)
def test_parameters_out_of_range(params, message):
    for make in (lambda: WeisfeilerLehman(**params), lambda: WeisfeilerLehman().set_params(**params)):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            make()


def test_wrong_input():
    kernel = WeisfeilerLehman()
    with pytest.raises(NotFittedError, match="call fit first"):
        kernel.diagonal()
    with pytest.raises(ValueError, match="X must hold at least one graph but is empty"):
        kernel.fit([])
    with pytest.raises(TypeError, match="X must be an iterable of graphs but got int"):
        kernel.fit(3)
    with pytest.raises(TypeError, match=r"X must hold LabelledGraphs, .* but got 3 of type int"):
        kernel.fit([3])
    with pytest.raises(ValueError, match=r"Every node must have a label but the edge \(0, 1\)"):
        kernel.fit([[{0: {1: 1.0}, 1: {}}, {0: "a"}]])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda kernel: pickle.loads(pickle.dumps(kernel))])
def test_copies_keep_features(duplicate):
    kernel = WeisfeilerLehman().fit([CHAIN])
    twin = duplicate(kernel)
    assert twin.features(CHAIN) == kernel.features(CHAIN)
    twin.features(LabelledGraph(("new",), ()))
    with pytest.raises(ValueError, match="feature must be one of 4 on level 0"):
        kernel.describe(0, 4)


def test_threads_share_a_vocabulary():
    rng = np.random.default_rng(0)
    graphs = [
        LabelledGraph(tuple(map(str, rng.integers(0, 50, 8))), tuple((i, i + 1) for i in range(7))) for _ in range(300)
    ]
    kernel = WeisfeilerLehman()
    with ThreadPoolExecutor(8) as pool:
        grams = list(pool.map(lambda _: kernel.level_grams(graphs), range(8)))
    expected = WeisfeilerLehman().level_grams(graphs)
    for gram in grams:
        np.testing.assert_allclose(gram, expected)


def test_importing_the_package_does_not_import_grakel():
    code = "import sys, optuna_nas_morph.kernels, optuna_nas_morph.gp, optuna_nas_morph.acquisition; "
    code += (
        "assert 'grakel' not in sys.modules; optuna_nas_morph.kernels.WeisfeilerLehman; assert 'grakel' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
