"""Weights that morphisms make: fresh draws and identities."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import Param
from optuna_nas_morph.morphisms.base import Weights

_DTYPES = {"float32": torch.float32, "int64": torch.int64, "bool": torch.bool}


def draw(param: Param, rng: np.random.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """A fresh parameter, as `Param.init` says; counters keep their integer type."""
    init = param.init
    if init.kind == "constant":
        values = np.full(param.shape, init.scale)
    elif init.kind == "uniform":
        values = rng.uniform(-init.scale, init.scale, param.shape)
    else:
        values = rng.normal(0.0, init.scale, param.shape)
    return torch.as_tensor(values).to(dtype if param.dtype == "float32" else _DTYPES[param.dtype])


def fresh_weights(architecture: Architecture, rng: np.random.Generator) -> dict[str, Tensor]:
    """Weights for training from scratch, distributed as PyTorch's own."""
    return {name: draw(param, rng) for name, param in architecture.params.items()}


def float_dtype(weights: Weights) -> torch.dtype:
    """The floating point type of a network's weights."""
    return next((w.dtype for w in weights.values() if w.is_floating_point()), torch.float32)


def extend(
    child: Architecture, weights: Weights, new: Mapping[str, Tensor], rng: np.random.Generator
) -> dict[str, Tensor]:
    """Weights of a child that kept all of its parent's nodes: the given ones, else the parent's, else drawn."""
    dtype = float_dtype(weights)
    result: dict[str, Tensor] = {}
    for name, param in child.params.items():
        if name in new:
            result[name] = new[name].to(dtype)
        elif name in weights:
            result[name] = weights[name]
        else:
            result[name] = draw(param, rng, dtype)
    return result


def take(tensor: Tensor, axis: int, sources: np.ndarray, fresh: Tensor | None) -> Tensor:
    """Entries along an axis from their old positions; those without one from another tensor.

    Args:
        tensor:
            What there is.
        axis:
            The axis that changes.
        sources:
            One old position per new entry along it; negative for none.
        fresh:
            As long as ``sources`` along that axis, and at least as long as ``tensor`` along others; what is more is not
            used. :obj:`None` where every entry has an old position.
    """
    taken = tensor.index_select(axis, torch.as_tensor(sources.clip(min=0)))
    if fresh is None:
        return taken
    for k, n in enumerate(tensor.shape):
        if k != axis:
            fresh = fresh.narrow(k, 0, n)
    new = torch.as_tensor(np.flatnonzero(sources < 0))
    return taken.index_copy(axis, new, fresh.index_select(axis, new))


def identity_kernel(n_out: int, n_in: int, kernel_size: tuple[int, ...]) -> Tensor:
    """A convolution's weight (for an empty kernel size a linear layer's) that passes channel ``i`` on as ``i``."""
    weight = torch.zeros(n_out, n_in, *kernel_size, dtype=torch.float64)
    centre = tuple(k // 2 for k in kernel_size)
    for i in range(min(n_out, n_in)):
        weight[(i, i, *centre)] = 1.0
    return weight
