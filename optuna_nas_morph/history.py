"""What a study knows, as values: the trials of a study turned into observations."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from optuna_nas_morph import encoding, lineage
from optuna_nas_morph.errors import EncodingError
from optuna_nas_morph.space import Descendant, MorphSpace

CLAIM = "nasmorph:claim"
_CLAIM_LENGTH = 2045  # Optuna's limit for system attributes on relational databases.

Key = tuple[str | None, tuple[tuple[str, Any], ...]]
"""Fingerprint of the architecture, and the hyperparameters: what is not proposed twice."""


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
        descendant:
            Its architecture; :obj:`None` in a study without a space.
        values:
            Objective values; for a pruned trial the last value that it reported; :obj:`None` where there are none.
        epochs:
            Training behind its weights, if known.
    """

    number: int
    state: TrialState
    hyperparameters: Mapping[str, Any]
    descendant: Descendant | None
    values: tuple[float, ...] | None
    epochs: float | None

    @property
    def key(self) -> Key:
        """What is not proposed twice."""
        return key_of(self.descendant, self.hyperparameters)


def key_of(descendant: Descendant | None, hyperparameters: Mapping[str, Any]) -> Key:
    """What is not proposed twice."""
    fingerprint = None if descendant is None else descendant.architecture.fingerprint
    return fingerprint, tuple(sorted(hyperparameters.items()))


class HistoryReader:
    """Reads the history of a study. Decoded architectures are remembered; that is a cache and no more."""

    def __init__(self) -> None:
        self._decoded: dict[tuple[str, frozenset[tuple[str, Any]]], Descendant | None] = {}

    def read(self, study: Study, space: MorphSpace | None, except_number: int) -> list[Observation]:
        """All trials that say something, but the one that is being sampled.

        Args:
            study:
                The study, or the part of it that Hyperband shows to samplers.
            space:
                Its space, if it has one; trials without an architecture are then left out.
            except_number:
                Number of the trial that is being sampled.
        """
        result: list[Observation] = []
        for trial in study._get_trials(deepcopy=False, states=lineage.STATES_WITH_HISTORY, use_cache=False):
            params = dict(trial.params)
            if trial.state == TrialState.RUNNING:
                params = {**read_claim(trial), **params}
            if trial.number == except_number or not params:
                continue
            descendant = None if space is None else self._decode(space, params)
            if space is not None and descendant is None:
                continue
            hyperparameters = _hyperparameters(params, trial.distributions)
            epochs = lineage.budgets_of(trial).effective
            result.append(
                Observation(
                    trial.number,
                    trial.state,
                    hyperparameters,
                    descendant,
                    _values(trial, len(study.directions)),
                    epochs,
                )
            )
        return result

    def key(
        self, space: MorphSpace | None, params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]
    ) -> Key:
        """What a set of parameters is not proposed twice as; distributions as far as they are known."""
        return key_of(None if space is None else self._decode(space, params), _hyperparameters(params, distributions))

    def _decode(self, space: MorphSpace, params: Mapping[str, Any]) -> Descendant | None:
        """The architecture of a trial; :obj:`None` for a trial that failed before it had a valid one."""
        parts = frozenset((k, v) for k, v in params.items() if k.startswith(encoding.PREFIX))
        key = (space.digest, parts)
        if key not in self._decoded:
            try:
                self._decoded[key] = encoding.decode(space, params)
            except EncodingError:
                self._decoded[key] = None
        return self._decoded[key]


def _hyperparameters(params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Parameters that can vary and are not part of the architecture."""
    return {
        name: value
        for name, value in params.items()
        if not name.startswith(encoding.PREFIX) and not (name in distributions and distributions[name].single())
    }


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
