"""Studies with Thompson sampling; draws themselves are tested in ``tests/test_surrogate.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler

from optuna_nas_morph import MorphBOSampler, suggest_architecture
from optuna_nas_morph.acquisition import ThompsonSampling
from optuna_nas_morph.search import TreeSearch
from tests.search.contract import WORDS
from tests.studies import SPACE, key_of, make_objective


def sampler(seed: int = 0, n_startup_trials: int = 4) -> MorphBOSampler:
    return MorphBOSampler(
        acquisition=ThompsonSampling(), n_startup_trials=n_startup_trials, seed=seed, search=TreeSearch(20)
    )


def of_words(trial: optuna.Trial) -> float:
    """How many letters are an e."""
    return float(list(suggest_architecture(trial, WORDS).values()).count("e"))


def of_numbers(trial: optuna.Trial) -> float:
    x, y = trial.suggest_float("x", 0, 1), trial.suggest_categorical("y", ["a", "b"])
    return -((x - 0.3) ** 2) - (y == "a")


def run(objective: Any, n_trials: int, s: Any, directions: Any = ("maximize",)) -> optuna.Study:
    study = optuna.create_study(sampler=s, directions=list(directions))
    study.optimize(objective, n_trials=n_trials)
    return study


def test_architectures_with_hyperparameters() -> None:
    study = run(make_objective(SPACE, publish=False), 7, sampler())
    assert len({key_of(t) for t in study.trials}) == 7
    again = run(make_objective(SPACE, publish=False), 5, sampler())
    assert [t.params for t in again.trials] == [t.params for t in study.trials[:5]]


def test_the_seed_decides() -> None:
    first, again, other = ([t.params for t in run(of_numbers, 8, sampler(seed)).trials] for seed in (0, 0, 1))
    assert first == again
    assert not any(a == b for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("objective", [of_words, of_numbers])
def test_it_is_better_than_random(objective: Any) -> None:
    ours = [run(objective, 25, sampler(seed, 8)).best_value for seed in range(3)]
    random = [run(objective, 25, RandomSampler(seed=seed)).best_value for seed in range(3)]
    assert np.mean(ours) > np.mean(random)


def test_several_objectives_and_a_constraint() -> None:
    def objective(trial: optuna.Trial) -> tuple[float, float]:
        x = trial.suggest_float("x", 0, 1)
        trial.set_constraint("c", 0.4 - x)
        return x, (x - 0.7) ** 2

    study = run(objective, 16, sampler(), ("minimize", "minimize"))
    later = np.array([t.params["x"] for t in study.trials[4:]])
    assert np.mean((later >= 0.38) & (later <= 0.75)) > 0.6
