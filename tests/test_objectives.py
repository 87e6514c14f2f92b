"""Several objectives."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler, RandomSampler

from optuna_nas_morph import MorphBOSampler, suggest_architecture
from optuna_nas_morph.search import TreeSearch
from tests.search.contract import WORDS
from tests.studies import CNN_SPACE

REFERENCES = {"cells": np.array([5.0, 5.0]), "morphs": np.array([10.0, 10.0]), "numbers": np.array([1.5, 1.5])}


def of_cells(trial: optuna.Trial) -> tuple[float, float]:
    """To be minimised: how many letters are not an e, in the first place; how many are not an a, in the last."""
    letters = list(suggest_architecture(trial, WORDS).values())
    weights = np.array([2.0, 1.0, 1.0, 0.5])
    first = sum(w for w, letter in zip(weights, letters, strict=True) if letter != "e")
    second = sum(w for w, letter in zip(weights[::-1], letters, strict=True) if letter != "a")
    return float(first), float(second)


def of_morphs(trial: optuna.Trial) -> tuple[float, float]:
    """Many nodes, few parameters."""
    architecture = suggest_architecture(trial, CNN_SPACE)
    return 30 / len(architecture.nodes), float(np.log(architecture.n_parameters))


def of_numbers(trial: optuna.Trial) -> tuple[float, float]:
    x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
    return x**2 + y, (x - 1) ** 2 + y


OBJECTIVES = {"cells": of_cells, "morphs": of_morphs, "numbers": of_numbers}


def hypervolume(objective: Any, sampler: BaseSampler, reference: np.ndarray, n_trials: int) -> float:
    compute_hypervolume = pytest.importorskip("optuna._hypervolume").compute_hypervolume
    study = optuna.create_study(sampler=sampler, directions=["minimize", "minimize"])
    study.optimize(objective, n_trials=n_trials)
    values = np.array([t.values for t in study.trials])
    return float(compute_hypervolume(values[np.all(values < reference, axis=1)], reference))


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_the_hypervolume_is_larger_than_of_random_trials(name: str) -> None:
    objective, reference = OBJECTIVES[name], REFERENCES[name]
    search = TreeSearch(30) if name == "morphs" else None
    ours, random = [], []
    for seed in range(3):
        ours.append(hypervolume(objective, MorphBOSampler(n_startup_trials=6, seed=seed, search=search), reference, 20))
        random.append(hypervolume(objective, RandomSampler(seed=seed), reference, 20))
    assert np.mean(ours) > np.mean(random)
    assert sum(a > b for a, b in zip(ours, random, strict=True)) >= 2


def test_directions_are_kept_apart() -> None:
    def objective(trial: optuna.Trial) -> tuple[float, float]:
        first, second = of_numbers(trial)
        return first, -second

    turned = optuna.create_study(
        sampler=MorphBOSampler(n_startup_trials=4, seed=0), directions=["minimize", "maximize"]
    )
    turned.optimize(objective, n_trials=9)
    straight = optuna.create_study(
        sampler=MorphBOSampler(n_startup_trials=4, seed=0), directions=["minimize", "minimize"]
    )
    straight.optimize(of_numbers, n_trials=9)
    assert [t.params for t in turned.trials] == [t.params for t in straight.trials]


def test_three_objectives_with_a_constraint_and_awkward_values() -> None:
    def objective(trial: optuna.Trial) -> tuple[float, float, float]:
        x = trial.suggest_float("x", 0, 1)
        trial.set_constraint("c", 0.3 - x)
        return x, np.inf if trial.number == 2 else -x, 1e308 if trial.number % 4 == 1 else 1.0

    study = optuna.create_study(
        sampler=MorphBOSampler(n_startup_trials=3, seed=0), directions=["minimize", "minimize", "maximize"]
    )
    study.optimize(objective, n_trials=12)
    assert np.mean([t.params["x"] >= 0.3 for t in study.trials[5:]]) > 0.6
