"""From a search to its result: finalists retrained from scratch, and the best network."""

from __future__ import annotations

import os
import socket
import sys
import uuid
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from optuna_nas_morph import lineage
from optuna_nas_morph.errors import EncodingError, WeightsMissingError
from optuna_nas_morph.finalists import RANKINGS, choose
from optuna_nas_morph.finals import BASELINES, Finals, Plan, Request, read_finals, state_of
from optuna_nas_morph.nets import Network
from optuna_nas_morph.network import load_network, seed_of
from optuna_nas_morph.spaces import MorphSpace
from optuna_nas_morph.weights import STORE_ATTR, WeightStore

_PROCESS = uuid.uuid4().hex
_GRACE = timedelta(minutes=1)
"""How long a trial may run before it says who runs it."""

Objective = Callable[[optuna.Trial], float | Sequence[float]]


def finalize(
    study: Study,
    objective: Objective,
    top_k: int = 3,
    *,
    budget: int | None = None,
    n_seeds: int = 1,
    rank_by: Literal["prediction", "value"] = "prediction",
    baselines: Sequence[str] = BASELINES,
    catch: tuple[type[Exception], ...] = (),
    name: str | None = None,
) -> Finals:
    """Retrain the best architectures of a search from scratch, all with one budget.

    A value of a search holds the training of a trial's ancestors, so values of old lineages are not those of good
    architectures. Here every contender is trained by the objective of the search itself, with the hyperparameters of
    its trial, but `suggest_network` inherits nothing and nothing is pruned.

    That happens in a study of its own in the same storage, ``"<name of the search>/finals"``; in each study an
    attribute names the other (``nasmorph:finals``, ``nasmorph:finals_of``), and nothing else of the search changes.
    Call it again and it goes on where it was interrupted; call it in several processes or threads and they share the
    work. What a killed process was training is trained again: at once if that was on this machine (also before it was
    restarted) and in this container; else after Optuna's heartbeat has noticed
    (:class:`~optuna.storages.RDBStorage`), or once you have told the trial to fail. What failed, or ran out of memory
    inside of `optuna_nas_morph.memory.guard`, is trained again by the next call. What another worker is training is not
    waited for: see `Finals.is_complete`.

    All weights that the objective publishes here are kept, whatever the store's `Keep` says.

    Example:
        .. code-block:: python

            def objective(trial):
                network = suggest_network(trial, space)
                epochs = epochs_to_train(trial, 3)  # 3 in the search, 50 in the finals
                for epoch in range(epochs):
                    ...
                publish_weights(trial, network, epochs=epochs)
                return validate(network)

            study.optimize(objective, n_trials=100)
            print(finalize(study, objective, top_k=3, budget=50, n_seeds=3))

    Args:
        study:
            The search, in a `MorphSpace` or a `CellSpace`.
        objective:
            That of the search, or one that asks for the same parameters.
        top_k:
            How many architectures are finalists, at most. No two are the same.
        budget:
            Epochs for each, which the objective learns from `epochs_to_train`. By default the objective trains as long
            as it does of its own accord: pass one with a longer training.
        n_seeds:
            Trainings of each contender. Fresh weights depend on the seed; the order of batches is the objective's.
        rank_by:
            By what finalists are chosen. ``"prediction"``: what the surrogate says of the trials at one reference
            training, so that neither the age of a lineage nor luck decides; that of the study's `MorphBOSampler` (its
            kernel, noise and prior studies), or a default one if the study has another sampler, as it does after
            ``optuna.load_study`` without one. ``"value"``: their own values, which is all there is to go by where
            trials are few. With several objectives those on the front come first.
        baselines:
            What is retrained beside them: ``"seed architecture"`` (with the hyperparameters of its best trial, else of
            the first finalist) and ``"most parameters"``, the largest network that the search has evaluated, which is
            what counting parameters would have chosen. In a `CellSpace` there are none.
        catch:
            Exceptions of the objective that do not end the finals; the training counts as failed.
        name:
            Name of the study of the finals, if not the default one. One study of finals has one set of arguments.

    Returns:
        All contenders with their values in the search and from scratch.

    Raises:
        ValueError: If an argument is out of range, there is no finished trial with an architecture, or the finals of
            that name were begun with other arguments.
        EncodingError: If the objective asks for a parameter that the trial of the search did not have.
    """
    request = _request(study, objective, top_k, budget, n_seeds, rank_by, baselines)
    finals, plan = _open(study, f"{study.study_name}/finals" if name is None else name, request)
    _release(finals)
    _enqueue(study, finals, plan)
    run = _Run(finals, objective)
    while finals.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        finals.optimize(run, n_trials=1, catch=catch)
    result = read_finals(study, finals, plan)
    _check_budgets(result)
    return result


@dataclass(frozen=True)
class BestNetwork:
    """The winner of a search; ``print`` says in a line what it is.

    Attributes:
        network:
            The network with its trained weights, on the CPU and in eval mode.
        value:
            Objective value of the training that these weights come from.
        training:
            ``"from scratch"`` or ``"inherited"``: whether the value holds the training of ancestors.
        epochs:
            Training behind the weights, inherited epochs included, if known.
        trial:
            The trial whose weights they are.
        study_name:
            The study of that trial: the search, or its finals.
    """

    network: Network = field(repr=False)
    value: float
    training: Literal["from scratch", "inherited"]
    epochs: float | None
    trial: FrozenTrial = field(repr=False)
    study_name: str

    def __str__(self) -> str:
        epochs = "" if self.epochs is None else f" for {self.epochs:g} epochs"
        how = (
            f"{self.training}, trained{epochs}" if self.training == "inherited" else f"trained {self.training}{epochs}"
        )
        return (
            f"trial {self.trial.number} of {self.study_name!r}: {self.value:.4g}, {how}, "
            f"{self.network.architecture.n_parameters:,} parameters"
        )


def best_network(
    study: Study, *, finals: str | None = None, store: WeightStore | None = None, space: MorphSpace | None = None
) -> BestNetwork:
    """The winner with its weights.

    After `finalize` that is the contender with the best mean (a baseline, if that is the better one), in its best
    training; else the best trial of the search.

    Args:
        study:
            The search, with one objective.
        finals:
            Name of the finals; by default the latest that are complete, else the latest in which a training is. Where
            later ones are passed over, or all of them for the search, a warning says so.
        store:
            Where the weights are; by default the store of the study.
        space:
            See `load_network`.

    Raises:
        ArchitectureError: See `load_network`.
        ValueError: If the study has several objectives, no finished trial, or no finals of that name in which a
            training is complete.
        WeightsError: If the winner has published no weights, or they cannot be read.
    """
    if len(study.directions) > 1:
        raise ValueError(
            f"study must have one objective but has {len(study.directions)}: choose a trial of study.best_trials and "
            "use load_network(study, trial)."
        )
    names = optuna.get_all_study_names(study._storage)
    known = [name for name in lineage.finals_of(study) if name in names]
    if finals is not None and finals not in known:
        raise ValueError(f"finals must be one of {known} but is {finals!r}.")
    latest_first = [finals] if finals is not None else known[::-1]
    results = [r for name in latest_first if (r := _read(study, name)) is not None and r.best]
    if results:
        result = next((r for r in results if r.is_complete), results[0])
        lacking = latest_first[: latest_first.index(result.study_name) + (not result.is_complete)]
        if lacking:
            warnings.warn(
                f"The finals {', '.join(map(repr, lacking))} are not complete: the winner is the best so far, of "
                f"{result.study_name!r}.",
                stacklevel=2,
            )
        final_study = _load(study, result.study_name)
        trials = [final_study.get_trials(deepcopy=False)[number] for number in result.best[0].final_trials]
        sign = -1.0 if study.direction == optuna.study.StudyDirection.MINIMIZE else 1.0
        return _loaded(final_study, max(trials, key=lambda t: sign * t.values[0]), store, space)
    if finals is not None:
        raise ValueError(
            f"finals must have a complete training but {finals!r} has none: call finalize again, or do without finals."
        )
    if known:
        warnings.warn(
            f"None of the finals {', '.join(map(repr, known))} has a complete training: the winner is the best of the "
            "search.",
            stacklevel=2,
        )
    return _loaded(study, study.best_trial, store, space)


def _read(study: Study, name: str) -> Finals | None:
    """What finals hold by now; :obj:`None` if they have been interrupted before it was decided who is retrained."""
    finals = _load(study, name)
    plan = _plan_of(finals)
    return None if plan is None else read_finals(study, finals, plan)


def _loaded(study: Study, trial: FrozenTrial, store: WeightStore | None, space: MorphSpace | None) -> BestNetwork:
    if WeightStore.record(trial) is None:
        raise WeightsMissingError(
            f"trial {trial.number} of study {study.study_name!r}, the winner, must have published weights but has not: "
            "call publish_weights(trial, network) in the objective."
        )
    budgets = lineage.budgets_of(trial)
    assert trial.value is not None
    return BestNetwork(
        load_network(study, trial, store=store, space=space),
        trial.value,
        "inherited" if lineage.inherits(trial) else "from scratch",
        budgets.effective,
        trial,
        study.study_name,
    )


# Arguments, and the study.


def _request(
    study: Study, objective: Any, top_k: int, budget: int | None, n_seeds: int, rank_by: str, baselines: Sequence[str]
) -> Request:
    if not isinstance(study, Study):
        raise TypeError(f"study must be an Optuna study but got {type(study).__name__}.")
    if not callable(objective):
        raise TypeError(f"objective must be callable but got {objective!r}.")
    for name, value in (("top_k", top_k), ("n_seeds", n_seeds), ("budget", 1 if budget is None else budget)):
        if type(value) is not int or value < 1:
            raise ValueError(f"{name} must be a positive integer but got {value!r}.")
    if rank_by not in RANKINGS:
        raise ValueError(f"rank_by must be one of {', '.join(map(repr, RANKINGS))} but got {rank_by!r}.")
    if isinstance(baselines, str) or any(role not in BASELINES for role in baselines):
        known = ", ".join(map(repr, BASELINES))
        raise ValueError(f"baselines must be a sequence of some of {known} but got {baselines!r}.")
    if lineage.is_finals(study):
        raise ValueError(f"study must be a search but {study.study_name!r} is the finals of one.")
    return Request(top_k, budget, n_seeds, rank_by, tuple(dict.fromkeys(baselines)))


def _open(study: Study, name: str, request: Request) -> tuple[Study, Plan]:
    """The study of the finals, made if there is none, and who is retrained in it."""
    names = optuna.get_all_study_names(study._storage)
    plan = _plan_of(_load(study, name)) if name in names else None
    seed = seed_of(study)
    # Before the study is made, so that none is left behind where there is nobody to choose.
    plan = plan or Plan(request, choose(study, request, seed), _n_finished(study), seed)
    finals = optuna.create_study(
        storage=study._storage,
        study_name=name,
        directions=study.directions,
        sampler=_OfTheSearch(plan.seed),
        pruner=_NeverPrunes(study.pruner),
        load_if_exists=True,
    )
    attributes = finals.user_attrs
    if attributes.get(lineage.FINALS_OF, study.study_name) != study.study_name or (
        finals.get_trials(deepcopy=False) and lineage.FINALS_OF not in attributes
    ):
        raise ValueError(f"name must be that of finals of {study.study_name!r}, or a new one, but is {name!r}.")
    lineage.link_finals(study, finals)
    if lineage.PLAN not in attributes:
        if STORE_ATTR in study.user_attrs:
            finals.set_user_attr(STORE_ATTR, study.user_attrs[STORE_ATTR])
        finals.set_user_attr(lineage.PLAN, plan.to_dict())
    agreed = _plan_of(finals) or plan  # Of workers that begin at once, all go by what was written last.
    differences = [
        f"{key} is {value!r}, not {asdict(request)[key]!r}"
        for key, value in asdict(agreed.request).items()
        if value != asdict(request)[key]
    ]
    if differences:
        raise ValueError(
            f"finals {name!r} were begun with other arguments: there {'; '.join(differences)}. Use these, or another "
            "name."
        )
    if _n_finished(study) > agreed.n_trials:
        warnings.warn(
            f"Study {study.study_name!r} has gone on since its finals {name!r} were begun, after {agreed.n_trials} "
            "trials: they do not know of later ones. Use another name for new finals.",
            stacklevel=3,
        )
    finals.set_user_attr(lineage.BUDGET, agreed.request.budget)
    finals.sampler = _OfTheSearch(agreed.seed)
    return finals, agreed


def _load(study: Study, name: str) -> Study:
    return optuna.load_study(
        study_name=name, storage=study._storage, sampler=_OfTheSearch(0), pruner=_NeverPrunes(study.pruner)
    )


def _plan_of(finals: Study) -> Plan | None:
    data = finals.user_attrs.get(lineage.PLAN)
    return None if data is None else Plan.from_dict(data)


def _n_finished(study: Study) -> int:
    return sum(t.state.is_finished() for t in study.get_trials(deepcopy=False))


class _NeverPrunes(NopPruner):
    """Finals have one budget. What the search's pruner wraps, such as the weight store, is found through it."""

    def __init__(self, wrapped: BasePruner) -> None:
        self.wrapped = wrapped


class _OfTheSearch(BaseSampler):
    """Draws nothing: all parameters of a finalist are those of its trial in the search."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> Any:
        return {}

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any) -> Any:
        raise EncodingError(
            f"the objective must ask finalists for the parameters of the search, but asks for {param_name!r} in "
            f"{param_distribution}, which the trial of the search has not had."
        )


# The work, and who does it.


def _enqueue(study: Study, finals: Study, plan: Plan) -> None:
    """Whatever is not done, waiting or being done."""
    trials = finals.get_trials(deepcopy=False)
    present = {lineage.final_of(t) for t in trials if state_of(t) != TrialState.FAIL}
    of_search = {t.number: t for t in study.get_trials(deepcopy=False)}
    for entry, seed in plan.finals():
        if (entry.key, seed) not in present:
            system_attrs = {"fixed_params": entry.params(of_search[entry.trial]), lineage.FINAL: [entry.key, seed]}
            finals.add_trial(optuna.trial.create_trial(state=TrialState.WAITING, system_attrs=system_attrs))


@dataclass(frozen=True)
class _Run:
    """The objective, called only for what nobody else does."""

    finals: Study
    objective: Objective

    def __call__(self, trial: optuna.Trial) -> float | Sequence[float]:
        storage = self.finals._storage
        final = lineage.final_of(storage.get_trial(trial._trial_id))
        if final is None:  # Another worker has taken the last one that waited.
            raise optuna.TrialPruned("nothing is left to train.")
        storage.set_trial_system_attr(trial._trial_id, lineage.WORKER, [_place(), os.getpid(), _PROCESS])
        # Workers that begin at once may enqueue the same: the earlier one counts, and all workers see the same order.
        done = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        for other in self.finals.get_trials(deepcopy=False, states=done):
            is_same = other.number < trial.number and lineage.final_of(other) == final
            if is_same and state_of(other) != TrialState.FAIL:
                trial.set_user_attr(lineage.DUPLICATE_OF, other.number)
                raise optuna.TrialPruned(f"trial {other.number} is the same.")
        return self.objective(trial)


def _release(finals: Study) -> None:
    """Let trials fail whose process was killed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(finals)
    for trial in finals.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _is_abandoned(trial):
            finals.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def _is_abandoned(trial: FrozenTrial) -> bool:
    """Whether the process that ran a trial is gone for sure."""
    worker = trial.system_attrs.get(lineage.WORKER)
    if worker is None:
        return trial.datetime_start is not None and datetime.now() - trial.datetime_start > _GRACE  # noqa: DTZ005
    place, pid, token = worker
    here = _place()
    if place != here:
        return _is_before_restart(place, here)
    if sys.platform == "win32":  # There, to look at a process is to end it.
        return False
    if pid == os.getpid():
        return bool(token != _PROCESS)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # It is there, and someone else's.
        pass
    return False


def _place() -> list[str]:
    """Where a process ID means something: host name, machine, its boot, and the namespace of the IDs, as far as known.

    Containers may share all but the namespace, and have no ID of the machine; other systems have the name alone.
    """
    files = Path("/etc/machine-id"), Path("/proc/sys/kernel/random/boot_id")
    return [socket.gethostname(), *(_or_empty(path.read_text).strip() for path in files), _or_empty(_namespace)]


def _namespace() -> str:
    return os.readlink("/proc/self/ns/pid")


def _or_empty(read: Callable[[], str]) -> str:
    try:
        return read()
    except OSError:
        return ""


def _is_before_restart(place: object, here: list[str]) -> bool:
    """Whether nothing is alive that was at a place, since its machine, which is this one, has been restarted."""
    if not isinstance(place, list):  # Older versions recorded the name alone.
        return False
    (*machine, boot, _), (*own_machine, own_boot, _) = place, here
    return all(machine) and machine == own_machine and boot != own_boot


def _check_budgets(result: Finals) -> None:
    """Warn of trainings of different lengths, as far as they are recorded."""
    found = {e for c in result.contenders for e in c.epochs if e is not None}
    expected = {float(result.request.budget)} if result.request.budget is not None else found
    if len(found | expected) > 1:
        warnings.warn(
            f"Finals must have one budget but trained {sorted(found)} epochs"
            + ("" if result.request.budget is None else f", not {result.request.budget}")
            + ": let the objective train epochs_to_train(trial, ...) epochs.",
            stacklevel=3,
        )
