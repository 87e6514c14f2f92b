"""What an explanation stands on: the surrogate of one objective of a study, and a pool of architectures to judge by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.study import Study, StudyDirection

from optuna_nas_morph import lineage
from optuna_nas_morph.encoder import Encoder
from optuna_nas_morph.encoding import AnySpace, Member
from optuna_nas_morph.history import HistoryReader, Observation
from optuna_nas_morph.hyperparameters import Cube
from optuna_nas_morph.proposal import MAX_OBSERVATIONS
from optuna_nas_morph.search import random_walk
from optuna_nas_morph.surrogate import Points, Quantity, Surrogate, fit_surrogate
from optuna_nas_morph.targets import LogRegret, Standard, best_and_latest, extrapolate, ranking

N_MEMBERS = 20_000
"""Closed spaces of up to so many members are known whole."""

MAX_STEPS = 2
"""Morphisms at most between an evaluated architecture of an open space and one of the pool."""


@dataclass(frozen=True)
class Model:
    """The surrogate of one objective.

    Attributes:
        space:
            The space of the study.
        observed:
            Trials with values, as the surrogate has seen them.
        values:
            Their values in the user's units; for pruned trials what they would have come to.  # (n,)
        sign:
            1 if the objective is maximised, -1 if minimised.
        scale:
            From ``sign * values`` to what the surrogate is fitted to.
        surrogate:
            With one quantity.
        encoder:
            From architectures and hyperparameters to its points.
    """

    space: AnySpace
    observed: Sequence[Observation]
    values: np.ndarray
    sign: float
    scale: LogRegret | Standard
    surrogate: Surrogate
    encoder: Encoder

    def in_units(self, targets: np.ndarray) -> np.ndarray:
        """Targets of the surrogate in the user's units."""
        return self.sign * self.scale.values(np.asarray(targets))

    @property
    def graphs(self) -> list[Any]:
        """The graphs of the observed trials."""
        return [o.member.graph for o in self.observed if o.member is not None]

    def points(self, members: Sequence[Member], hyperparameters: np.ndarray) -> Points:
        """Architectures with vectors of hyperparameters at the reference training."""
        training = np.full(len(members), self.encoder.reference or 0.0)
        return self.encoder.points(members, hyperparameters, training)

    def hyperparameters(self) -> np.ndarray:
        """Those of the observed trials, NaN where one was not asked for, of shape (n, d)."""
        cube = self.encoder.cube
        return np.array([cube.encode(o.hyperparameters) for o in self.observed]).reshape(len(self.observed), -1)


@dataclass(frozen=True)
class Evidence:
    """What a study has to say of architectures. Made by `read_evidence`.

    Attributes:
        space:
            Its space.
        cube:
            Its hyperparameters.
        observed:
            Trials with values, in the order of their numbers.
        signs:
            Per objective, 1 to maximise and -1 to minimise.
    """

    space: AnySpace
    cube: Cube
    observed: Sequence[Observation]
    signs: tuple[float, ...]


def read_evidence(study: Study, space: AnySpace | None, reader: HistoryReader | None = None) -> Evidence:
    """Read the trials of a study; a reader that has read it before is quicker.

    Raises:
        ValueError: If the space is not known.
    """
    space = space if space is not None else lineage.space_of(study)
    if space is None:
        raise ValueError(
            "study must hold an architecture space that this process knows but does not: if it has a CellSpace, pass "
            "it as space."
        )
    history = (reader or HistoryReader()).read(study, space, -1)
    cube = Cube(history.hyperparameters)
    observed = [
        o for o in history.observations if o.state.is_finished() and o.values and cube.contains(o.hyperparameters)
    ]
    return Evidence(
        space, cube, observed, tuple(-1.0 if d == StudyDirection.MINIMIZE else 1.0 for d in study.directions)
    )


def fit_model(study: Study, space: AnySpace | None, objective: int, kernel: Any, rng: np.random.Generator) -> Model:
    """Fit the surrogate of one objective to the trials of a study.

    A single objective is on the scale that `MorphBOSampler` gives it, `LogRegret`; one of several is standardised.

    Raises:
        ValueError: If the space is not known, there are fewer than two trials with values or architectures, or there is
            no such objective.
    """
    check_objective(study, objective)
    evidence = read_evidence(study, space)
    if n_architectures(evidence.observed) < 2:
        raise ValueError("study must have trials of at least two architectures with values but has fewer.")
    return fit_to(evidence, objective, kernel, rng)


def check_objective(study: Study, objective: int) -> None:
    """Check which objective is asked for.

    Raises:
        ValueError: If there is no such one.
    """
    if type(objective) is not int or not 0 <= objective < len(study.directions):
        raise ValueError(f"objective must be an integer from 0 to {len(study.directions) - 1} but got {objective!r}.")


def n_architectures(observed: Sequence[Observation]) -> int:
    """How many different ones there are."""
    return len({o.member.fingerprint for o in observed if o.member is not None})


def fit_to(evidence: Evidence, objective: int, kernel: Any, rng: np.random.Generator) -> Model:
    """`fit_model` for trials that have been read: at least two architectures have values."""
    observed, signs = evidence.observed, evidence.signs
    observed = [observed[i] for i in best_and_latest(ranking([o.values for o in observed], signs), MAX_OBSERVATIONS)]
    sign = signs[objective]
    column = sign * np.array([(o.values or ())[objective] for o in observed])
    if len(signs) == 1:
        curves = [{step: sign * value for step, value in o.curve.items()} for o in observed]
        column = extrapolate(curves, column, np.array([o.is_partial for o in observed]))
    scale = LogRegret.of(column) if len(signs) == 1 else Standard.of(column)
    encoder = Encoder.of(evidence.space, evidence.cube, observed)
    points = encoder.points_of(observed)
    nothing = Points((), np.empty(0, dtype=int), points.z[:0])
    quantity = Quantity(np.arange(len(observed)), scale.targets(column))
    surrogate = fit_surrogate(
        points, [quantity], nothing, encoder.is_categorical, kernel=kernel, deterministic=False, rng=rng
    )
    return Model(evidence.space, observed, sign * column, sign, scale, surrogate, encoder)


@dataclass(frozen=True)
class Pool:
    """Architectures that effects are averaged over.

    Attributes:
        members:
            Distinct by fingerprint.
        weights:
            How much each counts; they sum to 1.  # (m,)
        hyperparameters:
            A vector for each, those of random trials.  # (m, d)
        share:
            How much of what is to be judged by they are: less than 1 for a sample.
    """

    members: Sequence[Member]
    weights: np.ndarray
    hyperparameters: np.ndarray
    share: float


def reference_pool(model: Model, n: int, rng: np.random.Generator) -> Pool:
    """Up to ``n`` architectures.

    In a closed space random members, which count as often as choices lead to them. In an open one those evaluated, and
    random ones up to two morphisms away from them.
    """
    space = model.space
    counts: dict[str, list[Member]] = {}
    if space.size is None:
        evaluated = [o.member for o in model.observed if o.member is not None]
        for member in evaluated:
            counts.setdefault(member.fingerprint, [member])
        for _ in range(4 * n):
            if len(counts) >= n:
                break
            start = evaluated[int(rng.integers(len(evaluated)))]
            member = random_walk(space, start, int(rng.integers(1, MAX_STEPS + 1)), rng)
            counts.setdefault(member.fingerprint, [member])
    else:
        whole = space.size <= N_MEMBERS
        for member in space.members() if whole else (space.random(rng) for _ in range(n)):
            counts.setdefault(member.fingerprint, []).append(member)
    groups = list(counts.values())
    share = 1.0
    if space.size is not None:
        share = min(1.0, n / len(groups)) if space.size <= N_MEMBERS else n / space.size
    if len(groups) > n:
        groups = [groups[i] for i in np.sort(rng.choice(len(groups), n, replace=False))]
    weights = np.array([len(group) for group in groups], dtype=float)
    hyperparameters = model.hyperparameters()[rng.integers(len(model.observed), size=len(groups))]
    return Pool([group[0] for group in groups], weights / weights.sum(), hyperparameters, share)
