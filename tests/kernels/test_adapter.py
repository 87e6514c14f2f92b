from __future__ import annotations

import grakel
import numpy as np
import pytest

from optuna_nas_morph.ir.labelled import LabelledGraph
from optuna_nas_morph.kernels import (
    EditDistance,
    LevelKernel,
    WeisfeilerLehman,
    WeisfeilerLehmanOptimalAssignment,
    fit_kernel,
    level_grams,
)
from optuna_nas_morph.kernels.vocabulary import Vocabulary
from tests.kernels.contract import KernelContract

CHAIN = LabelledGraph(("a", "b", "c"), ((0, 1), (1, 2)))
SKIP = LabelledGraph(("a", "b", "c"), ((0, 1), (1, 2), (0, 2)))


class TestVertexHistogram(KernelContract):
    kernel = grakel.VertexHistogram()


class TestGrakelWeisfeilerLehman(KernelContract):
    kernel = grakel.WeisfeilerLehman(n_iter=2, normalize=True)


class TestGrakelOptimalAssignment(KernelContract):
    kernel = grakel.WeisfeilerLehmanOptimalAssignment(n_iter=2)


class TestShortestPath(KernelContract):
    kernel = grakel.ShortestPath()


class TestUnnormalisedWeisfeilerLehman(KernelContract):
    kernel = WeisfeilerLehman(normalize=False)
    n_levels = 3


def test_normalisation_is_the_kernels_own():
    graphs = [CHAIN, SKIP, LabelledGraph(("a", "a"), ((0, 1),))]
    stock = grakel.WeisfeilerLehman(n_iter=2, normalize=True)
    data = [({0: {1: 1}, 1: {2: 1}, 2: {}}, dict(enumerate("abc")))]
    data += [({0: {1: 1, 2: 1}, 1: {2: 1}, 2: {}}, dict(enumerate("abc")))]
    data += [({0: {1: 1}, 1: {}}, dict(enumerate("aa")))]
    np.testing.assert_allclose(level_grams(stock, graphs)[0], stock.fit_transform(data))


def test_graph_without_features_is_like_itself_only():
    node, other = LabelledGraph(("a",), ()), LabelledGraph(("b",), ())
    grams = level_grams(grakel.ShortestPath(), [CHAIN, node, other])[0]  # a lone node has no path
    np.testing.assert_allclose(grams, [[1, 0, 0], [0, 1, 1], [0, 1, 1]])


def test_random_kernel_compares_candidates_as_it_was_fitted():
    kernel = grakel.Propagation(w=10, random_state=1)  # draws numbers for the labels that it is fitted to
    shapes = {
        "bc": [(0, 1)],
        "ccb": [(0, 1), (1, 2)],
        "bbc": [(0, 1), (1, 2)],
        "cbb": [(0, 1), (0, 2)],
        "cbcb": [(0, 1), (1, 2), (2, 3)],
    }
    some = [LabelledGraph(tuple(labels), tuple(edges)) for labels, edges in shapes.items()]
    fitted = fit_kernel(kernel, [CHAIN, *some])
    assert np.abs(fit_kernel(kernel, some).grams - fitted.grams[:, 1:, 1:]).max() > 0.01
    np.testing.assert_allclose(fitted.among(some), fitted.grams[:, 1:, 1:])


def test_kernel_that_depends_on_the_training_graphs():
    kernel, fork = grakel.OddSth(), LabelledGraph(("b", "b", "a"), ((0, 1), (0, 2)))
    cyclic = LabelledGraph(("b", "a", "d", "d"), ((0, 1), (0, 2), (0, 3), (3, 0)))
    together = fit_kernel(kernel, [CHAIN, SKIP, cyclic, fork]).grams
    assert np.abs(fit_kernel(kernel, [cyclic, fork]).grams - together[:, 2:, 2:]).max() > 0.01
    fitted = fit_kernel(kernel, [CHAIN, SKIP])
    np.testing.assert_allclose(fitted.cross([cyclic, fork]), together[:, 2:, :2])
    np.testing.assert_allclose(fitted.among([cyclic, fork]), together[:, 2:, 2:])


def test_fitted_kernel_does_not_change_with_the_kernel():
    kernel = WeisfeilerLehman()
    fitted = fit_kernel(kernel, [CHAIN, SKIP])
    kernel.set_params(n_iter=0, direction="out", normalize=False)
    np.testing.assert_array_equal(fitted.cross([CHAIN, SKIP]), fitted.grams)


def test_training_graphs_are_read_once(monkeypatch):
    fitted = fit_kernel(WeisfeilerLehman(), [CHAIN, SKIP])
    expected = fitted.cross([SKIP])
    read = []
    counts = Vocabulary.counts
    monkeypatch.setattr(
        Vocabulary, "counts", lambda self, graph, *args: read.append(graph) or counts(self, graph, *args)
    )
    np.testing.assert_array_equal(fitted.cross([SKIP]), expected)
    assert read == [SKIP]


def test_which_kernels_have_levels():
    ours = [WeisfeilerLehman(), WeisfeilerLehmanOptimalAssignment(), EditDistance()]
    assert all(isinstance(kernel, LevelKernel) for kernel in ours)
    assert not isinstance(grakel.WeisfeilerLehman(), LevelKernel)


def test_random_kernel_with_a_seed():
    kernel = grakel.Propagation(random_state=1)
    np.testing.assert_array_equal(level_grams(kernel, [CHAIN, SKIP]), level_grams(kernel, [CHAIN, SKIP]))


@pytest.mark.parametrize("wrong", [None, "wl", WeisfeilerLehman, np.eye(2)])
def test_not_a_kernel(wrong):
    with pytest.raises(TypeError, match=r"(?s)kernel must be a grakel\.Kernel, such as .* but got .* of type "):
        fit_kernel(wrong, [CHAIN])


def test_no_graphs():
    with pytest.raises(ValueError, match="train must hold at least one graph but is empty"):
        fit_kernel(WeisfeilerLehman(), [])


class _NotFinite(grakel.VertexHistogram):
    def _calculate_kernel_matrix(self, Y=None):
        return np.full((len(self.X.toarray() if self.sparse_ else self.X),) * 2, np.nan)


def test_similarities_that_are_not_finite():
    with pytest.raises(ValueError, match="kernel must give finite similarities but _NotFinite"):
        fit_kernel(_NotFinite(), [CHAIN, SKIP])


def test_unnormalised_kernel_shares_its_memory():
    kernel = WeisfeilerLehman(normalize=False)
    fit_kernel(kernel, [CHAIN])
    assert kernel.motif(0, 0) == LabelledGraph(("a",), ())
