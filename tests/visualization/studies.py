"""Studies made by hand, so that what a plot shows can be worked out on paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from optuna_nas_morph import Architecture
from tests.studies import MLP, SPACE

LR = FloatDistribution(1e-4, 1e-1, log=True)


def attributes(
    architecture: Architecture = MLP,
    steps: Sequence[str] = (),
    parent: int | None = None,
    n_inherited_steps: int = 0,
    donor: int | None = None,
    inherited: float | None = None,
    effective: float | None = None,
) -> dict[str, Any]:
    """User attributes as `suggest_network` and `publish_weights` write them."""
    result: dict[str, Any] = {
        "nasmorph:architecture": architecture.to_json(),
        "nasmorph:fingerprint": architecture.fingerprint,
        "nasmorph:parameters": architecture.n_parameters,
        "nasmorph:flops": architecture.flops,
        "nasmorph:steps": list(steps),
        "nasmorph:morphisms": list(steps[n_inherited_steps:]),
    }
    optional = {"parent": parent, "donor": donor, "inherited_epochs": inherited, "effective_epochs": effective}
    return result | {f"nasmorph:{name}": value for name, value in optional.items() if value is not None}


def trial(
    values: Sequence[float] | None = None,
    state: TrialState = TrialState.COMPLETE,
    reports: Sequence[float] = (),
    constraints: dict[str, float] | None = None,
    **attrs: Any,
) -> FrozenTrial:
    """A trial with an architecture."""
    return optuna.trial.create_trial(
        state=state,
        values=None if values is None else list(values),
        params={"lr": 0.01},
        distributions={"lr": LR},
        intermediate_values=dict(enumerate(reports)),
        user_attrs=attributes(**attrs),
        constraints=constraints,
    )


def study_of(trials: Sequence[FrozenTrial], directions: Sequence[str] = ("maximize",)) -> optuna.Study:
    """A study in memory."""
    study = optuna.create_study(directions=list(directions))
    study.add_trials(trials)
    return study


def plain_trial(values: Sequence[float]) -> FrozenTrial:
    """A trial whose objective never asked for an architecture."""
    return optuna.trial.create_trial(values=list(values), params={"lr": 0.1}, distributions={"lr": LR})


def grown_study(n_trials: int, seed: int = 0, directions: Sequence[str] = ("maximize",)) -> optuna.Study:
    """A study of random children: some were pruned, failed, run or violate a constraint, some have no architecture."""
    rng = np.random.default_rng(seed)
    members = [SPACE.first()]
    known: list[tuple[int, int]] = []  # numbers of trials and the members that they have
    trials = []
    for number in range(n_trials):
        if number % 17 == 5:
            trials.append(plain_trial([float(rng.normal()) for _ in directions]))
            continue
        parent, i = known[int(rng.integers(len(known)))] if known else (None, 0)
        child = SPACE.random_child(members[i], rng) if parent is not None else None
        member = child or members[i]
        state = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)[
            0 if number == 0 else int(rng.choice(4, p=[0.6, 0.2, 0.15, 0.05]))
        ]
        if len(directions) > 1 and state == TrialState.PRUNED:
            state = TrialState.FAIL
        members.append(member)
        trials.append(
            trial(
                [float(rng.normal()) for _ in directions] if state == TrialState.COMPLETE else None,
                state,
                [0.1, 0.2] if state == TrialState.PRUNED else [],
                {"memory": float(rng.normal() - 1)} if number % 7 == 3 else None,
                architecture=member.architecture,
                steps=[str(step) for step in member.steps],
                parent=parent,
                n_inherited_steps=0 if parent is None else len(members[i].steps),
                donor=parent if number % 4 else None,
                inherited=2.0 * number if number % 4 and parent is not None else 0.0,
                effective=2.0 * number + 2,
            )
        )
        if state == TrialState.COMPLETE:
            known.append((number, len(members) - 1))
    return study_of(trials, directions)
