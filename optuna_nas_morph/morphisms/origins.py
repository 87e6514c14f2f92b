"""Where the weights of a child come from, entry by entry."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights

_EXACT = 1e-12
"""Relative error of arithmetic in float64, with some to spare."""


@dataclass(frozen=True)
class Origins:
    """What the entries of a child's floating point tensors are multiples of, up to constants.

    The entries of a parent's tensors are numbered one after another, in the order of ``parent.params``.

    Args:
        sources:
            Per tensor of the child, the number of each entry's source; -1 where there is none, or more than one.
        factors:
            Per tensor, what the source is multiplied by; 0 where there is none. float64.
    """

    sources: Mapping[str, Tensor]
    factors: Mapping[str, Tensor]


def find_origins(
    morphism: Morphism, parent: Architecture, child: Architecture, site: Site, rng: np.random.Generator
) -> Origins:
    """Ask a morphism where its weights come from.

    Every entry that `Morphism.transfer` returns is a multiple of one entry of the parent's, plus a constant, or mixes
    several (part of the contract). So weights that are all 0, all 1, and all different tell which one and what
    multiple. Those that differ are the numbers of the entries, each off by a random fraction: what mixes several may be
    near a number, but is not off by its fraction.

    Args:
        morphism:
            The morphism, `Morphism.settled`.
        parent:
            Where it was applied to.
        child:
            ``morphism.apply(parent, site)``.
        site:
            Where it was applied.
        rng:
            In the state in which the weights are transferred; it is left as that leaves it.
    """
    counters = {
        name: torch.zeros(p.shape, dtype=torch.int64) for name, p in parent.params.items() if p.dtype == "int64"
    }
    numbers: dict[str, Tensor] = {}
    n_entries = 0
    for name, param in parent.params.items():
        size = math.prod(param.shape)
        numbers[name] = torch.arange(n_entries, n_entries + size, dtype=torch.float64).reshape(param.shape)
        n_entries += size
    fractions = torch.as_tensor(np.random.default_rng(0).uniform(-0.25, 0.25, n_entries))
    for name, entries in numbers.items():
        numbers[name] = entries + fractions[entries.long()]

    def ask(weights: Weights, generator: np.random.Generator) -> dict[str, Tensor]:
        return morphism.transfer(parent, child, site, {**weights, **counters}, generator)

    zeros = ask({name: torch.zeros_like(n) for name, n in numbers.items()}, copy.deepcopy(rng))
    ones = ask({name: torch.ones_like(n) for name, n in numbers.items()}, copy.deepcopy(rng))
    numbered = ask(numbers, rng)
    sources: dict[str, Tensor] = {}
    factors: dict[str, Tensor] = {}
    for name, constant in zeros.items():
        if constant.is_floating_point():
            factor = ones[name] - constant
            is_new = factor == 0
            number = (numbered[name] - constant) / factor.masked_fill(is_new, 1.0)
            is_new |= (number < -0.5) | (number > n_entries - 0.5)
            source = number.round().long().masked_fill(is_new, 0)
            if n_entries:
                is_new |= (number - source - fractions[source]).abs() > _EXACT * (1 + number.abs())
            factors[name] = factor.masked_fill(is_new, 0.0)
            sources[name] = source.masked_fill(is_new, -1)
    return Origins(sources, factors)
