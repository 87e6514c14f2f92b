"""Similarity of graphs: our kernels, and any GraKeL kernel in the same slot.

Importing this package does not import GraKeL, which takes a second; the first use of a name below does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna_nas_morph.kernels.adapter import FittedKernel, check_kernel, fit_kernel, level_grams
    from optuna_nas_morph.kernels.edit_distance import EditDistance
    from optuna_nas_morph.kernels.level_kernel import FittedLevels, LevelKernel
    from optuna_nas_morph.kernels.optimal_assignment import WeisfeilerLehmanOptimalAssignment
    from optuna_nas_morph.kernels.wl import WeisfeilerLehman

__all__ = [
    "EditDistance",
    "FittedKernel",
    "FittedLevels",
    "LevelKernel",
    "WeisfeilerLehman",
    "WeisfeilerLehmanOptimalAssignment",
    "check_kernel",
    "fit_kernel",
    "level_grams",
]

_MODULES = {
    "EditDistance": "edit_distance",
    "FittedKernel": "adapter",
    "FittedLevels": "level_kernel",
    "LevelKernel": "level_kernel",
    "WeisfeilerLehman": "wl",
    "WeisfeilerLehmanOptimalAssignment": "optimal_assignment",
    "check_kernel": "adapter",
    "fit_kernel": "adapter",
    "level_grams": "adapter",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
