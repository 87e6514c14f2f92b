"""An open space as Optuna parameters.

``arch/n`` says how many morphisms there are. Then per step ``arch/00/op`` names the morphism and ``arch/00/at`` in
[0, 1] the site: the sites of the morphism, in their order, divide the interval evenly (`MorphSpace.nearest`). Every
point decodes, and near values are near sites. A step whose morphism fits nowhere is skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from optuna_nas_morph.encoding.names import PREFIX
from optuna_nas_morph.errors import EncodingError
from optuna_nas_morph.spaces import Descendant, MorphSpace, Step

N_STEPS = f"{PREFIX}n"


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
        EncodingError: If a value that was enqueued or fixed is missing or is not one that the space knows.
    """
    params: dict[str, Any] = {}

    def ask(name: str, answer: Callable[[], Any]) -> Any:
        try:
            params[name] = answer()
        except EncodingError:
            raise
        except (TypeError, ValueError) as e:  # From Optuna: a value that it cannot use, or none.
            raise EncodingError(
                f"{name} of trial {trial.number} must be {_rule(space, name)} but: {e} Enqueue or fix such a value."
            ) from e
        return value_of(space, params, name, f"of trial {trial.number} ")

    choices = tuple(map(str, space.morphisms))
    for i in range(ask(N_STEPS, lambda: trial.suggest_int(N_STEPS, 0, space.max_morphisms))):
        op, at = op_name(i), at_name(i)
        ask(op, partial(trial.suggest_categorical, op, choices))
        ask(at, partial(trial.suggest_float, at, 0.0, 1.0))
    return params


def decode(space: MorphSpace, params: Mapping[str, Any]) -> Descendant:
    """The architecture that parameters stand for; parameters of other names are left alone.

    Raises:
        EncodingError: If a parameter is missing or is not one that the space knows.
    """
    morphisms = {str(m): m for m in space.morphisms}
    architecture = space.seed
    steps: list[Step] = []
    for i in range(value_of(space, params, N_STEPS)):
        op, at = value_of(space, params, op_name(i)), value_of(space, params, at_name(i))
        found = space.nearest(architecture, morphisms[op], at)
        if found is not None:
            step, architecture = found
            steps.append(step)
    return Descendant(tuple(steps), architecture)


def encode(space: MorphSpace, steps: Sequence[Step]) -> dict[str, Any]:
    """Inverse of `decode` for a chain of steps of the space.

    Raises:
        MorphismError: If a step cannot be taken, or there are more than ``max_morphisms``.
    """
    params: dict[str, Any] = {N_STEPS: len(steps)}
    for i, (step, architecture) in enumerate(zip(steps, space.trace(steps), strict=False)):
        sites = space.sites(architecture, step.morphism)
        params[op_name(i)] = str(step.morphism)
        params[at_name(i)] = (sites.index(step.site) + 0.5) / len(sites)
    return params


def complete(
    space: MorphSpace, descendant: Descendant, fixed: Mapping[str, Any], rng: np.random.Generator
) -> tuple[dict[str, Any], Descendant]:
    """Parameters of an architecture with those that are decided put in, and what they then stand for.

    Raises:
        EncodingError: If a decided parameter is not one that the space knows.
    """
    params = {**encode(space, descendant.steps), **fixed}
    for i in range(value_of(space, params, N_STEPS)):
        params.setdefault(op_name(i), str(space.morphisms[int(rng.integers(len(space.morphisms)))]))
        params.setdefault(at_name(i), float(rng.random()))
    return params, decode(space, params)


def value_of(space: MorphSpace, params: Mapping[str, Any], name: str, where: str = "") -> Any:
    """A parameter of an architecture, checked.

    Args:
        space:
            The space.
        params:
            Parameters by name.
        name:
            Which one.
        where:
            For the message: whose parameters they are, such as ``"of trial 3 "``.

    Raises:
        EncodingError: If it is missing or is not one that the space knows.
    """
    if name not in params:
        raise EncodingError(f"parameters {where}must have {name!r} for an architecture but have only {sorted(params)}.")
    value = params[name]
    if name == N_STEPS:
        known = isinstance(value, int) and 0 <= value <= space.max_morphisms
    elif name.endswith("/op"):
        known = isinstance(value, str) and value in map(str, space.morphisms)
    else:
        known = isinstance(value, float | int) and 0 <= value <= 1
    if not known:
        raise EncodingError(
            f"{name} {where}must be {_rule(space, name)} but is {value!r}: enqueue or fix another value."
        )
    return value


def _rule(space: MorphSpace, name: str) -> str:
    if name == N_STEPS:
        return f"an integer from 0 to {space.max_morphisms} (max_morphisms of the space)"
    if name.endswith("/op"):
        return f"one of the morphisms of the space, {', '.join(map(str, space.morphisms))},"
    return "a number from 0 to 1"
