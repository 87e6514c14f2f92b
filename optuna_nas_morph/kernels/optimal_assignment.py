"""The Weisfeiler-Lehman optimal assignment kernel on directed multigraphs.

Kriege, Giscard and Wilson, On Valid Optimal Assignment Kernels and Applications to Graph Classification, NeurIPS 2016,
Section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from optuna_nas_morph.ir.labelled import LabelledGraph
from optuna_nas_morph.kernels.level_kernel import Floats
from optuna_nas_morph.kernels.wl import CountLevels, WeisfeilerLehman


class WeisfeilerLehmanOptimalAssignment(WeisfeilerLehman):
    """Match the nodes of two graphs so that matched neighbourhoods agree as deeply as possible.

    The similarity of two nodes is the number of levels on which the Weisfeiler-Lehman test gives them the same label.
    Labels of one level refine those of the level before, so this is a strong kernel, and the sum over the pairs of the
    best matching is a histogram intersection (Section 3 of the paper): ``sum_f min(count_f(x), count_f(y))``, here
    level by level. The subtree kernel multiplies counts instead, so frequent features outweigh the others; in a
    matching every node counts once.

    Vocabulary, arguments and what can be read back are those of :class:`WeisfeilerLehman`. On simple graphs with
    ``direction="out"`` the sum over the levels equals GraKeL's kernel of the same name.
    """

    def fit_levels(self, train: Sequence[LabelledGraph]) -> CountLevels:
        self._check_params()
        return IntersectionLevels(self._vocabulary, self.n_iter, self.cache_size)

    @staticmethod
    def overlap(a: Floats, b: Floats) -> Floats:
        return np.minimum(a, b)


class IntersectionLevels(CountLevels):
    """The kernel as a function: on each level, the intersection of histograms.

    It is an inner product after unary expansion: ``min(a, b) = sum_t [a >= t] [b >= t]`` for ``t = 1, 2, ...``
    """

    def blocks(self, counts: Any) -> list[Any]:  # counts: (n, n_features); block t - 1: [counts >= t]
        highest = int(counts.data.max(initial=1))
        return [sparse.csr_array(counts >= t, dtype=float) for t in range(1, highest + 1)]
