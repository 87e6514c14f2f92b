"""How far a search may go from a small seed, unless the user says so."""

from __future__ import annotations

from collections.abc import Sequence

from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.morphisms import Morphism
from optuna_nas_morph.spaces import MorphSpace

GROWTH = 32
"""Parameters and FLOPs may grow to this multiple of the seed's, or to the numbers below if those are larger."""
N_PARAMETERS = 1_000_000
FLOPS = 100_000_000
N_NODES = 200
"""Nodes may grow to this number, or to twice those of the seed if that is larger."""
N_MORPHISMS = 30
"""Longest chain of morphisms."""


def grown_from(
    seed: Architecture,
    morphisms: Sequence[Morphism],
    *,
    max_morphisms: int,
    max_parameters: int | None,
    max_flops: int | None,
    max_nodes: int | None,
) -> MorphSpace:
    """The space around a seed; limits that are :obj:`None` follow from its size.

    Raises:
        ValueError: As `MorphSpace`.
    """
    if max_parameters is None:
        max_parameters = max(N_PARAMETERS, GROWTH * seed.n_parameters)
    if max_flops is None:
        max_flops = max(FLOPS, GROWTH * seed.flops)
    if max_nodes is None:
        max_nodes = max(N_NODES, 2 * len(seed.nodes))
    return MorphSpace(
        seed,
        morphisms,
        max_morphisms=max_morphisms,
        max_parameters=max_parameters,
        max_flops=max_flops,
        max_nodes=max_nodes,
    )
