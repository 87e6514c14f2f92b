"""A closed space as Optuna parameters: choice ``name`` is the categorical parameter ``arch/<name>``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution

from optuna_nas_morph.encoding.names import PREFIX
from optuna_nas_morph.errors import EncodingError
from optuna_nas_morph.spaces import Cell, CellSpace

_N_DRAWS = 1000
_N_LISTED = 100_000


def distributions(space: CellSpace) -> dict[str, BaseDistribution]:
    """The parameters of a cell."""
    return {f"{PREFIX}{name}": CategoricalDistribution(values) for name, values in space.choices.items()}


def suggest(trial: optuna.trial.BaseTrial, space: CellSpace) -> dict[str, Any]:
    """Ask a trial for the parameters of a cell.

    Raises:
        EncodingError: If a value that was enqueued or fixed is missing or is not one that the space knows.
    """
    params: dict[str, Any] = {}
    for name, values in space.choices.items():
        try:
            params[f"{PREFIX}{name}"] = trial.suggest_categorical(f"{PREFIX}{name}", values)
        except (TypeError, ValueError) as e:  # From Optuna: a value that it cannot use, or none.
            raise EncodingError(f"{PREFIX}{name} of trial {trial.number} must be one of {values} but: {e}") from e
    return params


def decode(space: CellSpace, params: Mapping[str, Any]) -> Cell:
    """The cell that parameters stand for; parameters of other names are left alone.

    Raises:
        EncodingError: If a parameter is missing, is not one that the space knows, or the combination is not allowed.
    """
    n = len(PREFIX)
    try:
        return space.cell({name[n:]: value for name, value in params.items() if name.startswith(PREFIX)})
    except ValueError as e:
        raise EncodingError(f"the parameters {dict(params)} are no cell of the space: {e}") from e


def encode(space: CellSpace, cell: Cell) -> dict[str, Any]:
    """Inverse of `decode`."""
    return {f"{PREFIX}{name}": value for name, value in space.choices_of(cell).items()}


def complete(
    space: CellSpace, cell: Cell, fixed: Mapping[str, Any], rng: np.random.Generator
) -> tuple[dict[str, Any], Cell]:
    """A cell with decided parameters put in, and what it then is; another one where that is not allowed.

    Raises:
        EncodingError: If no allowed cell was found that has the decided parameters.
    """
    reason: EncodingError | None = None
    for start in _starts(space, cell, rng):
        params = {**encode(space, start), **fixed}
        try:
            return params, decode(space, params)
        except EncodingError as e:
            reason = e
    assert reason is not None
    raise reason


def _starts(space: CellSpace, cell: Cell, rng: np.random.Generator) -> Iterator[Cell]:
    """The cell, random ones, and then all where those are not too many."""
    yield cell
    yield from (space.random(rng) for _ in range(_N_DRAWS))
    if space.size <= _N_LISTED:
        yield from space.members()
