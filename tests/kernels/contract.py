"""What holds for every kernel in the slot."""

from __future__ import annotations

import numpy as np
from grakel import Kernel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optuna_nas_morph.ir.labelled import LabelledGraph
from optuna_nas_morph.kernels import fit_kernel, level_grams
from tests.kernels.strategies import permutations, simple_graphs

# Subclasses inherit the tests on purpose: each is a test of its own.
inherited = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.differing_executors])


class KernelContract:
    """Subclass, and set ``kernel`` and the number of matrices that it gives.

    A kernel that sees parallel edges, loops or empty graphs may widen ``graphs``. One that learns from the graphs it is
    fitted to (landmarks, length-scales) sets ``learns``.
    """

    kernel: Kernel
    n_levels = 1
    learns = False
    graphs: st.SearchStrategy[LabelledGraph] = simple_graphs()

    @inherited
    @given(st.data())
    def test_positive_semi_definite_with_unit_diagonal(self, data):
        graphs = data.draw(st.lists(self.graphs, min_size=1, max_size=6))
        grams = fit_kernel(self.kernel, graphs).grams
        assert grams.shape == (self.n_levels, len(graphs), len(graphs))
        np.testing.assert_allclose(grams, np.swapaxes(grams, 1, 2), atol=1e-12)
        np.testing.assert_allclose(np.diagonal(grams, axis1=1, axis2=2), 1.0)
        assert np.linalg.eigvalsh(grams).min() > -1e-9

    @inherited
    @given(st.data())
    def test_order_of_nodes_does_not_matter(self, data):
        graph = data.draw(self.graphs)
        same = data.draw(permutations(graph))
        other = data.draw(self.graphs)
        grams = fit_kernel(self.kernel, [graph, same, other]).grams
        np.testing.assert_allclose(grams[:, 0, 1], 1.0)
        np.testing.assert_allclose(grams[:, 0, 2], grams[:, 1, 2])

    @inherited
    @given(st.data())
    def test_candidates_are_seen_like_training_graphs(self, data):
        train = data.draw(st.lists(self.graphs, min_size=1, max_size=4))
        candidates = data.draw(st.lists(self.graphs, min_size=1, max_size=4))
        fitted = fit_kernel(self.kernel, train)
        refitted = fit_kernel(self.kernel, train + candidates)
        n = len(train)
        np.testing.assert_allclose(fitted.cross(train), fitted.grams, atol=1e-12)
        for together in [fitted.among(train + candidates)] + [refitted.grams] * (not self.learns):
            np.testing.assert_allclose(fitted.grams, together[:, :n, :n], atol=1e-12)
            np.testing.assert_allclose(fitted.cross(candidates), together[:, n:, :n], atol=1e-12)
            np.testing.assert_allclose(fitted.among(candidates), together[:, n:, n:], atol=1e-12)
            np.testing.assert_allclose(level_grams(self.kernel, train, candidates), together[:, n:, :n], atol=1e-12)

    def test_no_candidates(self):
        fitted = fit_kernel(self.kernel, [LabelledGraph(("a", "b"), ((0, 1),))])
        assert fitted.cross([]).shape == (self.n_levels, 0, 1)
        assert fitted.among([]).shape == (self.n_levels, 0, 0)

    def test_kernel_is_not_changed(self):
        before = self.kernel.get_params()
        fit_kernel(self.kernel, [LabelledGraph(("a",), ())])
        assert self.kernel.get_params() == before
        assert self.kernel.X is None
