"""Which trials' weights are worth their disk space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from optuna.study import Study, StudyDirection
from optuna.study._multi_objective import _get_pareto_front_trials_by_trials
from optuna.trial import FrozenTrial, TrialState

from optuna_nas_morph import lineage
from optuna_nas_morph.errors import WeightsCorruptError
from optuna_nas_morph.weights.record import WeightRecord, read_record


@dataclass(frozen=True)
class Keep:
    """Whose weights a store keeps; all others are garbage.

    Kept are the best trials, the latest ones, and the ancestors of the best, so that whatever the search proposes next
    finds a donor near. Trials that run, and the donors that these started from, are always kept. In finals
    (`optuna_nas_morph.finalize`) everything is: they are few trainings, and a contender wins by its mean over seeds, so
    that the weights of the winner need not be among the best.

    Args:
        best:
            How many of the best trials; with several objectives those of the Pareto front come first. At least 1.
        recent:
            How many of the latest trials, whatever became of them.
        max_bytes:
            What all of them may take. The best and the latest, in turns, come first, then the ancestors; the best trial
            is kept however large it is. :obj:`None`: no limit.

    Raises:
        TypeError: If ``best`` or ``recent`` is no integer.
        ValueError: If an argument is out of its range.
    """

    best: int = 50
    recent: int = 50
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        for name, value, least in (("best", self.best, 1), ("recent", self.recent, 0)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be an integer but got {value!r}.")
            if value < least:
                raise ValueError(f"{name} must be at least {least} but got {value!r}.")
        if self.max_bytes is not None and not self.max_bytes >= 0:
            raise ValueError(f"max_bytes must be None or not negative but got {self.max_bytes!r}.")


def find_garbage(study: Study, keep: Keep, store_token: str) -> dict[int, WeightRecord]:
    """Records of the trials whose weights, in the store of this token, need not be kept; by the trial's number."""
    if lineage.is_finals(study):
        return {}
    trials = {t.number: t for t in study.get_trials(deepcopy=False, states=lineage.STATES_WITH_HISTORY)}
    records = {number: record for number, trial in trials.items() if (record := _record(trial, store_token))}
    running = [t for t in trials.values() if t.state == TrialState.RUNNING]
    kept = {t.number for t in running} | {t.user_attrs.get(lineage.DONOR) for t in running}
    n_bytes = sum(record.n_bytes for number, record in records.items() if number in kept)

    best = [n for n in _best_first(study, trials) if n in records][: keep.best]
    recent = sorted(records, reverse=True)[: keep.recent]
    turns = [n for pair in zip_longest(best, recent) for n in pair if n is not None]
    for number in [*turns, *(a for n in best for a in _ancestors(n, trials))]:
        if number in records and number not in kept:
            n_bytes += records[number].n_bytes
            if keep.max_bytes is not None and n_bytes > keep.max_bytes and number not in best[:1]:
                n_bytes -= records[number].n_bytes
                continue
            kept.add(number)
    return {number: record for number, record in records.items() if number not in kept}


def _record(trial: FrozenTrial, store_token: str) -> WeightRecord | None:
    try:
        record = read_record(trial)
    except WeightsCorruptError:
        return None  # Nothing in a bad record says what to remove.
    return record if record is not None and record.store_token == store_token else None


def _best_first(study: Study, trials: Mapping[int, FrozenTrial]) -> Sequence[int]:
    """Numbers of the completed trials, the best first, the feasible before the others, of equals the latest first."""
    complete = [t for _, t in sorted(trials.items(), reverse=True) if t.state == TrialState.COMPLETE]
    if len(study.directions) > 1:
        # Not Study.best_trials, which copies every trial.
        front = {t.number for t in _get_pareto_front_trials_by_trials(complete, study.directions, True)}
        return sorted((t.number for t in complete), key=lambda number: number not in front)
    sign = 1.0 if study.direction == StudyDirection.MINIMIZE else -1.0
    ranked = sorted(complete, key=lambda t: (any(c > 0 for c in t.constraints.values()), sign * (t.value or 0.0)))
    return [t.number for t in ranked]


def _ancestors(number: int, trials: Mapping[int, FrozenTrial]) -> Iterator[int]:
    """The donor, its donor, and so on."""
    while (trial := trials.get(number)) is not None:
        donor = trial.user_attrs.get(lineage.DONOR)
        if not isinstance(donor, int) or donor >= number:
            return
        yield donor
        number = donor
