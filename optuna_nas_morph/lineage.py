"""Who descends from whom: the attributes of this package on trials and studies, their names and what they hold.

User attributes of a trial:

- ``nasmorph:architecture`` (JSON; in pieces ``...:0``, ``...:1`` where it is long), ``nasmorph:fingerprint``,
  ``nasmorph:parameters``, ``nasmorph:flops``;
- ``nasmorph:steps``: every step from the seed, readable; ``nasmorph:morphisms``: those since the parent;
- ``nasmorph:parent``: number of the parent trial; ``nasmorph:donor``: of the trial whose weights it started from;
- ``nasmorph:kind``: whether it searches or is a control, see `Kind`;
- ``nasmorph:inherited_epochs``, ``nasmorph:effective_epochs``: training that the weights had before this trial, and
  together with this trial; ``nasmorph:budget``: epochs that it has announced;
- ``nasmorph:drift``: how far its function had moved from the donor's before training, where there was a batch to tell;
- ``nasmorph:fallback``: why weights of nearer ancestors could not be used;
- ``nasmorph:optimizer``: whether its optimizer went on from the donor's, or why not;
- ``nasmorph:unpublished``: why the trial could not become a donor;
- ``nasmorph:mem``: what the trial has shown about memory (see `optuna_nas_morph.capacity.MemoryFact`), and its number;
  ``nasmorph:oom``: the error, where memory ran out;
- ``nasmorph:weights``: the record of published weights (see `optuna_nas_morph.weights`).
- ``nasmorph:trial``: the trial's number. Optuna copies attributes to the retry of a trial: where this is another
  number, they are of another run.

User attributes of a study: ``nasmorph:space``, the description of the space and its digest; ``nasmorph:store``, where
its weights are (see `optuna_nas_morph.weights.location`); ``nasmorph:collected``, numbers (as ranges) of the trials
whose weights were removed to save space; ``nasmorph:finals``, names of the studies in which its finalists are retrained
(see `optuna_nas_morph.finalize`).

Of such a study: ``nasmorph:finals_of``, the name of the search; ``nasmorph:plan``, who is retrained;
``nasmorph:budget``, epochs for each. A trial of it that was not trained names the one that was instead in
``nasmorph:duplicate_of``.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from optuna_nas_morph.capacity import MemoryFact
from optuna_nas_morph.encoding import AnySpace
from optuna_nas_morph.errors import EncodingError, SpaceMismatchError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.spaces import Cell, Descendant, MorphSpace
from optuna_nas_morph.spaces.cell import FORMAT as CELL_SPACE

ARCHITECTURE = "nasmorph:architecture"
FINGERPRINT = "nasmorph:fingerprint"
PARAMETERS = "nasmorph:parameters"
FLOPS = "nasmorph:flops"
STEPS = "nasmorph:steps"
MORPHISMS = "nasmorph:morphisms"
PARENT = "nasmorph:parent"
DONOR = "nasmorph:donor"
INHERITED_EPOCHS = "nasmorph:inherited_epochs"
EFFECTIVE_EPOCHS = "nasmorph:effective_epochs"
DRIFT = "nasmorph:drift"
BUDGET = "nasmorph:budget"
FALLBACK = "nasmorph:fallback"
OPTIMIZER = "nasmorph:optimizer"
UNPUBLISHED = "nasmorph:unpublished"
MEMORY = "nasmorph:mem"
OUT_OF_MEMORY = "nasmorph:oom"
WEIGHTS = "nasmorph:weights"
TRIAL = "nasmorph:trial"
KIND = "nasmorph:kind"
SPACE = "nasmorph:space"
COLLECTED = "nasmorph:collected"
FINALS = "nasmorph:finals"
FINALS_OF = "nasmorph:finals_of"
PLAN = "nasmorph:plan"
DUPLICATE_OF = "nasmorph:duplicate_of"

# System attributes of trials of finals.
FINAL = "nasmorph:final"
WORKER = "nasmorph:worker"

# A system attribute of a study.
REFRESH = "nasmorph:refresh"

MAX_ATTRIBUTE_LENGTH = 60_000
"""Longest text in one attribute; MySQL allows 65,535 bytes."""

_MAX_REASONS = 20
_MAX_REASON_LENGTH = 1000

STATES_WITH_HISTORY = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL)


# What a trial is for.


class Kind(StrEnum):
    """What a trial is for.

    A child's value holds the training of its ancestors. Controls tell "older" from "better": the same architecture and
    hyperparameters as in an earlier trial, with more or with less training behind them.
    """

    SEARCH = "search"
    """Tries something new; inherits weights where there are any."""
    CONTINUED = "continued"
    """Trains an architecture on that was evaluated before; inherits its weights."""
    FRESH = "fresh"
    """Trains from scratch, whatever there is to inherit."""


def kind_of(trial: FrozenTrial) -> Kind:
    """What a trial is for; a search where it does not say."""
    kind = trial.user_attrs.get(KIND)
    return Kind(kind) if kind in list(Kind) else Kind.SEARCH


def requested_kind(study: optuna.Study, trial_id: int) -> Kind:
    """What a running trial has to be: as its sampler or whoever enqueued it wrote; in finals, from scratch.

    Raises:
        EncodingError: If that is no `Kind`.
    """
    if is_finals(study):
        return Kind.FRESH
    # From the storage: a trial does not see what its sampler has written.
    trial = study._storage.get_trial(trial_id)
    kind = trial.user_attrs.get(KIND)
    if kind is not None and kind not in list(Kind):
        known = ", ".join(map(repr, map(str, Kind)))
        raise EncodingError(f"{KIND} of trial {trial.number} must be one of {known} but is {kind!r}.")
    return kind_of(trial)


def record_kind(storage: BaseStorage, trial_id: int, kind: Kind) -> None:
    """Write what a running trial has to be."""
    storage.set_trial_user_attr(trial_id, KIND, str(kind))


# Architectures of trials.


def is_recorded(trial: optuna.Trial) -> bool:
    """Whether this trial has recorded an architecture or a cell itself; a retry has not, whatever was copied to it."""
    return trial.user_attrs.get(TRIAL) == trial.number


def record_architecture(
    trial: optuna.Trial, descendant: Descendant, ancestors: Sequence[FrozenTrial], kind: Kind = Kind.SEARCH
) -> None:
    """Write what a trial's architecture is and descends from.

    Args:
        trial:
            The running trial.
        descendant:
            What its parameters stand for.
        ancestors:
            As returned by `find_ancestors`; the first one is its parent.
        kind:
            What the trial is for.
    """
    _disown(trial)
    trial.set_user_attr(KIND, str(kind))
    architecture = descendant.architecture
    steps = list(map(str, descendant.steps))
    for key, text in _pieces(ARCHITECTURE, architecture.to_json()).items():
        trial.set_user_attr(key, text)
    trial.set_user_attr(FINGERPRINT, architecture.fingerprint)
    trial.set_user_attr(PARAMETERS, architecture.n_parameters)
    trial.set_user_attr(FLOPS, architecture.flops)
    trial.set_user_attr(STEPS, steps)
    parent = ancestors[0] if ancestors else None
    n_inherited = len(steps_of(parent) or ()) if parent is not None else 0
    trial.set_user_attr(MORPHISMS, steps[n_inherited:])
    if parent is not None:
        trial.set_user_attr(PARENT, parent.number)


def record_cell(trial: optuna.Trial, cell: Cell) -> None:
    """Write what a trial's cell is; its choices are its parameters."""
    _disown(trial)
    trial.set_user_attr(FINGERPRINT, cell.fingerprint)


def _disown(trial: optuna.Trial) -> None:
    """Empty the attributes that Optuna copied from the trial that this one is a retry of. None can be removed."""
    for key, value in trial.user_attrs.items():
        if key.startswith("nasmorph:") and value is not None:
            trial.set_user_attr(key, None)
    trial.set_user_attr(TRIAL, trial.number)


def architecture_of(trial: FrozenTrial | optuna.Trial) -> Architecture | None:
    """The architecture that a trial recorded, without replaying morphisms; :obj:`None` if it recorded none.

    Raises:
        ArchitectureError: If the record is damaged or of another version.
    """
    text = _joined(ARCHITECTURE, trial.user_attrs)
    return None if text is None else Architecture.from_json(text)


def steps_of(trial: FrozenTrial) -> tuple[str, ...] | None:
    """Every step from the seed, as text; :obj:`None` for a trial without an architecture."""
    steps = trial.user_attrs.get(STEPS)
    return tuple(steps) if isinstance(steps, list) else None


def find_ancestors(study: optuna.Study, number: int, steps: Sequence[str]) -> list[FrozenTrial]:
    """Earlier trials whose architecture lies on the way from the seed to this one, the nearest first.

    Of trials at the same distance, those with weights come first, then those with the better value (in studies with
    one objective), then the later. Trials that failed or still run count only if they have published weights.

    Args:
        study:
            The study.
        number:
            Number of the trial whose ancestors are sought.
        steps:
            Every step from the seed to its architecture.
    """
    single = len(study.directions) == 1
    sign = -1.0 if single and study.direction == optuna.study.StudyDirection.MINIMIZE else 1.0
    found: list[tuple[tuple[float, ...], FrozenTrial]] = []
    for trial in study.get_trials(deepcopy=False, states=STATES_WITH_HISTORY):
        other = steps_of(trial)
        if trial.number == number or other is None or other != tuple(steps[: len(other)]):
            continue
        if trial.user_attrs.get(TRIAL, trial.number) != trial.number:
            continue  # A retry that has not said yet what it is.
        has_weights = trial.user_attrs.get(WEIGHTS) is not None
        if not has_weights and trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
            continue
        value = (
            sign * trial.value if single and trial.state == TrialState.COMPLETE and trial.value is not None else None
        )
        rank = (len(other), float(has_weights), float(value is not None), value or 0.0, trial.number)
        found.append((rank, trial))
    return [trial for _, trial in sorted(found, key=lambda item: item[0], reverse=True)]


# Budgets.


@dataclass(frozen=True)
class Budgets:
    """Training behind a trial's weights, in epochs: before it, and together with it where that is known."""

    inherited: float
    effective: float | None


def budgets_of(trial: FrozenTrial) -> Budgets:
    """What is recorded of a trial's training."""
    inherited, effective = trial.user_attrs.get(INHERITED_EPOCHS), trial.user_attrs.get(EFFECTIVE_EPOCHS)
    return Budgets(0.0 if inherited is None else float(inherited), None if effective is None else float(effective))


def inherits(trial: FrozenTrial) -> bool:
    """Whether a trial started from weights of another, however much training is known to be behind them."""
    return trial.user_attrs.get(DONOR) is not None


def record_inheritance(
    trial: optuna.Trial, donor: int | None, inherited_epochs: float, budget: float | None, fallback: Sequence[str]
) -> None:
    """Write whose weights a trial starts from, what training they had, and which donors failed."""
    if donor is not None or trial.user_attrs.get(DONOR) is not None:  # Asked for twice, with another outcome.
        trial.set_user_attr(DONOR, donor)
    trial.set_user_attr(INHERITED_EPOCHS, inherited_epochs)
    if budget is not None:
        trial.set_user_attr(BUDGET, budget)
        trial.set_user_attr(EFFECTIVE_EPOCHS, inherited_epochs + budget)
    if fallback or trial.user_attrs.get(FALLBACK):
        shown = [text[:_MAX_REASON_LENGTH] for text in fallback[:_MAX_REASONS]]
        n_more = len(fallback) - len(shown)
        trial.set_user_attr(FALLBACK, [*shown, f"and {n_more} more"] if n_more else shown)


def record_drift(trial: optuna.Trial, drift: float | None) -> None:
    """Write how far a trial's function had moved from its donor's before it was trained."""
    if drift is not None:
        trial.set_user_attr(DRIFT, drift)


def record_trained(storage: BaseStorage, trial: FrozenTrial, epochs: float) -> None:
    """Write that a running trial has trained for this many epochs by now."""
    effective = budgets_of(trial).inherited + epochs
    if trial.user_attrs.get(EFFECTIVE_EPOCHS) != effective:
        storage.set_trial_user_attr(trial._trial_id, EFFECTIVE_EPOCHS, effective)


# Weights that were removed to save space.


def collected_of(study: optuna.Study) -> frozenset[int]:
    """Numbers of the trials whose weights were removed on purpose."""
    ranges = study._storage.get_study_user_attrs(study._study_id).get(COLLECTED) or []
    return frozenset(number for first, last in ranges for number in range(first, last + 1))


def record_collected(study: optuna.Study, numbers: Iterable[int]) -> None:
    """Write that weights are being removed.

    Of workers that do so at the same moment the last one wins; the next collection makes up for it.
    """
    _write_collected(study, collected_of(study).union(numbers))


def record_not_collected(study: optuna.Study, numbers: Iterable[int]) -> None:
    """Write that weights could not be removed after all."""
    _write_collected(study, collected_of(study).difference(numbers))


def _write_collected(study: optuna.Study, numbers: Iterable[int]) -> None:
    ranges: list[list[int]] = []  # Mostly a few long ones, so that thousands of trials fit an attribute.
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    study._storage.set_study_user_attr(study._study_id, COLLECTED, ranges)


# Finals: where the best of a search are retrained.


def is_finals(study: optuna.Study) -> bool:
    """Whether a study retrains the finalists of another: there nothing is inherited."""
    return FINALS_OF in study._storage.get_study_user_attrs(study._study_id)


def link_finals(study: optuna.Study, finals: optuna.Study) -> None:
    """Write into a search and its finals which study is the other."""
    if not is_finals(finals):
        finals.set_user_attr(FINALS_OF, study.study_name)
    names = finals_of(study)
    if finals.study_name not in names:
        study.set_user_attr(FINALS, [*names, finals.study_name])


def finals_of(study: optuna.Study) -> list[str]:
    """Names of the finals of a search, the first one first."""
    return list(study.user_attrs.get(FINALS, ()))


def final_of(trial: FrozenTrial) -> tuple[str, int] | None:
    """What a trial of finals trains, a contender's key and a seed; :obj:`None` for a duplicate or another trial."""
    final = trial.system_attrs.get(FINAL)
    return None if final is None or DUPLICATE_OF in trial.user_attrs else (final[0], final[1])


# Figures of a study.


@dataclass(frozen=True)
class Refresh:
    """When the figures of a study were renewed, or have begun to be.

    Attributes:
        worker:
            Who does it.
        at:
            Seconds since the epoch.
        cost:
            Seconds that it took the last time.
    """

    worker: str
    at: float
    cost: float


def last_refresh(system_attrs: Mapping[str, Any]) -> Refresh | None:
    """The last one, of the system attributes of a study; :obj:`None` if there was none."""
    stored = system_attrs.get(REFRESH)
    return None if stored is None else Refresh(*stored)


def record_refresh(study: optuna.Study, refresh: Refresh) -> None:
    """Write that a worker has begun to renew the figures, or has done so."""
    study._storage.set_study_system_attr(study._study_id, REFRESH, [refresh.worker, refresh.at, refresh.cost])


# Memory.


def record_memory(trial: optuna.Trial, fact: MemoryFact, error: str | None) -> None:
    """Write what a trial has shown about memory, and the error where it ran out."""
    trial.set_user_attr(MEMORY, {"trial": trial.number, **fact.to_dict()})
    if error is not None or OUT_OF_MEMORY in trial.user_attrs:  # Optuna copies attributes to a trial that is a retry.
        trial.set_user_attr(OUT_OF_MEMORY, None if error is None else error[:_MAX_REASON_LENGTH])


def memory_of(trial: FrozenTrial) -> MemoryFact | None:
    """What a trial has shown about memory; :obj:`None` if nothing, or if the record is damaged or another trial's."""
    record = trial.user_attrs.get(MEMORY)
    if not isinstance(record, dict) or record.get("trial") != trial.number:
        return None
    try:
        return MemoryFact.from_dict(record)
    except ValueError:
        return None


# The space of a study.

_live: dict[str, AnySpace] = {}
_live_lock = threading.Lock()


def register_space(study: optuna.Study, space: AnySpace) -> None:
    """Store the space in the study if it has none yet, and keep the live object for this process.

    Raises:
        SpaceMismatchError: If the study holds another space; the message says what differs.
    """
    with _live_lock:
        # Of equal spaces the first, which remembers most. But a function can be another one under an old name, and one
        # that was read from a study lacks weights and modules.
        known = _live.get(space.digest)
        if known != space or (isinstance(known, MorphSpace) and not known.is_whole):
            _live[space.digest] = space
        space = _live[space.digest]
    stored = _stored_space(study)
    if stored is None:
        description: dict[str, Any] = {"digest": space.digest, "space": space.to_dict()}
        text = json.dumps(description, separators=(",", ":"))
        # The first piece last: until it is there, other workers see no space rather than half of one.
        for key, piece in reversed(_pieces(SPACE, text).items()):
            study._storage.set_study_user_attr(study._study_id, key, piece)
        stored = _stored_space(study)
    if stored is None or stored["digest"] == space.digest:
        return
    difference = space.difference(stored["space"])
    raise SpaceMismatchError(
        f"study {study.study_name!r} was made with another space: in the study, {difference}. Use that space, or "
        "another study_name."
    )


def space_of(study: optuna.Study) -> AnySpace | None:
    """The space that a study was made with.

    Returns:
        The space; :obj:`None` if no trial has asked for an architecture yet, or if the space holds a Python function (a
        closed one) and this process has not seen it yet.

    Raises:
        SpaceMismatchError: If it was written by another version of the format.
    """
    stored = _stored_space(study)
    if stored is None:
        return None
    with _live_lock:
        live = _live.get(stored["digest"])
    if live is not None or stored["space"].get("format") == CELL_SPACE:
        return live
    space = MorphSpace.from_dict(stored["space"])
    with _live_lock:
        return _live.setdefault(space.digest, space)


def _stored_space(study: optuna.Study) -> dict[str, Any] | None:
    # Under Hyperband `study.user_attrs` raises in a sampler; the storage does not.
    text = _joined(SPACE, study._storage.get_study_user_attrs(study._study_id))
    if text is None:
        return None
    try:
        stored = json.loads(text)
    except ValueError as e:
        raise SpaceMismatchError(f"attribute {SPACE!r} of the study must be JSON but is not: {e}") from e
    if (
        not isinstance(stored, dict)
        or not isinstance(stored.get("digest"), str)
        or not isinstance(stored.get("space"), dict)
    ):
        raise SpaceMismatchError(f"attribute {SPACE!r} of the study must hold a digest and a space but does not.")
    return stored


def _pieces(key: str, text: str) -> dict[str, str]:
    """One attribute, or numbered ones where the text is too long for one."""
    if len(text) <= MAX_ATTRIBUTE_LENGTH:
        return {key: text}
    n = MAX_ATTRIBUTE_LENGTH
    return {f"{key}:{i // n}": text[i : i + n] for i in range(0, len(text), n)}


def _joined(key: str, attributes: Mapping[str, Any]) -> str | None:
    """Inverse of `_pieces`."""
    if attributes.get(key) is not None:
        return str(attributes[key])
    pieces: list[str] = []
    while attributes.get(f"{key}:{len(pieces)}") is not None:
        pieces.append(attributes[f"{key}:{len(pieces)}"])
    return "".join(pieces) if pieces else None
