"""Why a trial is predicted as it is, and what to change."""

from __future__ import annotations

from typing import Any

import numpy as np
from optuna.trial import FrozenTrial
from scipy.stats import norm

from optuna_nas_morph.encoding import AnySpace, Member
from optuna_nas_morph.interpret.contributions import contributions
from optuna_nas_morph.interpret.effects import contrasts, in_units
from optuna_nas_morph.interpret.explanation import Contribution, NextStep, TrialExplanation
from optuna_nas_morph.interpret.model import Model
from optuna_nas_morph.spaces import Cell, CellSpace, Descendant, Space


def explain_trial(model: Model, kernel: Any, trial: FrozenTrial, level: float) -> TrialExplanation:
    """The trial part of `optuna_nas_morph.interpret.explain`.

    Raises:
        ValueError: If the trial is not one that the surrogate has seen.
    """
    observation = next((o for o in model.observed if o.number == trial.number), None)
    if observation is None or observation.member is None:
        raise ValueError(
            f"trial must be a trial of the study with values and an architecture, but trial {trial.number} is not."
        )
    vector = model.encoder.cube.encode(observation.hyperparameters)[None, :]
    point = model.points([observation.member], vector)
    (mean,), ((variance,),) = model.surrogate.joint(point)
    width = norm.ppf(0.5 + level / 2) * np.sqrt(max(variance, 0.0))
    baseline, prediction, *interval = map(float, model.in_units(np.array([0.0, mean, mean - width, mean + width])))
    shares, levels, rest = contributions(model, kernel, point)
    parts = [(kernel.describe(*feature), share) for feature, share in shares.items()]
    parts += [(f"graph, level {i}", share) for i, share in enumerate(levels)]
    parts.append(("hyperparameters, size and training", rest))
    # The scale is not linear: shares on it are told in the user's units in proportion, so that they add up there too.
    unit = (prediction - baseline) / mean if abs(mean) > 1e-12 else 0.0
    told = sorted((Contribution(part, share * unit) for part, share in parts), key=lambda c: -abs(c.value))
    i = model.observed.index(observation)
    return TrialExplanation(
        trial.number,
        None if observation.is_partial else float(model.values[i]),
        prediction,
        min(interval),
        max(interval),
        baseline,
        tuple(told),
        tuple(_next_steps(model, observation.member, vector, float(mean), level)),
        level,
    )


def _next_steps(model: Model, member: Member, vector: np.ndarray, start: float, level: float) -> list[NextStep]:
    """Every architecture one edit away that has not been evaluated, the most promising first."""
    known = {o.member.fingerprint for o in model.observed if o.member is not None}
    children: dict[str, Member] = {}
    space: Space[Any] = model.space
    for child in space.children(member):
        if child.fingerprint not in known:
            children.setdefault(child.fingerprint, child)
    if not children:
        return []
    members = [member, *children.values()]
    mean, covariance = model.surrogate.joint(model.points(members, np.repeat(vector, len(members), axis=0)))
    weights = np.concatenate([-np.ones((len(children), 1)), np.eye(len(children))], axis=1)
    means, deviations = contrasts(mean, covariance, weights)
    steps = [
        NextStep(_edit(model.space, member, child), in_units(model, m, s, level, start))
        for child, m, s in zip(children.values(), means, deviations, strict=True)
    ]
    order = np.argsort(-means, kind="stable")
    return [steps[i] for i in order]


def _edit(space: AnySpace, member: Any, child: Any) -> str:
    """What is different in a child, in words."""
    if isinstance(child, Descendant):
        return str(child.steps[-1])
    if isinstance(space, CellSpace) and isinstance(child, Cell):
        before, after = space.choices_of(member), space.choices_of(child)
        return ", ".join(f"{name} = {after[name]}" for name in after if after[name] != before[name])
    return str(child)
