"""Finalists retrained from scratch, and the best network. Trainings are real and tiny."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FixedTrial, FrozenTrial, TrialState
from torch.nn import functional as F

from optuna_nas_morph import (
    CellSpace,
    Contender,
    Finals,
    Keep,
    LabelledGraph,
    LineagePruner,
    WeightStore,
    best_network,
    epochs_to_train,
    finalize,
    lineage,
    load_network,
    memory,
    proposal,
    publish_weights,
    suggest_architecture,
    suggest_network,
)
from optuna_nas_morph.acquisition import LogExpectedImprovement
from optuna_nas_morph.errors import EncodingError, WeightsMissingError
from optuna_nas_morph.finals import Entry, Plan, Request, read_finals
from optuna_nas_morph.kernels import EditDistance, WeisfeilerLehman
from optuna_nas_morph.morphisms import fresh_weights
from tests.studies import MLP, SPACE, quick_sampler

ROOT = Path(__file__).parents[1]
SEED: dict[str, Any] = {"arch/n": 0, "lr": 0.1}
WIDER: dict[str, Any] = {"arch/n": 1, "arch/00/op": "widen:2", "arch/00/at": 0.25, "lr": 0.2}
OTHER: dict[str, Any] = {**WIDER, "arch/00/at": 0.75, "lr": 0.05}
DEEPER: dict[str, Any] = {**WIDER, "arch/n": 2, "arch/01/op": "deepen:relu", "arch/01/at": 0.9, "lr": 0.3}

_generator = torch.Generator().manual_seed(0)
X = torch.randn(60, 5, generator=_generator)
Y = (X[:, 0] * X[:, 1] > 0).long()


def train(network: torch.nn.Module, lr: float, epochs: int) -> float:
    """Full-batch gradient descent on 60 points; minus the loss, which cannot be the same by chance."""
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9)
    network.train()
    for _ in range(epochs):
        optimizer.zero_grad()
        F.cross_entropy(network(X), Y).backward()
        optimizer.step()
    return loss(network)


def loss(network: torch.nn.Module) -> float:
    network.eval()
    with torch.no_grad():
        return -float(F.cross_entropy(network(X), Y))


def objective(trial: optuna.Trial) -> float:
    network = suggest_network(trial, SPACE)
    lr = trial.suggest_float("lr", 1e-2, 0.5, log=True)
    epochs = epochs_to_train(trial, 2)
    value = train(network, lr, epochs)
    publish_weights(trial, network, epochs=epochs)
    return value


def make_search(*params: dict[str, Any], storage: BaseStorage | str | None = None, **arguments: Any) -> optuna.Study:
    study = optuna.create_study(
        study_name="search",
        storage=storage,
        direction=arguments.pop("direction", "maximize"),
        sampler=arguments.pop("sampler", quick_sampler()),
        **arguments,
    )
    for chosen in params:
        study.enqueue_trial(chosen)
    study.optimize(objective, n_trials=len(params))
    return study


def load_finals(study: optuna.Study, name: str = "search/finals") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=study._storage)


def by_role(result: Finals, role: str) -> list[Contender]:
    return [c for c in result.contenders if role in c.roles]


def trained(study: optuna.Study) -> list[FrozenTrial]:
    return [t for t in study.trials if "nasmorph:fingerprint" in t.user_attrs]


@pytest.fixture(params=["memory", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    return f"sqlite:///{tmp_path}/study.db" if request.param == "sqlite" else None


@pytest.fixture
def store(tmp_path: Path) -> LineagePruner:
    return LineagePruner(optuna.pruners.NopPruner(), store=WeightStore(tmp_path / "weights"))


# What it does.


def test_finalists_are_retrained_and_reported(storage: str | None, store: LineagePruner) -> None:
    study = make_search(SEED, WIDER, OTHER, DEEPER, WIDER, storage=storage, pruner=store)
    before = [dataclasses.replace(t) if dataclasses.is_dataclass(t) else t for t in study.trials]
    attributes = dict(study.user_attrs)
    result = finalize(study, objective, 2, budget=30, n_seeds=2)

    # Nothing in the search changes but the link.
    assert study.trials == before
    assert study.user_attrs == {**attributes, "nasmorph:finals": ["search/finals"]}
    finals = load_finals(study)
    assert finals.user_attrs["nasmorph:finals_of"] == "search"
    assert finals.directions == study.directions

    assert result.is_complete
    assert (result.study_name, result.search_name, result.request.budget) == ("search/finals", "search", 30)
    finalists = by_role(result, "finalist")
    fingerprints = [study.trials[c.trial].user_attrs["nasmorph:fingerprint"] for c in finalists if c.trial is not None]
    assert len(set(fingerprints)) == len(finalists) == 2
    (seed,) = by_role(result, "seed architecture")
    assert seed.trial == 0 and seed.n_parameters == MLP.n_parameters
    (largest,) = by_role(result, "most parameters")
    assert largest.n_parameters == max(t.user_attrs["nasmorph:parameters"] for t in study.trials)

    # Every training is from scratch, for the budget, with the parameters of its trial, by the objective itself.
    for contender in result.contenders:
        assert contender.trial is not None
        source = study.trials[contender.trial]
        assert contender.search_values == (source.value,)
        assert contender.search_epochs == source.user_attrs["nasmorph:effective_epochs"]
        assert contender.epochs == (30.0, 30.0)
        assert len(set(contender.values)) == 2, "seeds give different weights"
        for number, values in zip(contender.final_trials, contender.values, strict=True):
            trial = finals.trials[number]
            assert trial.params == source.params and (trial.value,) == values
            assert trial.user_attrs["nasmorph:inherited_epochs"] == 0 and "nasmorph:donor" not in trial.user_attrs
            assert trial.user_attrs["nasmorph:kind"] == "fresh"
            assert loss(load_network(finals, trial)) == pytest.approx(trial.value)
    assert len(finals.trials) == 2 * len(result.contenders)


def test_inheritance_is_off() -> None:
    """The networks of finals have the very weights that their seeds draw; in the search they have their parents'."""
    study = make_search(SEED, WIDER)
    seen: list[tuple[str, int, dict[str, torch.Tensor]]] = []

    def look(trial: optuna.Trial) -> float:
        network = suggest_network(trial, SPACE)
        trial.suggest_float("lr", 1e-2, 0.5, log=True)
        final = lineage.final_of(trial.storage.get_trial(trial._trial_id))
        assert final is not None
        seen.append(
            (network.architecture.fingerprint, final[1], {k: v.clone() for k, v in network.state_dict().items()})
        )
        publish_weights(trial, network, epochs=1)  # A donor to tempt those that follow.
        return 0.0

    finalize(study, look, 2, n_seeds=2)
    architectures = {t.user_attrs["nasmorph:fingerprint"]: lineage.architecture_of(t) for t in study.trials}
    assert len(seen) == 4
    for fingerprint, seed, weights in seen:
        architecture = architectures[fingerprint]
        assert architecture is not None
        fresh = fresh_weights(architecture, np.random.default_rng([0, seed]))  # 0: the seed of the sampler
        assert weights.keys() == fresh.keys() and all(torch.equal(weights[k], fresh[k]) for k in fresh)


def test_the_budget_is_what_the_objective_is_told() -> None:
    study = make_search(SEED, WIDER)
    assert {t.user_attrs["nasmorph:effective_epochs"] for t in study.trials} == {2, 4}
    assert {e for c in finalize(study, objective, 2, budget=7).contenders for e in c.epochs} == {7.0}
    # Without one the objective does what it does in the search.
    assert {e for c in finalize(study, objective, 2, name="plain").contenders for e in c.epochs} == {2.0}
    assert epochs_to_train(FixedTrial(SEED), 3) == 3


def test_budgets_that_are_not_equal_are_told() -> None:
    study = make_search(SEED, WIDER)

    def stubborn(trial: optuna.Trial) -> float:
        network = suggest_network(trial, SPACE)
        lr = trial.suggest_float("lr", 1e-2, 0.5, log=True)
        epochs = 3 if lr < 0.15 else 4
        publish_weights(trial, network, epochs=epochs)
        return lr

    with pytest.warns(UserWarning, match=r"must have one budget but trained \[3.0, 4.0\] epochs, not 9"):
        finalize(study, stubborn, 2, budget=9)
    with pytest.warns(UserWarning, match=r"must have one budget but trained \[3.0, 4.0\] epochs: let"):
        finalize(study, stubborn, 2, name="other")


def test_nothing_is_pruned() -> None:
    study = make_search(SEED, WIDER, OTHER, pruner=optuna.pruners.ThresholdPruner(upper=0.0))

    def reporting(trial: optuna.Trial) -> float:
        trial.suggest_float("lr", 1e-2, 0.5, log=True)
        suggest_architecture(trial, SPACE)
        trial.report(1.0, 0)
        if trial.should_prune():
            raise optuna.TrialPruned
        return 1.0

    assert finalize(study, reporting, 3).is_complete
    assert {t.state for t in load_finals(study).trials} == {TrialState.COMPLETE}


def test_the_table() -> None:
    study = make_search(SEED, WIDER, OTHER)
    text = str(finalize(study, objective, 1, budget=5, n_seeds=2))
    lines = text.splitlines()
    assert (
        lines[0]
        == "Finals of 'search', trained from scratch, 5 epochs, 2 seeds, mean ± standard deviation; * is the best"
    )
    assert lines[1].split() == ["trial", "parameters", "in", "the", "search", "epochs", "from", "scratch", "epochs"]
    assert sum("*" in line for line in lines[2:]) == 1
    assert any(line.startswith("seed architecture") for line in lines)
    assert all("±" in line for line in lines[2:])


# Who is a finalist.


def told(study: optuna.Study, params: dict[str, Any], values: float | list[float], **attributes: Any) -> FrozenTrial:
    study.enqueue_trial(params)
    trial = study.ask()
    suggest_architecture(trial, SPACE)
    trial.suggest_float("lr", 1e-2, 0.5, log=True)
    for name, value in attributes.items():
        trial.set_user_attr(f"nasmorph:{name}", value)
    return study.tell(trial, values)


def constant(trial: optuna.Trial) -> float:
    suggest_architecture(trial, SPACE)
    trial.suggest_float("lr", 1e-2, 0.5, log=True)
    return 0.0


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_by_value_the_best_of_each_architecture(direction: str) -> None:
    study = optuna.create_study(direction=direction, sampler=quick_sampler())
    sign = 1 if direction == "maximize" else -1
    for params, value in ((SEED, 0.1), (WIDER, 0.9), ({**WIDER, "lr": 0.11}, 0.95), (OTHER, 0.5), (DEEPER, 0.7)):
        told(study, params, sign * value)
    result = finalize(study, constant, 3, rank_by="value", baselines=())
    assert [c.trial for c in result.contenders] == [2, 4, 3]
    assert all(c.roles == ("finalist",) for c in result.contenders)


def test_by_prediction_the_architecture_and_not_the_lineage() -> None:
    # Training adds more than architectures differ by; the wide ones are better and young, the others old.
    study = optuna.create_study(direction="maximize", sampler=quick_sampler())
    rng = np.random.default_rng(0)
    for i in range(24):
        wide = i % 2 == 0
        epochs = int(rng.integers(2, 8)) if wide else int(rng.integers(6, 40))
        value = 0.3 * np.log(epochs) + 0.2 * wide + 0.01 * rng.standard_normal()
        params = {**(WIDER if wide else OTHER), "lr": float(rng.uniform(0.05, 0.4))}
        told(study, params, float(value), inherited_epochs=1.0, effective_epochs=float(epochs))
    by_value = finalize(study, constant, 1, rank_by="value", baselines=(), name="value")
    by_prediction = finalize(study, constant, 1, baselines=(), name="prediction")
    params = [study.trials[r.contenders[0].trial or 0].params for r in (by_value, by_prediction)]
    assert [p["arch/00/at"] for p in params] == [OTHER["arch/00/at"], WIDER["arch/00/at"]]


@pytest.mark.parametrize("wrapped", [False, True])
def test_by_the_prediction_of_the_studys_sampler(wrapped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, acquisition = EditDistance(), LogExpectedImprovement()
    prior = optuna.create_study(direction="maximize", sampler=quick_sampler())
    told(prior, SEED, 0.1)
    told(prior, WIDER, 0.9)
    sampler: Any = quick_sampler(
        kernel=kernel, acquisition=acquisition, deterministic_objective=True, prior_studies=[prior]
    )
    if wrapped:
        with pytest.warns(optuna.exceptions.ExperimentalWarning):
            sampler = optuna.samplers.PartialFixedSampler({}, sampler)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for params, value in ((SEED, 0.1), (WIDER, 0.9), (OTHER, 0.5)):
        told(study, params, value)
    seen: list[proposal.Settings] = []
    predict = proposal.predict_finished

    def look(task: Any, history: Any, settings: proposal.Settings, rng: Any) -> Any:
        seen.append(settings)
        return predict(task, history, settings, rng)

    monkeypatch.setattr(proposal, "predict_finished", look)
    finalize(study, constant, 2)
    study.sampler = optuna.samplers.RandomSampler()
    finalize(study, constant, 2, name="default")
    own, default = seen
    assert own.kernel is kernel and own.deterministic and len(own.priors) == 1
    assert own.acquisition is None, "several objectives would be scalarised"
    assert isinstance(default.kernel, WeisfeilerLehman) and not default.deterministic and not default.priors


def test_baselines_that_are_finalists_are_trained_once() -> None:
    study = optuna.create_study(direction="maximize", sampler=quick_sampler())
    for params, value in ((SEED, 0.9), (DEEPER, 0.8)):
        told(study, params, value)
    result = finalize(study, constant, 2, rank_by="value")
    assert [c.roles for c in result.contenders] == [("finalist", "seed architecture"), ("finalist", "most parameters")]


def test_a_seed_architecture_that_was_never_evaluated() -> None:
    study = make_search(WIDER, OTHER)
    result = finalize(study, objective, 1, budget=3)
    (seed,) = by_role(result, "seed architecture")
    assert (seed.trial, seed.search_values, seed.search_epochs) == (None, None, None)
    assert seed.n_parameters == MLP.n_parameters
    finals = load_finals(study)
    (trial,) = (finals.trials[n] for n in seed.final_trials)
    best = study.trials[by_role(result, "finalist")[0].trial or 0]
    assert trial.params == {"arch/n": 0, "lr": best.params["lr"]}
    assert " - " in next(line for line in str(result).splitlines() if line.startswith("seed architecture"))


def test_several_objectives_the_front() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=quick_sampler())
    for params, values in ((SEED, [0.1, 9.0]), (WIDER, [0.9, 5.0]), (OTHER, [0.5, 1.0]), (DEEPER, [0.8, 6.0])):
        told(study, params, values)

    def both(trial: optuna.Trial) -> list[float]:
        n = suggest_architecture(trial, SPACE).n_parameters
        return [trial.suggest_float("lr", 1e-2, 0.5, log=True), float(n)]

    result = finalize(study, both, 2, rank_by="value", baselines=())
    assert {c.trial for c in result.contenders} == {1, 2}  # 3 is dominated by 1, 0 by all
    assert all(c.mean is not None and len(c.mean) == 2 for c in result.contenders)
    assert len(result.best) == 2 or result.best[0].mean is not None
    assert finalize(study, both, 2, name="predicted").is_complete
    with pytest.raises(ValueError, match="study must have one objective but has 2: choose a trial"):
        best_network(study)


def test_what_does_not_keep_to_constraints_is_no_finalist() -> None:
    study = optuna.create_study(direction="maximize", sampler=quick_sampler())
    for params, value, violation in ((WIDER, 0.9, 1.0), (OTHER, 0.5, -1.0)):
        study.enqueue_trial(params)
        trial = study.ask()
        suggest_architecture(trial, SPACE)
        trial.suggest_float("lr", 1e-2, 0.5, log=True)
        trial.set_constraint("latency", violation)
        study.tell(trial, value)
    assert [c.trial for c in finalize(study, constant, 2, baselines=()).contenders] == [1]


CELLS = CellSpace(
    {"a": ("none", "conv", "pool"), "b": ("none", "conv")},
    lambda choices: LabelledGraph(("in", choices["a"], choices["b"], "out"), ((0, 1), (1, 2), (2, 3))),
)


def cell_objective(trial: optuna.Trial) -> float:
    choices = suggest_architecture(trial, CELLS)
    lr = trial.suggest_float("lr", 1e-2, 0.5, log=True)
    return float((choices["a"] == "conv") + 0.5 * (choices["b"] == "conv") - lr) * epochs_to_train(trial, 1)


@pytest.mark.parametrize("rank_by", ["prediction", "value"])
def test_cells(rank_by: Any) -> None:
    study = optuna.create_study(direction="maximize", sampler=quick_sampler(search=None))
    study.optimize(cell_objective, n_trials=8)
    result = finalize(study, cell_objective, 2, budget=10, rank_by=rank_by)
    assert [c.roles for c in result.contenders] == [("finalist",)] * 2
    assert [c.n_parameters for c in result.contenders] == [None, None]
    for contender in result.contenders:
        assert contender.search_values is not None and contender.mean is not None
        assert contender.mean[0] == pytest.approx(10 * contender.search_values[0])
    assert " - " in str(result)


def test_cells_that_this_process_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    study = optuna.create_study(direction="maximize", sampler=quick_sampler(search=None))
    study.optimize(cell_objective, n_trials=3)
    monkeypatch.setattr(lineage, "_live", {})
    with pytest.raises(ValueError, match="must be known to rank by prediction"):
        finalize(study, cell_objective, 2)
    assert len(optuna.get_all_study_names(study._storage)) == 1  # none left behind
    assert finalize(study, cell_objective, 2, rank_by="value").is_complete


# Interrupted, failed, shared.


class Killed(BaseException):
    """Nothing catches it."""


def test_it_goes_on_where_it_was_interrupted(storage: str | None) -> None:
    study = make_search(SEED, WIDER, OTHER, storage=storage)
    calls: Counter[tuple[str, int]] = Counter()

    def failing_third(trial: optuna.Trial) -> float:
        if calls.total() == 2:
            raise RuntimeError("a cable")
        final = lineage.final_of(trial.storage.get_trial(trial._trial_id))
        assert final is not None
        calls[final] += 1
        return objective(trial)

    with pytest.raises(RuntimeError, match="a cable"):
        finalize(study, failing_third, 3, budget=4, n_seeds=2)
    partial = load_finals(study)
    assert Counter(t.state.name for t in partial.trials) == {"COMPLETE": 2, "FAIL": 1, "WAITING": 3}
    result = finalize(study, objective, 3, budget=4, n_seeds=2)
    assert result.is_complete
    states = Counter(t.state.name for t in load_finals(study).trials)
    assert states == {"COMPLETE": 6, "FAIL": 1}
    # The same as without the interruption, and nothing is done again.
    again = finalize(study, lambda trial: pytest.fail("trained again"), 3, budget=4, n_seeds=2)
    assert again == result
    other = optuna.create_study(study_name="search", direction="maximize", sampler=quick_sampler())
    for trial in study.trials:
        other.add_trial(trial)
    other.set_user_attr("nasmorph:space", study.user_attrs["nasmorph:space"])
    whole = finalize(other, objective, 3, budget=4, n_seeds=2)
    assert [c.values for c in whole.contenders] == [c.values for c in result.contenders]


def test_failed_and_pruned_finalists() -> None:
    study = make_search(SEED, WIDER, OTHER)

    def troubled(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", 1e-2, 0.5, log=True)
        if lr == WIDER["lr"]:
            raise RuntimeError("out of memory")
        if lr == OTHER["lr"]:
            raise optuna.TrialPruned
        return objective(trial)

    result = finalize(study, troubled, 3, catch=(RuntimeError,))
    outcome = {c.trial: c.unfinished for c in result.contenders}
    assert outcome == {0: (), 1: ("failed",), 2: ("pruned",)}
    assert not result.is_complete
    assert [c.trial for c in result.best] == [0]
    assert "1 failed" in str(result) and "1 pruned" in str(result)
    # What failed is tried again by the next call, what was pruned is not.
    asked = []

    def mended(trial: optuna.Trial) -> float:
        asked.append(trial.suggest_float("lr", 1e-2, 0.5, log=True))
        return objective(trial)

    result = finalize(study, mended, 3)
    assert asked == [WIDER["lr"]] and result.is_complete
    assert {c.trial: c.unfinished for c in result.contenders} == {0: (), 1: (), 2: ("pruned",)}


def test_what_ran_out_of_memory_is_trained_again() -> None:
    study = make_search(SEED, WIDER)
    asked: list[float] = []

    def hungry(trial: optuna.Trial) -> float:
        asked.append(trial.suggest_float("lr", 1e-2, 0.5, log=True))
        with memory.guard(trial, suggest_network(trial, SPACE)):
            if asked[-1] == WIDER["lr"]:
                raise torch.OutOfMemoryError("CUDA out of memory.")
        return objective(trial)

    for _ in range(2):  # Each call tries once.
        result = finalize(study, hungry, 2)
        assert {c.trial: c.unfinished for c in result.contenders} == {0: (), 1: ("failed",)}
        assert not result.is_complete
    assert Counter(asked) == {SEED["lr"]: 1, WIDER["lr"]: 2}

    def on_a_larger_device(trial: optuna.Trial) -> float:
        plan = Plan.from_dict(trial.study.user_attrs["nasmorph:plan"])
        now = read_finals(study, trial.study, plan)
        assert {c.trial: c.unfinished for c in now.contenders} == {0: (), 1: ("running",)}
        return objective(trial)

    result = finalize(study, on_a_larger_device, 2)
    assert result.is_complete and all(len(c.values) == 1 for c in result.contenders)
    assert Counter(t.state.name for t in load_finals(study).trials) == {"COMPLETE": 2, "PRUNED": 2}


WORKER = """
import os, pathlib, sys, time, warnings
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna_nas_morph import finalize
from tests import test_finalize

def objective(trial):
    pathlib.Path(f"running-{os.getpid()}").touch()
    time.sleep(float(sys.argv[1]))
    trial.set_user_attr("process", os.getpid())
    return test_finalize.objective(trial)

pathlib.Path(f"ready-{os.getpid()}").touch()
while len(list(pathlib.Path().glob("ready-*"))) < int(sys.argv[2]):
    time.sleep(0.01)
study = optuna.load_study(study_name="search", storage=JournalStorage(JournalFileBackend("journal.log")))
print(finalize(study, objective, 3, budget=3, n_seeds=3, rank_by="value"))
"""


def start_worker(path: Path, seconds: float, n_workers: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", WORKER, str(seconds), str(n_workers)],
        cwd=path,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def journal(path: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(path / "journal.log")))


def test_two_processes_share_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_search(SEED, WIDER, OTHER, storage=journal(tmp_path))
    workers = [start_worker(tmp_path, 0.2, 2) for _ in range(2)]
    outputs = [worker.communicate(timeout=240) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    study = optuna.load_study(study_name="search", storage=journal(tmp_path))
    trials = load_finals(study).trials
    done = [t for t in trials if t.state == TrialState.COMPLETE]
    assert len(done) == 9 == len({lineage.final_of(t) for t in done})
    assert len({t.user_attrs["process"] for t in done}) == 2
    assert finalize(study, lambda trial: pytest.fail("again"), 3, budget=3, n_seeds=3, rank_by="value").is_complete


def test_what_a_killed_process_was_training_is_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_search(SEED, WIDER, OTHER, storage=journal(tmp_path))
    worker = start_worker(tmp_path, 100.0, 1)
    while not list(tmp_path.glob("running-*")):
        assert worker.poll() is None, worker.communicate()
        time.sleep(0.02)
    study = optuna.load_study(study_name="search", storage=journal(tmp_path))
    # As long as it lives its training is its own.
    arguments: dict[str, Any] = {"budget": 3, "n_seeds": 3, "rank_by": "value"}
    meanwhile = finalize(study, objective, 3, **arguments)
    assert not meanwhile.is_complete
    assert [s for c in meanwhile.contenders for s in c.unfinished] == ["running"]
    os.kill(worker.pid, signal.SIGKILL)
    worker.communicate()
    result = finalize(study, objective, 3, **arguments)
    assert result.is_complete
    states = Counter(t.state.name for t in load_finals(study).trials)
    assert states == {"COMPLETE": 9, "FAIL": 1}


def boot(boot_id: str, machine: str = "this") -> Callable[[Path], str]:
    return lambda path: machine if path.name == "machine-id" else boot_id


def unreadable(*_: Any) -> str:
    raise PermissionError


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no namespaces of process IDs")
@pytest.mark.parametrize(
    ("then", "now", "is_dead"),
    [
        ({}, {}, True),
        ({"readlink": lambda path: "pid:[1]"}, {}, False),
        ({"read_text": boot("1")}, {"read_text": boot("2")}, True),
        ({"read_text": boot("1", machine="other")}, {"read_text": boot("2")}, False),
        ({"read_text": boot("1", machine="")}, {"read_text": boot("2", machine="")}, False),
        ({"readlink": unreadable, "read_text": unreadable}, {}, False),
        ({"readlink": unreadable, "read_text": unreadable}, {"readlink": unreadable, "read_text": unreadable}, True),
    ],
    ids=[
        "here",
        "in another container",
        "before a restart",
        "on another machine",
        "where machines are not known",
        "where it did not see",
        "where nothing is known but the name",
    ],
)
def test_dead_is_only_who_would_be_seen_alive(
    then: dict[str, Any], now: dict[str, Any], is_dead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def set_all(patch: pytest.MonkeyPatch, functions: dict[str, Any]) -> None:
        for name, function in functions.items():
            patch.setattr(Path if name == "read_text" else os, name, function)

    def killed(trial: optuna.Trial) -> float:
        raise Killed

    study = make_search(SEED)
    with monkeypatch.context() as patch:
        set_all(patch, {"getpid": lambda: 2**31 - 1, **then})  # No process has this ID.
        with pytest.raises(Killed):
            finalize(study, killed, 1)
    set_all(monkeypatch, now)
    assert finalize(study, objective, 1).is_complete == is_dead


def test_two_threads_that_begin_at_once_train_nothing_twice() -> None:
    study = make_search(SEED, WIDER, OTHER)
    calls: Counter[tuple[str, int] | None] = Counter()
    results: list[Finals] = []

    def counted(trial: optuna.Trial) -> float:
        calls[lineage.final_of(trial.storage.get_trial(trial._trial_id))] += 1
        time.sleep(0.02)
        return objective(trial)

    def work() -> None:
        results.append(finalize(study, counted, 3, budget=2, n_seeds=3, rank_by="value"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert len(calls) == 9 and set(calls.values()) == {1}
    assert finalize(study, counted, 3, budget=2, n_seeds=3, rank_by="value").is_complete


def test_of_what_was_enqueued_twice_one_is_trained() -> None:
    study = make_search(SEED, WIDER)
    seen: list[int] = []

    def twice(trial: optuna.Trial) -> float:
        if not seen:  # As another worker would that began at the same moment.
            finals = trial.study
            for other in finals.get_trials(states=(TrialState.WAITING,)):
                finals.add_trial(
                    optuna.trial.create_trial(state=TrialState.WAITING, system_attrs=dict(other.system_attrs))
                )
        seen.append(trial.number)
        return objective(trial)

    result = finalize(study, twice, 2, n_seeds=2)
    assert result.is_complete and seen == [0, 1, 2, 3]
    skipped = [t for t in load_finals(study).trials if t.state == TrialState.PRUNED]
    assert [t.user_attrs["nasmorph:duplicate_of"] for t in skipped] == [1, 2, 3]


# Arguments.


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"top_k": 0}, "top_k must be a positive integer but got 0"),
    ({"n_seeds": 1.5}, "n_seeds must be a positive integer but got 1.5"),
    ({"budget": -3}, "budget must be a positive integer but got -3"),
    ({"budget": True}, "budget must be a positive integer but got True"),
    ({"rank_by": "size"}, "rank_by must be one of 'prediction', 'value' but got 'size'"),
    ({"baselines": ("random",)}, "baselines must be a sequence of some of 'seed architecture', 'most parameters'"),
    ({"baselines": "most parameters"}, "baselines must be a sequence of some of"),
    ({"name": "search"}, "name must be that of finals of 'search', or a new one, but is 'search'"),
    ({"name": "foreign"}, "name must be that of finals of 'search', or a new one, but is 'foreign'"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    study = make_search(SEED)
    foreign = optuna.create_study(study_name="foreign", storage=study._storage)
    foreign.set_user_attr("nasmorph:finals_of", "another")
    with pytest.raises(ValueError, match=message):
        finalize(study, objective, **arguments)
    assert "nasmorph:finals" not in study.user_attrs


def test_wrong_studies_and_objectives() -> None:
    study = make_search(SEED)
    with pytest.raises(TypeError, match="study must be an Optuna study but got str"):
        finalize("search", objective)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="objective must be callable but got 3"):
        finalize(study, 3)  # type: ignore[arg-type]
    finalize(study, objective, 1)
    with pytest.raises(ValueError, match="study must be a search but 'search/finals' is the finals of one"):
        finalize(load_finals(study), objective)
    empty = optuna.create_study()
    with pytest.raises(ValueError, match="must have a finished trial with an architecture"):
        finalize(empty, objective)
    assert len(optuna.get_all_study_names(empty._storage)) == 1


def test_other_arguments_need_another_name() -> None:
    study = make_search(SEED, WIDER)
    finalize(study, objective, 1, budget=3)
    with pytest.raises(ValueError, match="begun with other arguments: there top_k is 1, not 2; budget is 3, not 4"):
        finalize(study, objective, 2, budget=4)
    assert finalize(study, objective, 2, budget=4, name="longer").is_complete
    assert study.user_attrs["nasmorph:finals"] == ["search/finals", "longer"]


def test_a_search_that_has_gone_on_is_told() -> None:
    study = make_search(SEED, WIDER)
    first = finalize(study, objective, 1)
    study.optimize(objective, n_trials=1)
    with pytest.warns(UserWarning, match="has gone on since its finals 'search/finals' were begun, after 2 trials"):
        assert finalize(study, objective, 1) == first


def test_an_objective_that_asks_for_more() -> None:
    study = make_search(SEED)

    def more(trial: optuna.Trial) -> float:
        return trial.suggest_float("momentum", 0.0, 1.0)

    with pytest.raises(
        EncodingError, match="must ask finalists for the parameters of the search, but asks for 'momentum'"
    ):
        finalize(study, more, 1)


def test_a_plan_comes_back() -> None:
    request = Request(2, None, 3, "value", ("most parameters",))
    plan = Plan(request, (Entry(4, ("finalist",)), Entry(4, ("seed architecture",), is_unseen_seed=True)), 9, 7)
    assert Plan.from_dict(plan.to_dict()) == plan
    assert plan.to_dict() == {
        "version": 1,
        "request": {"top_k": 2, "budget": None, "n_seeds": 3, "rank_by": "value", "baselines": ("most parameters",)},
        "entries": (
            {"trial": 4, "roles": ("finalist",), "is_unseen_seed": False},
            {"trial": 4, "roles": ("seed architecture",), "is_unseen_seed": True},
        ),
        "n_trials": 9,
        "seed": 7,
    }
    with pytest.raises(ValueError, match="plan of the finals must be of version 1 but is of 2"):
        Plan.from_dict({**plan.to_dict(), "version": 2})


# The best network.


def test_without_finals_the_best_trial_and_what_its_value_holds() -> None:
    study = make_search(SEED)
    found = best_network(study)
    assert (found.training, found.epochs, found.study_name, found.trial.number) == ("from scratch", 2.0, "search", 0)
    study = make_search(SEED, WIDER, DEEPER)
    while study.best_trial.number == 0:
        study.enqueue_trial({**WIDER, "lr": 0.1})
        study.optimize(objective, n_trials=1)
    found = best_network(study)
    assert found.training == "inherited" and found.epochs is not None and found.epochs > 2
    assert found.value == study.best_value == pytest.approx(loss(found.network))
    assert not found.network.training
    assert f"trial {study.best_trial.number} of 'search'" in str(found) and "inherited" in str(found)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_after_finals_the_best_contender(direction: str, storage: str | None, store: LineagePruner) -> None:
    study = make_search(SEED, WIDER, OTHER, storage=storage, pruner=store, direction=direction)
    result = finalize(study, objective, 2, budget=20, n_seeds=2)
    found = best_network(study)
    (best,) = result.best
    choose: Callable[..., float] = max if direction == "maximize" else min
    means = [c.mean[0] for c in result.contenders if c.mean is not None]
    assert best.mean is not None and best.mean[0] == choose(means)
    assert found.value == choose(v for (v,) in best.values) == pytest.approx(loss(found.network))
    assert (found.training, found.epochs, found.study_name) == ("from scratch", 20.0, "search/finals")
    assert found.trial.number in best.final_trials
    assert "trained from scratch for 20 epochs" in str(found)
    # In a process that has only the storage and the store.
    if storage is not None:
        again = optuna.load_study(study_name="search", storage=storage)
        assert best_network(again).value == found.value


def test_a_winner_without_weights() -> None:
    study = optuna.create_study(study_name="search", direction="maximize", sampler=quick_sampler())
    study.optimize(constant, n_trials=1)
    with pytest.raises(WeightsMissingError, match="the winner, must have published weights but has not"):
        best_network(study)
    with pytest.raises(ValueError, match=r"finals must be one of \[\] but is 'x'"):
        best_network(study, finals="x")


def test_finals_that_are_not_complete() -> None:
    study = make_search(SEED, WIDER, OTHER)

    def troubled(trial: optuna.Trial) -> float:
        if trial.suggest_float("lr", 1e-2, 0.5, log=True) == WIDER["lr"]:
            raise RuntimeError
        return objective(trial)

    finalize(study, troubled, 3, catch=(RuntimeError,))
    with pytest.warns(UserWarning, match="'search/finals' are not complete: the winner is the best so far"):
        found = best_network(study)
    assert found.study_name == "search/finals" and found.trial.params["lr"] != WIDER["lr"]
    optuna.delete_study(study_name="search/finals", storage=study._storage)
    assert best_network(study).study_name == "search"


def failing(trial: optuna.Trial) -> float:
    raise RuntimeError


def failing_at_first(trial: optuna.Trial) -> float:
    if trial.number == 0:
        raise RuntimeError
    return objective(trial)


def test_later_finals_do_not_hide_those_that_are_complete() -> None:
    study = make_search(SEED, WIDER)
    catch: dict[str, Any] = {"catch": (RuntimeError,)}
    finalize(study, failing, 2, name="none", **catch)
    with pytest.warns(UserWarning, match="None of the finals 'none' has a complete training: the winner is"):
        assert best_network(study).study_name == "search"

    finalize(study, failing_at_first, 2, name="some", **catch)
    finalize(study, failing, 2, name="none again", **catch)
    with pytest.warns(UserWarning, match="'none again', 'some' are not complete: the winner .* of 'some'"):
        assert best_network(study).study_name == "some"

    finalize(study, objective, 2, name="all")
    finalize(study, objective, 2, name="all again")
    assert best_network(study).study_name == "all again"  # A warning would be an error.

    finalize(study, failing_at_first, 2, name="some again", **catch)
    with pytest.warns(UserWarning, match="finals 'some again' are not complete: the winner .* of 'all again'"):
        assert best_network(study).study_name == "all again"
    with pytest.warns(UserWarning, match="finals 'some' are not complete: the winner .* of 'some'"):
        assert best_network(study, finals="some").study_name == "some"
    assert best_network(study, finals="all").study_name == "all"


def test_finals_that_were_named_and_have_no_winner() -> None:
    study = make_search(SEED, WIDER)
    finalize(study, failing, 2, name="two", catch=(RuntimeError,))
    lineage.link_finals(study, optuna.create_study(study_name="begun", storage=study._storage))
    for name in ("two", "begun"):
        with pytest.raises(ValueError, match=f"finals must have a complete training but {name!r} has none"):
            best_network(study, finals=name)


def test_the_winner_by_its_mean_keeps_its_weights(tmp_path: Path) -> None:
    pruner = LineagePruner(store=WeightStore(tmp_path, keep=Keep(best=1, recent=1)))
    study = make_search(SEED, WIDER, pruner=pruner)
    values = {("0", 0): 0.9, ("0", 1): 0.5, ("1", 0): 0.8, ("1", 1): 0.8}

    def by_seed(trial: optuna.Trial) -> float:
        objective(trial)
        final = lineage.final_of(trial.storage.get_trial(trial._trial_id))
        assert final is not None
        return values[final]

    finalize(study, by_seed, 2, n_seeds=2)
    found = best_network(study)
    assert (found.value, found.trial.params) == (0.8, WIDER)
