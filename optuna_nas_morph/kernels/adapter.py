"""Any graph kernel in one slot: one Gram matrix per level, with a unit diagonal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grakel

from optuna_nas_morph.ir.labelled import LabelledGraph
from optuna_nas_morph.kernels.level_kernel import FittedLevels, Floats, LevelKernel, similarities
from optuna_nas_morph.kernels.stock import fit_stock_kernel


class FittedKernel(Protocol):
    """A kernel that knows the graphs which candidates are compared with. Made by :func:`fit_kernel`.

    All three are values of one function of two graphs, which the fit has settled.
    """

    @property
    def grams(self) -> Floats:  # (n_levels, n, n)
        """Similarities of the training graphs to each other."""

    def cross(self, candidates: Sequence[LabelledGraph]) -> Floats:  # (n_levels, m, n)
        """Return the similarities of candidates (rows) to the training graphs (columns)."""

    def among(self, candidates: Sequence[LabelledGraph]) -> Floats:  # (n_levels, m, m)
        """Return the similarities of candidates to each other."""


@dataclass(frozen=True, eq=False)
class _FittedLevelKernel:
    """A :class:`LevelKernel` and the embedded training graphs."""

    grams: Floats
    _levels: FittedLevels
    _train: Any

    def cross(self, candidates: Sequence[LabelledGraph]) -> Floats:
        return similarities(self._levels, self._levels.embed(candidates), self._train)

    def among(self, candidates: Sequence[LabelledGraph]) -> Floats:
        embedded = self._levels.embed(candidates)
        return similarities(self._levels, embedded, embedded)


def check_kernel(kernel: Any) -> None:
    """Check that an object is a graph kernel.

    Raises:
        TypeError: If ``kernel`` is not a :class:`grakel.Kernel`.
    """
    if not isinstance(kernel, grakel.Kernel):
        raise TypeError(
            "kernel must be a grakel.Kernel, such as optuna_nas_morph.kernels.WeisfeilerLehman(), "
            f"but got {kernel!r} of type {type(kernel).__name__}."
        )


def fit_kernel(kernel: Any, train: Sequence[LabelledGraph]) -> FittedKernel:
    """Fit a kernel to the training graphs.

    Every level is normalised to a unit diagonal whatever the kernel's own ``normalize`` says, so that a Gaussian
    process can give it a variance. A graph in which the kernel sees nothing is like itself only. The kernel given is
    not changed, except that ours remember the graphs they have seen.

    Args:
        kernel:
            A :class:`grakel.Kernel` on graphs with node labels. If it is a
            :class:`~optuna_nas_morph.kernels.LevelKernel` too, as ours are, it has as many levels as it says; any other
            has one. Should be positive semi-definite.
        train:
            At least one graph.

    Raises:
        TypeError: If ``kernel`` is not a :class:`grakel.Kernel`.
        ValueError: If there is no graph, or the kernel gives similarities that are not finite.
    """
    check_kernel(kernel)
    if not train:
        raise ValueError("train must hold at least one graph but is empty.")
    if not isinstance(kernel, LevelKernel):
        return fit_stock_kernel(kernel, train)
    levels = kernel.fit_levels(train)
    embedded = levels.embed(train)
    return _FittedLevelKernel(similarities(levels, embedded, embedded), levels, embedded)


def level_grams(
    kernel: Any, train: Sequence[LabelledGraph], candidates: Sequence[LabelledGraph] | None = None
) -> Floats:  # (n_levels, m, n), or (n_levels, n, n) without candidates
    """Return similarities of candidates (rows) to training graphs (columns), or of the latter to each other.

    See :func:`fit_kernel`, which saves fitting again for every set of candidates.
    """
    fitted = fit_kernel(kernel, train)
    return fitted.grams if candidates is None else fitted.cross(candidates)
