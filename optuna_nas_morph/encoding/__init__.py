"""Architectures as Optuna parameters, and back: one module per kind of space, with the functions below in each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution

from optuna_nas_morph.encoding import cell, morph
from optuna_nas_morph.encoding.names import PREFIX
from optuna_nas_morph.spaces import Cell, CellSpace, Descendant, MorphSpace

__all__ = ["PREFIX", "AnySpace", "Member", "complete", "decode", "distributions", "encode", "suggest"]

AnySpace = CellSpace | MorphSpace
Member = Cell | Descendant


def distributions(space: AnySpace) -> dict[str, BaseDistribution]:
    """Every parameter that a member of the space can need."""
    return cell.distributions(space) if isinstance(space, CellSpace) else morph.distributions(space)


def suggest(trial: optuna.trial.BaseTrial, space: AnySpace) -> dict[str, Any]:
    """Ask a trial for the parameters of a member.

    Raises:
        EncodingError: If a value that was enqueued or fixed is missing or is not one that the space knows.
    """
    return cell.suggest(trial, space) if isinstance(space, CellSpace) else morph.suggest(trial, space)


def decode(space: AnySpace, params: Mapping[str, Any]) -> Member:
    """The member that parameters stand for; parameters of other names are left alone.

    Raises:
        EncodingError: If a parameter is missing, is not one that the space knows, or the combination is not allowed.
    """
    return cell.decode(space, params) if isinstance(space, CellSpace) else morph.decode(space, params)


def encode(space: AnySpace, member: Member) -> dict[str, Any]:
    """Inverse of `decode` for a member of the space."""
    if isinstance(space, CellSpace):
        assert isinstance(member, Cell)
        return cell.encode(space, member)
    assert isinstance(member, Descendant)
    return morph.encode(space, member.steps)


def complete(
    space: AnySpace, member: Member, fixed: Mapping[str, Any], rng: np.random.Generator
) -> tuple[dict[str, Any], Member]:
    """Parameters of a member with those that are decided put in, and what they then stand for.

    Args:
        space:
            The space.
        member:
            Where to start.
        fixed:
            Decided parameters of the architecture.
        rng:
            Draws what the decided parameters make necessary.

    Raises:
        EncodingError: If the decided parameters are not ones that the space knows.
    """
    if isinstance(space, CellSpace):
        assert isinstance(member, Cell)
        return cell.complete(space, member, fixed, rng)
    assert isinstance(member, Descendant)
    return morph.complete(space, member, fixed, rng)
