"""Constraints that trials have set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import TrialState

from optuna_nas_morph import MorphBOSampler, suggest_architecture
from optuna_nas_morph.acquisition import UpperConfidenceBound
from optuna_nas_morph.search import TreeSearch
from tests.search.contract import WORDS
from tests.studies import CNN_SPACE


def set_named(trial: optuna.Trial, value: float) -> None:
    trial.set_constraint("memory", value)


def set_listed(trial: optuna.Trial, value: float) -> None:
    """As samplers with a ``constraints_func`` have written them: a list."""
    trial.study._storage.set_trial_system_attr(trial._trial_id, "constraints", [value])


def do_nothing(trial: optuna.Trial, value: float) -> None:
    """No constraint."""


def of_cells(trial: optuna.Trial, constrain: Callable[[optuna.Trial, float], None]) -> float:
    """The more e, the better; but at most two may be."""
    n = list(suggest_architecture(trial, WORDS).values()).count("e")
    constrain(trial, n - 2.0)
    return float(n)


def two_peaks(x: float) -> float:
    return float(np.exp(-(((x - 0.25) / 0.15) ** 2)) + 2 * np.exp(-(((x - 0.8) / 0.15) ** 2)))


def of_numbers(trial: optuna.Trial, constrain: Callable[[optuna.Trial, float], None]) -> float:
    """The higher of two peaks may not be climbed."""
    x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
    constrain(trial, x - 0.5)
    return two_peaks(x) - 0.3 * y


def study_of(objective: Any, constrain: Any, sampler: BaseSampler, n_trials: int) -> optuna.Study:
    study = optuna.create_study(sampler=sampler, direction="maximize")
    study.optimize(lambda trial: objective(trial, constrain), n_trials=n_trials)
    return study


def share_of_feasible(study: optuna.Study, start: int) -> float:
    return float(np.mean([all(c <= 0 for c in t.constraints.values()) for t in study.trials[start:]]))


@pytest.mark.parametrize("constrain", [set_named, set_listed])
@pytest.mark.parametrize("objective", [of_cells, of_numbers])
def test_proposals_keep_to_a_constraint(objective: Any, constrain: Any) -> None:
    ours = [study_of(objective, constrain, MorphBOSampler(n_startup_trials=8, seed=seed), 24) for seed in range(2)]
    share = np.mean([share_of_feasible(study, 12) for study in ours])
    assert share > 0.6
    # Without the constraint, the objective leads out of it.
    free = study_of(objective, do_nothing, MorphBOSampler(n_startup_trials=8, seed=0), 24)
    limit = 2.0 if objective is of_cells else 1.1
    assert np.mean(np.array([t.value for t in free.trials[12:]]) <= limit) < share - 0.3
    # And it is made use of.
    for study in ours:
        assert study.best_value > 0.9 * (2.0 if objective is of_cells else 1.0)


def test_it_is_more_often_feasible_than_random() -> None:
    ours = study_of(of_numbers, set_named, MorphBOSampler(n_startup_trials=8, seed=0), 24)
    random = study_of(of_numbers, set_named, RandomSampler(seed=0), 24)
    assert share_of_feasible(ours, 8) > share_of_feasible(random, 8) + 0.2


def test_with_an_acquisition() -> None:
    sampler = MorphBOSampler(n_startup_trials=8, seed=0, acquisition=UpperConfidenceBound(1.0))
    assert share_of_feasible(study_of(of_cells, set_named, sampler, 20), 12) > 0.5


def test_an_open_space_with_a_limit_that_is_learned() -> None:
    limit = 400

    def objective(trial: optuna.Trial, constrain: Callable[[optuna.Trial, float], None]) -> float:
        """As many nodes as possible; but only so many parameters."""
        architecture = suggest_architecture(trial, CNN_SPACE)
        trial.set_user_attr("n", architecture.n_parameters)
        constrain(trial, float(architecture.n_parameters - limit))
        return float(len(architecture.nodes))

    def share(constrain: Any) -> float:
        studies = [
            study_of(objective, constrain, MorphBOSampler(n_startup_trials=6, seed=seed, search=TreeSearch(20)), 18)
            for seed in range(3)
        ]
        return float(np.mean([t.user_attrs["n"] <= limit for study in studies for t in study.trials[8:]]))

    assert share(set_named) > 1.5 * share(do_nothing)


def test_trials_that_fail_say_what_is_not_feasible() -> None:
    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        trial.set_constraint("memory", x - 0.5)
        if x > 0.5:
            raise MemoryError
        return two_peaks(x)

    study = optuna.create_study(sampler=MorphBOSampler(n_startup_trials=3, seed=0), direction="maximize")
    study.optimize(objective, n_trials=24, catch=(MemoryError,))
    states = [t.state for t in study.trials]
    assert TrialState.FAIL in states[:12]
    assert states[14:].count(TrialState.COMPLETE) >= 6
    assert study.best_value > 0.95


@pytest.mark.parametrize("values", [[5.0] * 12, [np.inf] * 12, [0.0] * 12, [-np.inf, np.inf, 1e308, -1e308] * 3])
def test_any_constraint_will_do(values: list[float]) -> None:
    def objective(trial: optuna.Trial) -> float:
        trial.set_constraint("c", values[trial.number])
        if trial.number % 3 == 0:
            trial.set_constraint("rare", 1.0)
        return trial.suggest_float("x", 0, 1)

    study = optuna.create_study(sampler=MorphBOSampler(n_startup_trials=2, seed=0))
    study.optimize(objective, n_trials=12)
    assert len({t.params["x"] for t in study.trials}) == 12
