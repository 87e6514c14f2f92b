"""What a study knows, as values: the trials of a study turned into observations."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from optuna_nas_morph import encoding, lineage
from optuna_nas_morph.capacity import Device, MemoryFact
from optuna_nas_morph.encoding import AnySpace, Member
from optuna_nas_morph.errors import EncodingError
from optuna_nas_morph.lineage import Kind

CLAIM = "nasmorph:claim"
_CLAIM_LENGTH = 2045  # Optuna's limit for system attributes on relational databases.

Key = tuple[str | None, tuple[tuple[str, Any], ...], Kind]
"""Fingerprint of the architecture, the hyperparameters, and what the trial is for: what is not proposed twice."""


@dataclass(frozen=True)
class Observation:
    """One trial.

    Attributes:
        number:
            Number of the trial.
        state:
            State of the trial.
        hyperparameters:
            Parameters that can vary and are not part of the architecture; for a running trial also those that it has
            claimed.
        member:
            Its architecture; :obj:`None` in a study without a space.
        values:
            Objective values; for a pruned trial the last value that it reported; :obj:`None` where there are none.
        constraints:
            Constraint values by name: feasible where none is positive.
        curve:
            Reported values by step.
        epochs:
            Training behind its value, if known.
        inherits:
            Whether it started from weights of another trial.
        is_donor:
            Whether it has published weights.
        kind:
            What it is for.
        memory:
            What it has shown about memory, if anything.
    """

    number: int
    state: TrialState
    hyperparameters: Mapping[str, Any]
    member: Member | None
    values: tuple[float, ...] | None
    constraints: Mapping[str, float]
    curve: Mapping[int, float]
    epochs: float | None
    inherits: bool = False
    is_donor: bool = False
    kind: Kind = Kind.SEARCH
    memory: MemoryFact | None = None

    @property
    def is_partial(self) -> bool:
        """Whether its values are those of a training that was cut off."""
        return self.state == TrialState.PRUNED

    @property
    def key(self) -> Key:
        """What is not proposed twice."""
        return key_of(self.member, self.hyperparameters, self.kind)


@dataclass(frozen=True)
class History:
    """The trials of a study, without the one that is being sampled.

    Attributes:
        observations:
            All that say something, in the order of their numbers.
        hyperparameters:
            Parameters that can vary and are not part of the architecture, of finished trials. Those that have had more
            than one distribution are left out.
    """

    observations: Sequence[Observation]
    hyperparameters: Mapping[str, BaseDistribution]

    @property
    def memory_facts(self) -> list[MemoryFact]:
        """What trials have shown about memory."""
        return [o.memory for o in self.observations if o.memory is not None]

    def seen_from(self, device: Device) -> History:
        """Without what failed for want of memory on a device with less: here it counts as not tried."""
        kept = [
            o for o in self.observations if not (o.memory and o.memory.failed and o.memory.device.total < device.total)
        ]
        return replace(self, observations=kept)


def key_of(member: Member | None, hyperparameters: Mapping[str, Any], kind: Kind = Kind.SEARCH) -> Key:
    """What is not proposed twice."""
    return None if member is None else member.fingerprint, tuple(sorted(hyperparameters.items())), kind


class HistoryReader:
    """Reads the history of a study. What it has read of finished trials is remembered; that is a cache and no more."""

    def __init__(self) -> None:
        self._decoded: dict[tuple[str, frozenset[tuple[str, Any]]], Member | None] = {}
        self._finished: dict[tuple[Any, ...], Observation | None] = {}

    def read(self, study: Study, space: AnySpace | None, except_number: int) -> History:
        """Everything but the trial that is being sampled.

        Args:
            study:
                The study, or the part of it that Hyperband shows to samplers.
            space:
                Its space, if it has one; trials without an architecture are then left out.
            except_number:
                Number of the trial that is being sampled.
        """
        observations: list[Observation] = []
        distributions: dict[str, BaseDistribution | None] = {}
        for trial in study._get_trials(deepcopy=False, states=lineage.STATES_WITH_HISTORY, use_cache=False):
            if trial.number == except_number:
                continue
            if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
                _add_distributions(distributions, trial)
            observation = self._observation(study, space, trial)
            if observation is not None:
                observations.append(observation)
        known = {name: distribution for name, distribution in distributions.items() if distribution is not None}
        return History(observations, known)

    def hyperparameters(self, study: Study) -> dict[str, BaseDistribution]:
        """`History.hyperparameters` alone, of all trials."""
        distributions: dict[str, BaseDistribution | None] = {}
        states = (TrialState.COMPLETE, TrialState.PRUNED)
        for trial in study._get_trials(deepcopy=False, states=states, use_cache=False):
            _add_distributions(distributions, trial)
        return {name: distribution for name, distribution in distributions.items() if distribution is not None}

    def key(
        self,
        space: AnySpace | None,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        kind: Kind = Kind.SEARCH,
    ) -> Key:
        """What a set of parameters is not proposed twice as; distributions as far as they are known."""
        member = None if space is None else self._decode(space, params)
        return key_of(member, _hyperparameters(params, distributions), kind)

    def _observation(self, study: Study, space: AnySpace | None, trial: FrozenTrial) -> Observation | None:
        """A trial as an observation; :obj:`None` where it says nothing."""
        if not trial.state.is_finished():
            return self._read(study, space, trial)
        # Finished trials never change. A sampler may serve several studies, in storages that number alike.
        when = (trial.datetime_start, trial.datetime_complete)
        key = (study._study_id, trial._trial_id, *when, None if space is None else space.digest)
        if key not in self._finished:
            self._finished[key] = self._read(study, space, trial)
        return self._finished[key]

    def _read(self, study: Study, space: AnySpace | None, trial: FrozenTrial) -> Observation | None:
        params = dict(trial.params)
        if trial.state == TrialState.RUNNING:
            params = {**read_claim(trial), **params}
        member = None if space is None else self._decode(space, params)
        if not params or (space is not None and member is None):
            return None
        return Observation(
            trial.number,
            trial.state,
            _hyperparameters(params, trial.distributions),
            member,
            _values(trial, len(study.directions)),
            trial.constraints,
            trial.intermediate_values,
            epochs_of(trial),
            lineage.inherits(trial),
            trial.user_attrs.get(lineage.WEIGHTS) is not None,
            lineage.kind_of(trial),
            lineage.memory_of(trial),
        )

    def _decode(self, space: AnySpace, params: Mapping[str, Any]) -> Member | None:
        """The architecture of a trial; :obj:`None` for a trial that failed before it had a valid one."""
        parts = frozenset((k, v) for k, v in params.items() if k.startswith(encoding.PREFIX))
        key = (space.digest, parts)
        if key not in self._decoded:
            try:
                self._decoded[key] = encoding.decode(space, params)
            except EncodingError:
                self._decoded[key] = None
        return self._decoded[key]


def _add_distributions(distributions: dict[str, BaseDistribution | None], trial: FrozenTrial) -> None:
    """Add what a trial was asked for; :obj:`None` stands for a name with more than one distribution."""
    for name, distribution in trial.distributions.items():
        if name in distributions:
            if distributions[name] != distribution:
                distributions[name] = None
        elif not name.startswith(encoding.PREFIX) and not distribution.single():
            distributions[name] = distribution


def _hyperparameters(params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Parameters that can vary and are not part of the architecture."""
    return {
        name: value
        for name, value in params.items()
        if not name.startswith(encoding.PREFIX) and not (name in distributions and distributions[name].single())
    }


def epochs_of(trial: FrozenTrial) -> float | None:
    """Training behind a trial's value: as published with its weights, else as reported, else as announced.

    What was announced is not what a trial has trained that was pruned; and a trial that reports once per several epochs
    knows better when it publishes.
    """
    record = trial.user_attrs.get(lineage.WEIGHTS)
    if isinstance(record, Mapping) and record.get("trial_number") == trial.number:  # Not a retry's copy of another's.
        published = (record.get("metadata") or {}).get("effective_epochs")
        if isinstance(published, int | float):
            return float(published)
    budgets, n_reported = lineage.budgets_of(trial), len(trial.intermediate_values)
    has_network = trial.user_attrs.get(lineage.INHERITED_EPOCHS) is not None
    if has_network and n_reported and (trial.state == TrialState.PRUNED or budgets.effective is None):
        return budgets.inherited + n_reported
    return budgets.effective


def _values(trial: FrozenTrial, n_objectives: int) -> tuple[float, ...] | None:
    if trial.state == TrialState.COMPLETE:
        values = tuple(trial.values)
    elif trial.state == TrialState.PRUNED and trial.last_step is not None:
        values = (trial.intermediate_values[trial.last_step],)
    else:
        return None
    return None if len(values) != n_objectives or any(map(math.isnan, values)) else values


# Claims: what a running trial is going to be, before its objective has asked for it.


def write_claim(storage: BaseStorage, trial_id: int, params: Mapping[str, Any]) -> None:
    """Let other workers see what has been proposed."""
    text = json.dumps(params)
    for i in range(0, len(text), _CLAIM_LENGTH):
        storage.set_trial_system_attr(trial_id, f"{CLAIM}:{i // _CLAIM_LENGTH}", text[i : i + _CLAIM_LENGTH])


def read_claim(trial: FrozenTrial) -> dict[str, Any]:
    """What has been proposed for a trial; empty if nothing, or if it is still being written."""
    pieces: list[str] = []
    while f"{CLAIM}:{len(pieces)}" in trial.system_attrs:
        pieces.append(trial.system_attrs[f"{CLAIM}:{len(pieces)}"])
    try:
        # What follows is the rest of an earlier, longer claim.
        claim, _ = json.JSONDecoder().raw_decode("".join(pieces)) if pieces else ({}, 0)
    except ValueError:
        return {}
    return claim if isinstance(claim, dict) else {}
