"""Similarity of graphs: our Weisfeiler-Lehman kernel, and any GraKeL kernel in the same slot.

Importing this package does not import GraKeL, which takes a second; the first use of a name below does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna_nas_morph.kernels.adapter import FittedKernel, check_kernel, fit_kernel, level_grams
    from optuna_nas_morph.kernels.wl import WeisfeilerLehman

__all__ = ["FittedKernel", "WeisfeilerLehman", "check_kernel", "fit_kernel", "level_grams"]

_MODULES = {
    "FittedKernel": "adapter",
    "WeisfeilerLehman": "wl",
    "check_kernel": "adapter",
    "fit_kernel": "adapter",
    "level_grams": "adapter",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
