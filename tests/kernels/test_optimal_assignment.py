from __future__ import annotations

from collections import Counter

import grakel
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from sklearn.base import clone

from optuna_nas_morph.ir.labelled import LabelledGraph
from optuna_nas_morph.kernels import WeisfeilerLehman, WeisfeilerLehmanOptimalAssignment
from tests.kernels.contract import KernelContract
from tests.kernels.strategies import multigraphs, simple_graphs, symmetric_graphs
from tests.kernels.test_wl import assert_equal_to_grakel

unhurried = settings(deadline=None)


class TestOptimalAssignment(KernelContract):
    kernel = WeisfeilerLehmanOptimalAssignment()
    n_levels = 3
    graphs = multigraphs()


class TestOutOnly(KernelContract):
    kernel = WeisfeilerLehmanOptimalAssignment(n_iter=1, normalize=False, direction="out")
    n_levels = 2
    graphs = multigraphs()


def labels_of(graph, n_iter, direction):
    """Per level, the label of every node, written out in full."""
    levels = [list(graph.labels)]
    for _ in range(n_iter):
        last = levels[-1]
        now = []
        for node, own in enumerate(last):
            before = sorted(last[s] for s, t in graph.edges if t == node and direction == "both")
            now.append(f"{own} <- {before} -> {sorted(last[t] for s, t in graph.edges if s == node)}")
        levels.append(now)
    return levels


@unhurried
@given(multigraphs(), multigraphs(), st.integers(0, 2), st.sampled_from(["both", "out"]))
def test_histogram_intersection(x, y, n_iter, direction):
    kernel = WeisfeilerLehmanOptimalAssignment(n_iter, normalize=False, direction=direction)
    levels = zip(labels_of(x, n_iter, direction), labels_of(y, n_iter, direction), strict=True)
    expected = [(Counter(of_x) & Counter(of_y)).total() for of_x, of_y in levels]
    np.testing.assert_array_equal(kernel.level_grams([x], [y])[:, 0, 0], expected)


@unhurried
@given(multigraphs(), multigraphs())
def test_best_matching_of_nodes(x, y):
    of_x, of_y = (np.array(labels_of(graph, 2, "both")) for graph in (x, y))
    agree = (of_x[:, :, None] == of_y[:, None, :]).sum(axis=0)  # on how many levels two nodes have the same label
    best = agree[linear_sum_assignment(agree, maximize=True)].sum()
    kernel = WeisfeilerLehmanOptimalAssignment(2, normalize=False)
    assert kernel.fit([y]).transform([x])[0, 0] == best


some = st.lists(simple_graphs(), min_size=1, max_size=5)
some_symmetric = st.lists(symmetric_graphs(), min_size=1, max_size=5)


@unhurried
@given(some, some, st.integers(1, 3), st.booleans())
def test_equal_to_grakel_on_simple_graphs(train, candidates, n_iter, normalize):
    ours = WeisfeilerLehmanOptimalAssignment(n_iter, normalize, direction="out")
    stock = grakel.WeisfeilerLehmanOptimalAssignment(n_iter=n_iter, normalize=normalize)
    assert_equal_to_grakel(ours, stock, train, candidates)


@unhurried
@given(some_symmetric, some_symmetric, st.integers(1, 3), st.booleans())
def test_equal_to_grakel_on_symmetric_graphs(train, candidates, n_iter, normalize):
    ours = WeisfeilerLehmanOptimalAssignment(n_iter, normalize)
    stock = grakel.WeisfeilerLehmanOptimalAssignment(n_iter=n_iter, normalize=normalize)
    assert_equal_to_grakel(ours, stock, train, candidates)


def test_every_node_counts_once():
    one, many = LabelledGraph(("a", "b"), ()), LabelledGraph(("a",) * 9 + ("b",), ())
    raw = WeisfeilerLehmanOptimalAssignment(0, normalize=False).level_grams([one, many])[0]
    np.testing.assert_array_equal(raw, [[2, 2], [2, 10]])
    np.testing.assert_array_equal(WeisfeilerLehman(0, normalize=False).level_grams([one, many])[0], [[2, 10], [10, 82]])


def test_many_features_are_multiplied_like_few(monkeypatch):
    rng = np.random.default_rng(0)
    graphs = [LabelledGraph(tuple(map(str, rng.integers(0, 30, 40))), ()) for _ in range(20)]
    for kernel in (WeisfeilerLehman(0), WeisfeilerLehmanOptimalAssignment(0)):
        dense = kernel.level_grams(graphs)
        with monkeypatch.context() as patch:
            patch.setattr("optuna_nas_morph.kernels.wl._DENSE", 0)
            np.testing.assert_allclose(kernel.level_grams(graphs), dense)


def test_features_are_those_of_weisfeiler_lehman():
    graph = LabelledGraph(("in", "conv", "conv"), ((0, 1), (0, 2)))
    kernel = WeisfeilerLehmanOptimalAssignment()
    assert kernel.features(graph) == WeisfeilerLehman().features(graph)
    (feature,) = (f for f, n in kernel.features(graph)[1].items() if n == 2)
    assert kernel.describe(1, feature) == "conv <- [in]"
    assert kernel.motif(1, feature) == LabelledGraph(("conv", "in"), ((1, 0),))
    params = {"n_iter": 1, "normalize": False, "direction": "out", "cache_size": 7}
    assert clone(WeisfeilerLehmanOptimalAssignment(**params)).get_params() == params
