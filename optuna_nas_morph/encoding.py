"""An open space as Optuna parameters.

``arch/n`` says how many morphisms there are. Then per step ``arch/00/op`` names the morphism and ``arch/00/at`` in
[0, 1] the site: the sites of the morphism, in their order, divide the interval evenly (`MorphSpace.nearest`). Every
point decodes, and near values are near sites. A step whose morphism fits nowhere is skipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from optuna_nas_morph.errors import EncodingError
from optuna_nas_morph.space import Descendant, MorphSpace, Step

PREFIX = "arch/"
N_STEPS = "arch/n"


def op_name(i: int) -> str:
    """Name of the parameter that says which morphism step ``i`` applies."""
    return f"arch/{i:02d}/op"


def at_name(i: int) -> str:
    """Name of the parameter that says where step ``i`` applies."""
    return f"arch/{i:02d}/at"


def distributions(space: MorphSpace) -> dict[str, BaseDistribution]:
    """Every parameter that an architecture of the space can need."""
    result: dict[str, BaseDistribution] = {N_STEPS: IntDistribution(0, space.max_morphisms)}
    ops = CategoricalDistribution(tuple(map(str, space.morphisms)))
    for i in range(space.max_morphisms):
        result[op_name(i)] = ops
        result[at_name(i)] = FloatDistribution(0.0, 1.0)
    return result


def suggest(trial: optuna.trial.BaseTrial, space: MorphSpace) -> dict[str, Any]:
    """Ask a trial for the parameters of an architecture.

    Raises:
        EncodingError: If a value that was enqueued or fixed is not one that the space knows.
    """
    params: dict[str, Any] = {N_STEPS: trial.suggest_int(N_STEPS, 0, space.max_morphisms)}
    if not 0 <= params[N_STEPS] <= space.max_morphisms:
        raise EncodingError(
            f"{N_STEPS} must be an integer from 0 to {space.max_morphisms} (max_morphisms of the space) but trial "
            f"{trial.number} has {params[N_STEPS]!r}: enqueue it with another value."
        )
    choices = tuple(map(str, space.morphisms))
    for i in range(params[N_STEPS]):
        try:
            params[op_name(i)] = trial.suggest_categorical(op_name(i), choices)
        except ValueError as e:
            raise EncodingError(
                f"{op_name(i)} of trial {trial.number} must be one of the morphisms of the space, "
                f"{', '.join(choices)}: {e}"
            ) from e
        params[at_name(i)] = at = trial.suggest_float(at_name(i), 0.0, 1.0)
        if not 0 <= at <= 1:
            raise EncodingError(f"{at_name(i)} of trial {trial.number} must be from 0 to 1 but is {at!r}.")
    return params


def decode(space: MorphSpace, params: Mapping[str, Any]) -> Descendant:
    """The architecture that parameters stand for; parameters of other names are left alone.

    Raises:
        EncodingError: If a parameter is missing or is not one that the space knows.
    """
    morphisms = {str(m): m for m in space.morphisms}
    architecture = space.seed
    steps: list[Step] = []
    for i in range(_get(params, N_STEPS)):
        name = _get(params, op_name(i))
        if name not in morphisms:
            raise EncodingError(f"{op_name(i)} must be one of {sorted(morphisms)} but is {name!r}.")
        found = space.nearest(architecture, morphisms[name], _get(params, at_name(i)))
        if found is not None:
            step, architecture = found
            steps.append(step)
    return Descendant(tuple(steps), architecture)


def encode(space: MorphSpace, steps: Sequence[Step]) -> dict[str, Any]:
    """Inverse of `decode` for a chain of steps of the space.

    Raises:
        MorphismError: If a step cannot be taken, or there are more than ``max_morphisms``.
    """
    space.replay(steps)
    params: dict[str, Any] = {N_STEPS: len(steps)}
    architecture = space.seed
    for i, step in enumerate(steps):
        sites = step.morphism.sites(architecture)
        params[op_name(i)] = str(step.morphism)
        params[at_name(i)] = (sites.index(step.site) + 0.5) / len(sites)
        architecture = space.apply(architecture, step)
    return params


def _get(params: Mapping[str, Any], name: str) -> Any:
    if name not in params:
        raise EncodingError(f"parameters of an architecture need {name!r} but have only {sorted(params)}.")
    return params[name]
