"""Finals as values: who is retrained from scratch, and what came of it."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_nas_morph import lineage
from optuna_nas_morph.encoding import PREFIX
from optuna_nas_morph.encoding.morph import N_STEPS

FINALIST = "finalist"
SEED_ARCHITECTURE = "seed architecture"
MOST_PARAMETERS = "most parameters"
BASELINES = (SEED_ARCHITECTURE, MOST_PARAMETERS)

PLAN_VERSION = 1


@dataclass(frozen=True)
class Entry:
    """One architecture to retrain, with the hyperparameters that it is trained with.

    Attributes:
        trial:
            Number of the trial of the search whose parameters they are.
        roles:
            Why it is retrained: ``"finalist"``, or a baseline.
        is_unseen_seed:
            Whether it is the seed architecture, which the search has not evaluated, with that trial's hyperparameters.
    """

    trial: int
    roles: tuple[str, ...]
    is_unseen_seed: bool = False

    @property
    def key(self) -> str:
        """What tells it from other entries."""
        return f"seed:{self.trial}" if self.is_unseen_seed else str(self.trial)

    def params(self, trial: FrozenTrial) -> dict[str, Any]:
        """The parameters, given the trial of the search."""
        if not self.is_unseen_seed:
            return dict(trial.params)
        return {N_STEPS: 0} | {k: v for k, v in trial.params.items() if not k.startswith(PREFIX)}


@dataclass(frozen=True)
class Request:
    """What was asked of `optuna_nas_morph.finalize`; see there."""

    top_k: int
    budget: int | None
    n_seeds: int
    rank_by: str
    baselines: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Who is retrained, decided once.

    Attributes:
        request:
            What was asked for.
        entries:
            Finalists, the most promising first, then baselines that are no finalists.
        n_trials:
            Trials of the search that were finished when it was decided.
        seed:
            Of everything that is drawn.
    """

    request: Request
    entries: tuple[Entry, ...]
    n_trials: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it, with its version."""
        return {"version": PLAN_VERSION, **dataclasses.asdict(self)}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Plan:
        """Inverse of `to_dict`.

        Raises:
            ValueError: If it was written by another version.
        """
        if data.get("version") != PLAN_VERSION:
            raise ValueError(f"plan of the finals must be of version {PLAN_VERSION} but is of {data.get('version')!r}.")
        request = Request(**{**data["request"], "baselines": tuple(data["request"]["baselines"])})
        entries = tuple(Entry(**{**entry, "roles": tuple(entry["roles"])}) for entry in data["entries"])
        return Plan(request, entries, data["n_trials"], data["seed"])

    def finals(self) -> list[tuple[Entry, int]]:
        """Everything to train, seed by seed."""
        return [(entry, seed) for seed in range(self.request.n_seeds) for entry in self.entries]


@dataclass(frozen=True)
class Contender:
    """One architecture of the finals.

    Attributes:
        roles:
            Why it was retrained: ``"finalist"``, ``"seed architecture"``, ``"most parameters"``.
        trial:
            Its trial in the search; :obj:`None` if the search has not evaluated it.
        n_parameters:
            Trained parameters; :obj:`None` where that is not recorded (a `CellSpace`).
        search_values:
            Objective values of that trial, which hold the training of its ancestors.
        search_epochs:
            Epochs behind them, inherited ones included, if known.
        values:
            Objective values of the trainings from scratch that are complete, seed by seed.
        epochs:
            Epochs of each of them, if known.
        final_trials:
            Number of each of them in the study of the finals.
        unfinished:
            What became of the others: ``"waiting"``, ``"running"``, ``"failed"`` (also for want of memory) or
            ``"pruned"``.
    """

    roles: tuple[str, ...]
    trial: int | None
    n_parameters: int | None
    search_values: tuple[float, ...] | None
    search_epochs: float | None
    values: tuple[tuple[float, ...], ...]
    epochs: tuple[float | None, ...]
    final_trials: tuple[int, ...]
    unfinished: tuple[str, ...]

    @property
    def mean(self) -> tuple[float, ...] | None:
        """Per objective the mean over seeds; :obj:`None` if no training is complete."""
        return tuple(statistics.fmean(column) for column in zip(*self.values, strict=True)) or None

    @property
    def std(self) -> tuple[float, ...] | None:
        """Per objective the standard deviation over seeds; :obj:`None` with fewer than two."""
        if len(self.values) < 2:
            return None
        return tuple(statistics.stdev(column) for column in zip(*self.values, strict=True))


@dataclass(frozen=True)
class Finals:
    """What came of retraining from scratch; ``print`` shows it as a table.

    Attributes:
        study_name:
            The study of the finals, in the storage of the search.
        search_name:
            The search.
        directions:
            Of the objectives.
        request:
            What was asked for.
        contenders:
            Finalists, the most promising first, then baselines that are no finalists.
    """

    study_name: str
    search_name: str
    directions: tuple[StudyDirection, ...]
    request: Request
    contenders: tuple[Contender, ...]

    @property
    def is_complete(self) -> bool:
        """Whether nothing waits, runs or has failed: what was pruned is final, but not what ran out of memory."""
        return all(set(c.unfinished) <= {"pruned"} for c in self.contenders)

    @property
    def best(self) -> tuple[Contender, ...]:
        """The contender with the best mean; with several objectives, all that no other one dominates."""
        signs = [-1.0 if d == StudyDirection.MINIMIZE else 1.0 for d in self.directions]
        points = [
            (c, [s * v for s, v in zip(signs, c.mean, strict=True)]) for c in self.contenders if c.mean is not None
        ]
        front = [c for c, p in points if not any(_dominates(q, p) for _, q in points)]
        return tuple(front[:1] if len(signs) == 1 else front)

    def __str__(self) -> str:
        budget = "as long as the objective does" if self.request.budget is None else f"{self.request.budget} epochs"
        rows = [["", "trial", "parameters", "in the search", "epochs", "from scratch", "epochs", ""]]
        best = self.best
        for c in self.contenders:
            marker = "*" if c in best else ""
            rows.append(
                [
                    f"{' & '.join(c.roles)}{marker}",
                    "-" if c.trial is None else f"{c.trial}",
                    "-" if c.n_parameters is None else f"{c.n_parameters:,}",
                    _numbers(c.search_values),
                    "-" if c.search_epochs is None else f"{c.search_epochs:g}",
                    _numbers(c.mean, c.std),
                    _epochs(c.epochs),
                    ", ".join(f"{c.unfinished.count(state)} {state}" for state in dict.fromkeys(c.unfinished)),
                ]
            )
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(
                [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            ).rstrip()
            for row in rows
        ]
        seeds = "1 seed" if self.request.n_seeds == 1 else f"{self.request.n_seeds} seeds, mean ± standard deviation"
        title = f"Finals of {self.search_name!r}, trained from scratch, {budget}, {seeds}; * is the best"
        return "\n".join([title, *lines])


def read_finals(search: Study, finals: Study, plan: Plan) -> Finals:
    """What a study of finals holds by now."""
    trials = finals.get_trials(deepcopy=False)
    of_search = {t.number: t for t in search.get_trials(deepcopy=False)}
    return Finals(
        finals.study_name,
        search.study_name,
        tuple(search.directions),
        plan.request,
        tuple(_contender(entry, of_search[entry.trial], trials, plan.request.n_seeds) for entry in plan.entries),
    )


def state_of(trial: FrozenTrial) -> TrialState:
    """What became of a training: one that ran out of memory has failed, though `memory.guard` prunes it."""
    is_failure = trial.state == TrialState.PRUNED and trial.user_attrs.get(lineage.OUT_OF_MEMORY) is not None
    return TrialState.FAIL if is_failure else trial.state


def _contender(entry: Entry, source: FrozenTrial, trials: Sequence[FrozenTrial], n_seeds: int) -> Contender:
    counted = [_counted(trials, (entry.key, seed)) for seed in range(n_seeds)]
    complete = [t for t in counted if t is not None and t.state == TrialState.COMPLETE]
    # The parameters of an architecture that the search has not evaluated are known from the first training.
    evaluated = None if entry.is_unseen_seed else source
    described = evaluated or (complete[0] if complete else None)
    return Contender(
        entry.roles,
        None if evaluated is None else evaluated.number,
        None if described is None else described.user_attrs.get(lineage.PARAMETERS),
        None if evaluated is None else tuple(evaluated.values),
        None if evaluated is None else lineage.budgets_of(evaluated).effective,
        tuple(tuple(t.values) for t in complete),
        tuple(lineage.budgets_of(t).effective for t in complete),
        tuple(t.number for t in complete),
        tuple(
            "waiting" if t is None else _WORDS[state_of(t)]
            for t in counted
            if t is None or t.state != TrialState.COMPLETE
        ),
    )


_WORDS = {
    TrialState.PRUNED: "pruned",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
    TrialState.FAIL: "failed",
}


def _counted(trials: Sequence[FrozenTrial], final: tuple[str, int]) -> FrozenTrial | None:
    """Of the trials that train the same the complete one, else the one that got furthest, else the first."""
    states = (TrialState.COMPLETE, *_WORDS)
    same = (t for t in trials if lineage.final_of(t) == final)
    return min(same, key=lambda t: (states.index(state_of(t)), t.number), default=None)


def _dominates(q: Sequence[float], p: Sequence[float]) -> bool:
    return all(a >= b for a, b in zip(q, p, strict=True)) and any(a > b for a, b in zip(q, p, strict=True))


def _numbers(values: Sequence[float] | None, deviations: Sequence[float] | None = None) -> str:
    if values is None:
        return "-"
    if deviations is None:
        return ", ".join(f"{v:.4g}" for v in values)
    return ", ".join(f"{v:.4g} ± {s:.2g}" for v, s in zip(values, deviations, strict=True))


def _epochs(epochs: Sequence[float | None]) -> str:
    return ", ".join("-" if e is None else f"{e:g}" for e in dict.fromkeys(epochs)) or "-"
