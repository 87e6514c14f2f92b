"""From an optimizer's moments of a parent's gradients to those of a child.

An entry ``r`` of a child's weights is ``a_r`` times the entry ``s(r)`` of the parent's, plus a constant
(`find_origins`). By the chain rule the gradients ``g'`` of the child's entries then satisfy, for every entry ``j`` of
the parent's,

    sum over r with s(r) = j of a_r g'_r = g_j                                                                    (1)

Where units were copied, their outgoing weights are shares of one weight behind equal activations, so their gradients
are equal. Of all solutions of (1) this takes the even one,

    g'_r = sign(a_r) g_j / sum over q with s(q) = j of |a_q|                                                      (2)

which is the one whose largest entry is smallest. It is the child's own gradient but for the incoming weights of copies,
whose exact shares depend on the batch; there it is the mean of them. Moments of the first order (SGD's momentum, Adam's
mean of gradients) go by (2), those of the second order by its square. What a morphism made anew starts with 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from optuna_nas_morph.errors import WeightsMismatchError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.morphisms import Morphism, Site, find_origins

Moments: TypeAlias = Mapping[str, Mapping[str, Tensor]]
"""By PyTorch's name of a moment (``exp_avg``), then by parameter (``conv.weight``)."""

ORDERS = {"momentum_buffer": 1, "exp_avg": 1, "exp_avg_sq": 2, "max_exp_avg_sq": 2, "step": 0}
"""The power of the gradient that a moment is a mean of; 0 for a count of steps, one per parameter."""


def check_moments(architecture: Architecture, moments: Moments) -> None:
    """Check that moments are known ones, of an architecture's parameters and of their shapes.

    Raises:
        WeightsMismatchError: Naming the first that does not fit.
    """
    for moment, tensors in moments.items():
        if moment not in ORDERS:
            raise WeightsMismatchError(f"moments must be of {sorted(ORDERS)} but got {moment!r}.")
        for name, tensor in tensors.items():
            param = architecture.params.get(name)
            if param is None or param.buffer:
                raise WeightsMismatchError(f"{moment} is of {name!r}, which is no parameter of the architecture.")
            shape = param.shape if ORDERS[moment] else ()
            if tuple(tensor.shape) != shape:
                raise WeightsMismatchError(
                    f"{moment} of {name!r} must be of shape {shape} but is of shape {tuple(tensor.shape)}."
                )


def push(
    morphism: Morphism,
    parent: Architecture,
    child: Architecture,
    site: Site,
    moments: Moments,
    rng: np.random.Generator,
) -> dict[str, dict[str, Tensor]]:
    """Moments of a child, from those of its parent.

    A parameter in which nothing comes from the parent has none, so that its optimizer counts steps from 0. Any other
    has a moment if one of its sources has it, and the largest count of steps among them.

    Args:
        morphism:
            The morphism, `Morphism.settled`.
        parent:
            Architecture that the moments belong to.
        child:
            ``morphism.apply(parent, site)``.
        site:
            Where it was applied.
        moments:
            What `check_moments` accepts.
        rng:
            In the state in which the weights are transferred; it is left as that leaves it.
    """
    found = find_origins(morphism, parent, child, site, rng)
    names = [name for name in found.sources if not child.params[name].buffer]
    n_entries = sum(math.prod(param.shape) for param in parent.params.values())
    # Position -1, the last one, is that of no source.
    totals = torch.zeros(n_entries + 1, dtype=torch.float64)
    for name in names:
        totals.index_put_((found.sources[name],), found.factors[name].abs(), accumulate=True)

    result: dict[str, dict[str, Tensor]] = {}
    for moment, tensors in moments.items():
        values, is_known = _entries(parent, tensors)
        result[moment] = {}
        for name in names:
            source = found.sources[name]
            if not is_known[source].any():
                continue
            if ORDERS[moment] == 0:
                result[moment][name] = values[source].max()
                continue
            factor = found.factors[name].sign() / totals[source].masked_fill(source < 0, 1.0)
            result[moment][name] = values[source] * (factor ** ORDERS[moment]).to(values.dtype)
    return result


def _entries(architecture: Architecture, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """One moment of all entries of an architecture's tensors, 0 where unknown, and of which it is known.

    Both have one entry more, for what has no source.
    """
    dtype = next((t.dtype for t in tensors.values()), torch.float32)
    values, is_known = [], []
    for name, param in architecture.params.items():
        size = math.prod(param.shape)
        known = name in tensors
        values.append(tensors[name].expand(param.shape).flatten() if known else torch.zeros(size, dtype=dtype))
        is_known.append(torch.full((size,), known))
    return torch.cat([*values, torch.zeros(1, dtype=dtype)]), torch.cat([*is_known, torch.zeros(1, dtype=torch.bool)])
