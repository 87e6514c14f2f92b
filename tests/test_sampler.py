"""The sampler in studies: proposals, hard histories, other samplers, storages and pruners."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grakel
import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIISampler,
    PartialFixedSampler,
    RandomSampler,
    TPESampler,
)
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FixedTrial, TrialState, create_trial

from optuna_nas_morph import LineagePruner, MorphBOSampler, encoding, lineage, suggest_architecture, suggest_network
from optuna_nas_morph.acquisition import UpperConfidenceBound
from optuna_nas_morph.history import read_claim
from optuna_nas_morph.kernels import WeisfeilerLehman
from optuna_nas_morph.morphisms import AddSkip, Widen
from optuna_nas_morph.spaces import MorphSpace
from tests.studies import CNN_SPACE, MLP, MLP_MORPHISMS, SPACE, key_of, make_objective, quick_sampler

EXPERIMENTAL = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def architecture_only(space: MorphSpace = SPACE) -> Callable[[optuna.Trial], float]:
    def objective(trial: optuna.Trial) -> float:
        return -abs(math.log(suggest_architecture(trial, space).n_parameters / 90))

    return objective


def keys(study: optuna.Study) -> list[Any]:
    return [key_of(t) for t in study.get_trials() if "nasmorph:fingerprint" in t.user_attrs]


def params_of(study: optuna.Study) -> list[dict[str, Any]]:
    return [t.params for t in study.trials]


# What is proposed.


def test_the_first_trial_is_the_seed_and_hyperparameters_are_drawn() -> None:
    study = optuna.create_study(sampler=quick_sampler(5))
    study.optimize(make_objective(publish=False), n_trials=5)
    assert study.trials[0].params["arch/n"] == 0
    fingerprints = [t.user_attrs["nasmorph:fingerprint"] for t in study.trials]
    assert fingerprints[0] == MLP.fingerprint
    assert len(set(fingerprints)) == 5
    assert len({t.params["lr"] for t in study.trials}) == 5


@pytest.mark.parametrize("seed", range(4))
def test_the_startup_repeats_no_architecture_while_there_are_others(seed: int) -> None:
    everything = finite(TINY["two steps"])
    study = optuna.create_study(sampler=quick_sampler(99, seed))
    study.optimize(make_objective(TINY["two steps"], publish=False), n_trials=len(everything))
    assert {t.user_attrs["nasmorph:fingerprint"] for t in study.trials} == everything


@pytest.mark.parametrize("n_startup_trials", [0, 1, 4])
def test_the_surrogate_takes_over_after_the_startup(n_startup_trials: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import optuna_nas_morph.belief as module

    fitted_at: list[int] = []
    study = optuna.create_study(sampler=quick_sampler(n_startup_trials))

    def spy(observed: Any, quantities: Any, *arguments: Any, **rest: Any) -> Any:
        fitted_at.append(len(quantities[0].targets))
        return original(observed, quantities, *arguments, **rest)

    original = module.fit_surrogate
    monkeypatch.setattr(module, "fit_surrogate", spy)
    study.optimize(architecture_only(), n_trials=6)
    assert fitted_at == list(range(max(1, n_startup_trials), 6))


@pytest.mark.parametrize("lr_first", [False, True])
def test_nothing_is_proposed_twice(lr_first: bool) -> None:
    study = optuna.create_study(sampler=quick_sampler(3), direction="maximize")
    study.optimize(make_objective(publish=False, lr_first=lr_first), n_trials=12)
    assert len(set(keys(study))) == 12
    study = optuna.create_study(sampler=quick_sampler(3), direction="maximize")
    study.optimize(architecture_only(), n_trials=15)
    assert len(set(keys(study))) == 15


def test_it_is_better_than_random() -> None:
    def best(sampler: BaseSampler) -> float:
        study = optuna.create_study(sampler=sampler, direction="maximize")
        study.optimize(make_objective(CNN_SPACE, publish=False), n_trials=25)
        return study.best_value

    ours = [best(quick_sampler(8, seed)) for seed in range(3)]
    random = [best(RandomSampler(seed=seed)) for seed in range(3)]
    assert np.mean(ours) > np.mean(random)
    assert min(ours) > np.median(random)


@pytest.mark.parametrize("lr_first", [False, True])
@pytest.mark.parametrize("n_startup_trials", [2, 99])
def test_fifty_running_trials_are_all_different(lr_first: bool, n_startup_trials: int) -> None:
    study = optuna.create_study(sampler=quick_sampler(n_startup_trials), direction="maximize")
    study.optimize(make_objective(CNN_SPACE, publish=False, lr_first=lr_first), n_trials=3)
    for _ in range(50):
        trial = study.ask()
        if lr_first:
            trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        suggest_architecture(trial, CNN_SPACE)
        if not lr_first:
            trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    assert len(set(keys(study))) == 53
    fingerprints = {t.user_attrs["nasmorph:fingerprint"] for t in study.trials}
    assert len(fingerprints) > 40  # not one architecture with fifty learning rates


def test_a_claim_is_seen_by_another_worker_before_the_objective_asks() -> None:
    storage = InMemoryStorage()
    study = optuna.create_study(storage=storage, sampler=quick_sampler(2), study_name="s")
    study.optimize(architecture_only(), n_trials=4)
    first = study.ask()
    proposed = study.sampler.sample_relative(
        study,
        storage.get_trial(first._trial_id),
        study.sampler.infer_relative_search_space(study, storage.get_trial(first._trial_id)),
    )
    frozen = study.get_trials(deepcopy=False)[4]
    assert frozen.params == {}
    claim = read_claim(frozen)
    assert claim == proposed
    # Another process with the same seed, even if it draws the same numbers, does something else.
    other = optuna.load_study(study_name="s", storage=storage, sampler=quick_sampler(2))
    second = other.ask()
    architecture = suggest_architecture(second, SPACE)
    assert architecture != encoding.decode(SPACE, claim).architecture


def test_proposals_are_plain_python_scalars() -> None:
    study = optuna.create_study(sampler=quick_sampler(2))

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_int("i", 1, 9)
        trial.suggest_float("f", 0.0, 1.0)
        trial.suggest_categorical("c", ["a", None, 2])
        return float(suggest_architecture(trial, SPACE).flops)

    study.optimize(objective, n_trials=4)
    trial = study.ask()
    frozen = study._storage.get_trial(trial._trial_id)
    proposed = study.sampler.sample_relative(study, frozen, study.sampler.infer_relative_search_space(study, frozen))
    assert {"i", "f", "c", "arch/n"} <= proposed.keys()
    for name, value in proposed.items():
        assert type(value) in (int, float, str, type(None)), (name, type(value))


def test_limits_are_never_exceeded() -> None:
    space = MorphSpace(MLP, MLP_MORPHISMS, 5, max_parameters=100, max_flops=160, max_nodes=10)
    study = optuna.create_study(sampler=quick_sampler(3), direction="maximize")
    study.optimize(lambda trial: suggest_architecture(trial, space).n_parameters, n_trials=14)
    for trial in study.trials:
        architecture = lineage.architecture_of(trial)
        assert architecture is not None
        assert architecture.n_parameters <= 100
        assert architecture.flops <= 160
        assert len(architecture.nodes) <= 10
        assert trial.params["arch/n"] <= 5
    assert study.best_value > 85


# Reproducibility.


def test_the_same_seed_gives_the_same_proposals_and_another_one_others() -> None:
    def run(seed: int) -> list[dict[str, Any]]:
        study = optuna.create_study(sampler=quick_sampler(3, seed), direction="maximize")
        study.optimize(make_objective(publish=False), n_trials=8)
        return params_of(study)

    assert run(0) == run(0)
    assert run(0)[1:] != run(1)[1:]


@pytest.mark.parametrize("n_at_once", [1, 3])
def test_a_study_that_is_resumed_proposes_what_it_would_have_without_a_break(n_at_once: int) -> None:
    def run(n: int) -> list[dict[str, Any]]:
        study = optuna.create_study(direction="maximize")
        for _ in range(12 // n):
            study.sampler = quick_sampler(3)  # as in a fresh process: it remembers nothing
            study.optimize(make_objective(publish=False), n_trials=n)
        return params_of(study)

    assert run(n_at_once) == run(12)


@pytest.mark.parametrize("n_objectives", [1, 2])
def test_maximising_and_minimising_mirror_each_other(n_objectives: int) -> None:
    def run(direction: str) -> list[dict[str, Any]]:
        sign = 1.0 if direction == "maximize" else -1.0
        study = optuna.create_study(sampler=quick_sampler(2), directions=[direction] * n_objectives)

        def objective(trial: optuna.Trial) -> list[float]:
            lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
            a = suggest_architecture(trial, SPACE)
            return [sign * v for v in (-abs(a.n_parameters - 90) - 10 * lr, -float(len(a.nodes)))][:n_objectives]

        study.optimize(objective, n_trials=8)
        return params_of(study)

    assert run("maximize") == run("minimize")


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_copy_proposes_the_same(make_copy: Callable[[Any], Any]) -> None:
    def run(sampler: BaseSampler) -> list[dict[str, Any]]:
        study = optuna.create_study(sampler=sampler, direction="maximize")
        study.optimize(make_objective(publish=False), n_trials=6)
        return params_of(study)

    sampler = quick_sampler(2)
    twin = make_copy(sampler)
    assert run(sampler) == run(twin)
    # One that has been used carries nothing but settings.
    make_copy(sampler)
    assert not set(pickle.loads(pickle.dumps(sampler)).__dict__) - set(quick_sampler().__dict__)


def test_two_workers_with_one_seed_draw_other_hyperparameters_in_the_startup() -> None:
    storage = InMemoryStorage()
    optuna.create_study(storage=storage, study_name="s")
    drawn = []
    for _ in range(2):  # each worker starts afresh, as a process does
        study = optuna.load_study(storage=storage, study_name="s", sampler=quick_sampler(99))
        study.optimize(make_objective(publish=False), n_trials=3)
        drawn += [t.params["lr"] for t in study.trials[-3:]]
    assert len(set(drawn)) == 6


# A space that is exhausted.


def finite(space: MorphSpace) -> set[str]:
    """Fingerprints of everything in a space, found by going through it."""
    reached, edge = {space.seed.fingerprint}, [space.seed]
    for _ in range(space.max_morphisms):
        edge = [child for architecture in edge for _, child in space.steps_from(architecture)]
        reached |= {a.fingerprint for a in edge}
    return reached


TINY = {
    "one morphism": MorphSpace(MLP, (Widen(2.0),), 1),
    "three sites": MorphSpace(MLP, (AddSkip(),), 1),
    "two steps": MorphSpace(MLP, (Widen(2.0),), 2),
    "no room": MorphSpace(MLP, (Widen(2.0),), 1, max_parameters=MLP.n_parameters),
}


@pytest.mark.parametrize("name", TINY)
def test_an_exhausted_space_warns_once_and_repeats_the_best(name: str) -> None:
    space = TINY[name]
    everything = finite(space)
    study = optuna.create_study(sampler=quick_sampler(1), direction="maximize")
    study.optimize(architecture_only(space), n_trials=len(everything))
    assert {k[0] for k in keys(study)} == everything
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        study.optimize(architecture_only(space), n_trials=3)
    assert len(caught) == 1
    assert "has been tried" in str(caught[0].message)
    assert all(t.state == TrialState.COMPLETE for t in study.trials)
    # Anything but the worst.
    again = [t.value for t in study.trials[len(everything) :]]
    if len(everything) > 1:
        assert min(again) > min(t.value for t in study.trials)


def test_architectures_that_are_all_tried_get_other_hyperparameters() -> None:
    space = TINY["one morphism"]
    study = optuna.create_study(sampler=quick_sampler(1), direction="maximize")
    study.optimize(make_objective(space, publish=False), n_trials=8)
    assert len(set(keys(study))) == 8
    study = optuna.create_study(sampler=quick_sampler(1), direction="maximize")

    def objective(trial: optuna.Trial) -> float:
        choice = trial.suggest_categorical("c", ["a", "b"])
        return suggest_architecture(trial, space).n_parameters + (choice == "b")

    study.optimize(objective, n_trials=6)
    assert len(set(keys(study))) == 6
    with pytest.warns(UserWarning, match="has been tried"):
        study.optimize(objective, n_trials=1)


def test_a_hyperparameter_that_cannot_vary_hides_no_repeat() -> None:
    study = optuna.create_study(sampler=quick_sampler(1), direction="maximize")

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_categorical("optimizer", ["sgd"])
        return suggest_architecture(trial, TINY["two steps"]).n_parameters

    study.optimize(objective, n_trials=len(finite(TINY["two steps"])))
    assert len(set(keys(study))) == len(study.trials)


# Hard histories.


@pytest.mark.parametrize("state", [TrialState.FAIL, TrialState.PRUNED])
def test_when_everything_fails_or_is_pruned(state: TrialState) -> None:
    study = optuna.create_study(sampler=quick_sampler(1))
    for _ in range(6):
        trial = study.ask()
        suggest_architecture(trial, SPACE)
        trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        study.tell(trial, state=state)
    assert len(set(keys(study))) == 6


@pytest.mark.parametrize(
    "values",
    [
        [math.nan],
        [math.inf],
        [-math.inf],
        [math.inf, -math.inf],
        [1e308, -1e308],
        [1e308, 0.5, 0.6],
        [0.0],
        [-7.25],
        [5e-324, 0.0],
        [1.0, 1.0, math.nan, math.inf, 1.0 + 1e-15],
        [0.1, 0.2, 1e30, 0.3],
    ],
    ids=str,
)
@pytest.mark.parametrize("directions", [["minimize"], ["maximize", "minimize"]], ids=len)
def test_any_values(values: list[float], directions: list[str]) -> None:
    study = optuna.create_study(sampler=quick_sampler(1), directions=directions)
    endless = itertools.cycle(values)

    def objective(trial: optuna.Trial) -> tuple[float, ...]:
        suggest_architecture(trial, SPACE)
        trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        return (next(endless),) * len(directions)

    with np.errstate(all="raise", under="ignore"):
        study.optimize(objective, n_trials=7)
    assert len(study.trials) == 7
    assert len(set(keys(study))) == 7


def test_a_multi_objective_study() -> None:
    study = optuna.create_study(sampler=quick_sampler(3), directions=["maximize", "minimize"])

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        architecture = suggest_architecture(trial, CNN_SPACE)
        lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        return math.log(architecture.n_parameters) - abs(math.log10(lr) + 2), float(architecture.flops)

    study.optimize(objective, n_trials=12)
    assert len(set(keys(study))) == 12
    assert len(study.best_trials) >= 3


def test_values_of_pruned_trials_count() -> None:
    def proposal(last: float) -> dict[str, Any]:
        study = optuna.create_study(sampler=quick_sampler(1), direction="maximize")
        lineage.register_space(study, SPACE)
        known = {**encoding.distributions(SPACE), "lr": FloatDistribution(1e-4, 1e-1, log=True)}
        for i, lr in enumerate((1e-4, 1e-3, 1e-2)):
            params = {"arch/n": 0, "lr": lr}
            study.add_trial(create_trial(value=0.5 - i, params=params, distributions={k: known[k] for k in params}))
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                params={"arch/n": 0, "lr": 1e-1},
                distributions={k: known[k] for k in ("arch/n", "lr")},
                intermediate_values={0: 0.0, 1: last},
            )
        )
        trial = study.ask()
        suggest_architecture(trial, SPACE)
        return {**trial.params, "lr": trial.suggest_float("lr", 1e-4, 1e-1, log=True)}

    assert proposal(10.0) != proposal(-10.0)


# Objectives without an architecture, and conditional ones.


def test_without_an_architecture_it_tunes_hyperparameters() -> None:
    study = optuna.create_study(sampler=quick_sampler(5))

    def objective(trial: optuna.Trial) -> float:
        x, n = trial.suggest_float("x", -5, 5), trial.suggest_int("n", 0, 10)
        return (x - 2) ** 2 + (n - 7) ** 2 + (trial.suggest_categorical("c", ["a", "b"]) == "a")

    study.optimize(objective, n_trials=30)
    assert study.best_value < 0.5
    assert len({tuple(p.items()) for p in params_of(study)}) == 30


def conditional(trial: optuna.Trial) -> float:
    architecture = suggest_architecture(trial, SPACE)
    if trial.suggest_categorical("optimizer", ["sgd", "adam"]) == "sgd":
        trial.suggest_float("momentum", 0.0, 0.99)
    return float(architecture.n_parameters)


def test_a_hyperparameter_that_no_trial_has_had_is_drawn_with_a_warning() -> None:
    study = optuna.create_study(sampler=quick_sampler(2))
    for optimizer in ("adam", "adam", "adam", "sgd"):
        study.enqueue_trial({"optimizer": optimizer})
    study.optimize(conditional, n_trials=3)
    message = "'momentum' of trial 3 is drawn by RandomSampler, not by MorphBOSampler.*warn_independent_sampling=False"
    with pytest.warns(UserWarning, match=message):
        study.optimize(conditional, n_trials=1)
    assert 0 <= study.trials[-1].params["momentum"] <= 0.99


@pytest.mark.parametrize("optimizer_is_first", [False, True])
def test_conditional_hyperparameters_are_modelled(optimizer_is_first: bool) -> None:
    def objective(trial: optuna.Trial) -> float:
        if not optimizer_is_first:
            suggest_architecture(trial, SPACE)
        if trial.suggest_categorical("optimizer", ["sgd", "adam"]) == "sgd":
            value = -abs(trial.suggest_float("momentum", 0.0, 0.99) - 0.7)
        else:
            value = -0.5 - abs(trial.suggest_float("beta", 0.0, 0.99) - 0.3)
        if optimizer_is_first:
            suggest_architecture(trial, SPACE)
        return value

    study = optuna.create_study(sampler=quick_sampler(8), direction="maximize")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # In the startup a hyperparameter may be new.
        study.optimize(objective, n_trials=12)
    study.optimize(objective, n_trials=16)
    late = study.trials[12:]
    # It has learned that momentum matters under SGD, and where it is best; by chance a third of draws come that near.
    assert sum("momentum" in t.params and abs(t.params["momentum"] - 0.7) < 0.15 for t in late) >= 12
    assert study.best_value > -0.01
    # Other workers are told of those that will be asked for, and of no others.
    for trial in late:
        assert claim_is_kept(study, trial.number)
        claimed = {name for name in read_claim(trial) if not name.startswith("arch/")}
        assert claimed == {name for name in trial.params if not name.startswith("arch/")}


def test_the_warning_can_be_switched_off_and_the_sampler_chosen() -> None:
    class Always(RandomSampler):
        def sample_independent(self, *_: Any) -> float:
            return 0.125

    sampler = quick_sampler(2, warn_independent_sampling=False, independent_sampler=Always())
    study = optuna.create_study(sampler=sampler)
    study.enqueue_trial({"optimizer": "adam"})
    study.enqueue_trial({"optimizer": "adam"})
    study.optimize(conditional, n_trials=2)
    study.enqueue_trial({"optimizer": "sgd"})
    study.optimize(conditional, n_trials=1)
    assert study.trials[-1].params["momentum"] == 0.125


def test_the_independent_sampler_sees_every_trial_begin_and_end() -> None:
    class Counting(RandomSampler):
        began, ended, reseeded = 0, 0, 0

        def before_trial(self, *_: Any) -> None:
            self.began += 1

        def after_trial(self, *_: Any) -> None:
            self.ended += 1

        def reseed_rng(self) -> None:
            self.reseeded += 1

    counting = Counting()
    study = optuna.create_study(sampler=quick_sampler(2, independent_sampler=counting))
    study.optimize(make_objective(publish=False), n_trials=4)
    study.sampler.reseed_rng()
    assert (counting.began, counting.ended, counting.reseeded) == (4, 4, 1)


# Kernels, acquisitions, arguments.


@pytest.mark.parametrize(
    "make_kernel",
    [
        lambda: grakel.WeisfeilerLehman(n_iter=2, base_graph_kernel=grakel.VertexHistogram),
        grakel.ShortestPath,
        lambda: WeisfeilerLehman(n_iter=1),
    ],
)
def test_any_grakel_kernel(make_kernel: Callable[[], grakel.Kernel]) -> None:
    kernel = make_kernel()
    settings = str(kernel.get_params())
    study = optuna.create_study(sampler=quick_sampler(2, kernel=kernel), direction="maximize")
    study.optimize(make_objective(publish=False), n_trials=7)
    assert len(set(keys(study))) == 7
    assert str(kernel.get_params()) == settings


def test_another_acquisition() -> None:
    study = optuna.create_study(sampler=quick_sampler(2, acquisition=UpperConfidenceBound()))
    study.optimize(make_objective(publish=False), n_trials=5)
    assert len(set(keys(study))) == 5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_startup_trials": -1}, ValueError, "n_startup_trials must be a non-negative integer but got -1"),
        ({"n_startup_trials": 2.0}, ValueError, "n_startup_trials must be a non-negative integer but got 2.0"),
        ({"seed": -1}, ValueError, "seed must be a non-negative integer or None but got -1"),
        ({"seed": "0"}, ValueError, "seed must be a non-negative integer or None but got '0'"),
        ({"kernel": "wl"}, TypeError, "kernel must be a grakel.Kernel"),
        ({"kernel": WeisfeilerLehman}, TypeError, "kernel must be a grakel.Kernel"),
        ({"acquisition": "ei"}, TypeError, "acquisition must be an acquisition function or None but got 'ei'"),
        ({"acquisition": UpperConfidenceBound}, TypeError, "acquisition must be an acquisition function or None"),
        ({"search": 300}, TypeError, "search must be a search, such as TreeSearch\\(\\), or None but got 300"),
        ({"independent_sampler": "random"}, TypeError, "independent_sampler must be an Optuna sampler or None"),
        ({"n_trials": 3}, TypeError, "n_trials"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MorphBOSampler(**arguments)
    with pytest.raises(TypeError):
        MorphBOSampler(3)  # type: ignore[misc]


# One objective, everything of Optuna's.

WIDER: dict[str, Any] = {"arch/n": 1, "arch/00/op": "widen:2", "arch/00/at": 0.25}
ENQUEUED: dict[str, dict[str, Any]] = {
    "n": {"arch/n": 2},
    "nothing of it": {"arch/n": 0},
    "op": {"arch/00/op": "concat_skip"},
    "n and op": {"arch/n": 2, "arch/00/op": "concat_skip"},
    "a later op": {"arch/n": 3, "arch/02/op": "widen:1.5"},
    "lr": {"lr": 0.003},
    "lr out of range": {"lr": 0.5},
    "n and lr": {"arch/n": 1, "lr": 0.003},
    "all": {**WIDER, "lr": 0.003},
    "more than needed": {**WIDER, "lr": 0.003, "arch/02/op": "widen:2", "gone": 3},
}


@pytest.mark.filterwarnings("ignore:Fixed parameter lr with value 0.5 is out of range")
@pytest.mark.parametrize("name", ENQUEUED)
@pytest.mark.parametrize("lr_first", [False, True])
@pytest.mark.parametrize("n_before", [0, 1, 4])
def test_what_is_enqueued_is_honoured_and_the_rest_proposed(name: str, lr_first: bool, n_before: int) -> None:
    objective = make_objective(lr_first=lr_first, publish=False)
    study = optuna.create_study(sampler=quick_sampler(2), direction="maximize")
    study.optimize(objective, n_trials=n_before)
    fixed = ENQUEUED[name]
    study.enqueue_trial(fixed)
    study.optimize(objective, n_trials=2)
    trial = study.trials[n_before]
    assert trial.state == TrialState.COMPLETE
    for key, value in fixed.items():
        step = re.match(r"arch/(\d\d)/", key)
        if key != "gone" and (step is None or int(step[1]) < trial.params["arch/n"]):
            assert trial.params[key] == value
    assert encoding.decode(SPACE, trial.params).architecture == lineage.architecture_of(trial)
    if name != "lr out of range":  # Optuna warns and takes it; the model cannot hold it.
        assert claim_is_kept(study, n_before)


def claim_is_kept(study: optuna.Study, number: int) -> bool:
    """Whether a trial became what other workers were told, so that what was fixed was known when it was proposed."""
    trial = study.get_trials(deepcopy=False)[number]
    claim = read_claim(trial)
    return all(claim[name] == value for name, value in trial.params.items() if name in claim)


@EXPERIMENTAL
@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("lr_first", [False, True])
def test_candidates_are_compared_at_the_fixed_hyperparameters(
    partial: bool, lr_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from optuna_nas_morph.surrogate import Points, Surrogate

    objective = make_objective(lr_first=lr_first, publish=False)
    study = optuna.create_study(sampler=quick_sampler(1), direction="maximize")
    study.optimize(objective, n_trials=4)
    if partial:
        study.sampler = PartialFixedSampler({"lr": 0.01}, quick_sampler(1))
    else:
        study.enqueue_trial({"lr": 0.01})
    learning_rates: list[float] = []

    def spy(self: Surrogate, points: Points) -> Any:
        learning_rates.extend(points.z[:, 0])
        return original(self, points)

    original = Surrogate.predict
    monkeypatch.setattr(Surrogate, "predict", spy)
    study.optimize(objective, n_trials=1)
    assert learning_rates
    np.testing.assert_allclose(learning_rates, 2 / 3)  # 0.01 between 1e-4 and 1e-1, in logarithms


@EXPERIMENTAL
@pytest.mark.parametrize(
    "fixed",
    [
        {"arch/n": 2},
        {"arch/00/op": "concat_skip"},
        {"lr": 0.003},
        {"arch/n": 1, "arch/00/op": "widen:2"},
        {**WIDER, "lr": 0.01},
    ],
    ids=str,
)
@pytest.mark.parametrize("lr_first", [False, True])
def test_partial_fixed_sampler(fixed: dict[str, Any], lr_first: bool) -> None:
    # With everything fixed only repeats are left.
    sampler = PartialFixedSampler(fixed, quick_sampler(2))
    study = optuna.create_study(sampler=sampler, direction="maximize")
    with warnings.catch_warnings():
        if len(fixed) == 4:
            warnings.filterwarnings("ignore", message="Everything within reach")
        study.optimize(make_objective(lr_first=lr_first, publish=False), n_trials=7)
    for trial in study.trials:
        for key, value in fixed.items():
            if key != "arch/00/op" or trial.params["arch/n"] > 0:
                assert trial.params[key] == value
        assert claim_is_kept(study, trial.number)
    if len(fixed) < 4:
        assert len(set(keys(study))) == 7


def test_best_params_again() -> None:
    study = optuna.create_study(sampler=quick_sampler(2), direction="maximize")
    objective = make_objective()
    study.optimize(objective, n_trials=5)
    best = lineage.architecture_of(study.best_trial)
    study.enqueue_trial(study.best_params)
    study.optimize(objective, n_trials=1)
    assert study.trials[-1].params == study.best_params
    assert lineage.architecture_of(study.trials[-1]) == best
    for trial in (FixedTrial(study.best_params), study.best_trial):
        assert objective(trial) == pytest.approx(study.best_value)
        assert suggest_network(trial, SPACE).architecture == best
    assert len(study.trials) == 6


def test_ask_and_tell_with_and_without_fixed_distributions() -> None:
    study = optuna.create_study(sampler=quick_sampler(2), direction="maximize")
    for i in range(6):
        trial = study.ask({"lr": FloatDistribution(1e-4, 1e-1, log=True)} if i % 2 else None)
        architecture = suggest_architecture(trial, SPACE)
        lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        study.tell(trial, -abs(math.log(architecture.n_parameters / 90)) - lr)
    assert len(set(keys(study))) == 6


SAMPLERS: dict[str, Callable[[], BaseSampler]] = {
    "ours": lambda: quick_sampler(2),
    "random": lambda: RandomSampler(seed=0),
    "tpe": lambda: TPESampler(seed=0, n_startup_trials=3),
    "tpe group": lambda: TPESampler(seed=0, n_startup_trials=3, multivariate=True, group=True),
    "gp": lambda: GPSampler(seed=0, n_startup_trials=3),
    "nsgaii": lambda: NSGAIISampler(seed=0, population_size=3),
}


@EXPERIMENTAL
@pytest.mark.filterwarnings("ignore:.*constant_liar")
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("lr_first", [False, True])
def test_every_sampler_drives_the_same_objective(name: str, lr_first: bool) -> None:
    study = optuna.create_study(sampler=SAMPLERS[name](), direction="maximize", pruner=NopPruner())
    study.optimize(make_objective(lr_first=lr_first), n_trials=6)
    assert all(t.state == TrialState.COMPLETE for t in study.trials)
    assert any("nasmorph:donor" in t.user_attrs for t in study.trials)
    for trial in study.trials:
        assert encoding.decode(SPACE, trial.params).architecture == lineage.architecture_of(trial)


@EXPERIMENTAL
@pytest.mark.parametrize("lr_first", [False, True])
def test_threads(lr_first: bool) -> None:
    study = optuna.create_study(sampler=quick_sampler(2), direction="maximize", pruner=NopPruner())
    study.optimize(make_objective(lr_first=lr_first), n_trials=10, n_jobs=2)
    assert all(t.state == TrialState.COMPLETE for t in study.trials)
    assert len(set(keys(study))) == 10


STORAGES: dict[str, Callable[[Path], BaseStorage]] = {
    "memory": lambda _: InMemoryStorage(),
    "sqlite": lambda path: RDBStorage(f"sqlite:///{path / 'study.db'}"),
    "journal": lambda path: JournalStorage(JournalFileBackend(str(path / "journal.log"))),
}


@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
@pytest.mark.parametrize("lr_first", [False, True])
@pytest.mark.parametrize("name", STORAGES)
def test_a_study_goes_on_in_a_fresh_process(
    name: str, lr_first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the default directory of weights
    storage = STORAGES[name](tmp_path)
    objective = make_objective(lr_first=lr_first)
    study = optuna.create_study(storage=storage, study_name="s", sampler=quick_sampler(2), direction="maximize")
    study.optimize(objective, n_trials=3)
    # What a fresh process has: nothing but the storage.
    monkeypatch.setattr(lineage, "_live", {})
    if name != "memory":
        storage = STORAGES[name](tmp_path)
    study = optuna.load_study(storage=storage, study_name="s", sampler=quick_sampler(2))
    study.optimize(objective, n_trials=3)
    assert all(t.state == TrialState.COMPLETE for t in study.trials)
    assert len(set(keys(study))) == 6
    donors = [t.user_attrs.get("nasmorph:donor") for t in study.trials]
    assert all(donor is not None for donor in donors[1:])
    assert all("nasmorph:fallback" not in t.user_attrs for t in study.trials)


def test_a_fresh_process_that_suggests_a_hyperparameter_first_makes_a_full_proposal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The space is registered by digest only once the objective runs; here the study does not know it at all yet.
    study = optuna.create_study(sampler=quick_sampler(1), direction="maximize")
    trial = study.ask()
    trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    suggest_architecture(trial, SPACE)
    assert trial.params["arch/n"] == 0  # the seed, not a random draw
    assert read_claim(study.get_trials(deepcopy=False)[0])["arch/n"] == 0


PRUNERS: dict[str, Callable[[], BasePruner | None]] = {
    "hyperband": lambda: HyperbandPruner(min_resource=1, max_resource=2, reduction_factor=2),
    "median": lambda: MedianPruner(n_startup_trials=2),
    "nop": NopPruner,
    "none": lambda: None,
    "lineage": LineagePruner,
    "lineage of median": lambda: LineagePruner(MedianPruner(n_startup_trials=2)),
}


@EXPERIMENTAL
@pytest.mark.parametrize("name", PRUNERS)
@pytest.mark.parametrize("lr_first", [False, True])
def test_every_pruner(name: str, lr_first: bool) -> None:
    study = optuna.create_study(sampler=quick_sampler(2), pruner=PRUNERS[name](), direction="maximize")
    study.optimize(make_objective(lr_first=lr_first), n_trials=9)
    assert {t.state for t in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert len(set(keys(study))) == 9
    assert any("nasmorph:donor" in t.user_attrs for t in study.trials)


@EXPERIMENTAL
@pytest.mark.filterwarnings("ignore:Some regimes for parameter")
def test_plots() -> None:
    study = optuna.create_study(sampler=quick_sampler(3), direction="maximize")
    study.optimize(make_objective(), n_trials=6)
    plot = optuna.visualization
    for figure in (
        plot.plot_optimization_history(study),
        plot.plot_slice(study),
        plot.plot_parallel_coordinate(study),
        plot.plot_contour(study, params=["arch/n", "lr"]),
        plot.plot_param_importances(study),
        plot.plot_edf(study),
        plot.plot_rank(study, params=["arch/n", "lr"]),
        plot.plot_timeline(study),
        plot.plot_intermediate_values(study),
    ):
        assert figure.to_json()


def test_other_distributions_in_a_search_space() -> None:
    study = optuna.create_study(sampler=quick_sampler(2))
    distributions = {
        "step": FloatDistribution(0.0, 1.0, step=0.25),
        "log int": IntDistribution(1, 256, log=True),
        "flag": CategoricalDistribution((True, False, None, "x", 3)),
    }
    for _ in range(5):
        trial = study.ask(distributions)
        architecture = suggest_architecture(trial, SPACE)
        study.tell(trial, architecture.n_parameters + trial.params["step"])
    assert all(t.params["step"] in (0, 0.25, 0.5, 0.75, 1) for t in study.trials)
