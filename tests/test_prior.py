"""What finished studies of other tasks do to a new one."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

from optuna_nas_morph import CellSpace, MorphSpace, lineage, suggest_architecture
from optuna_nas_morph.encoder import Encoder
from optuna_nas_morph.history import HistoryReader
from optuna_nas_morph.hyperparameters import Cube
from optuna_nas_morph.kernels import WeisfeilerLehman
from optuna_nas_morph.prior import MAX_OBSERVATIONS, read_prior
from optuna_nas_morph.sampler import N_STARTUP_AFTER_PRIORS
from optuna_nas_morph.spaces.cells import graph_of_edge_operations
from tests.studies import CNN_SPACE, SPACE, quick_sampler

Objective = Callable[[optuna.Trial], Any]
OPERATIONS = ("none", "skip", "conv", "pool")


def open_objective(
    sign: float = 1.0, target: float = 300.0, space: MorphSpace = SPACE, shift: float = 0.0
) -> Objective:
    """Best at a number of parameters and a learning rate of 0.01."""

    def objective(trial: optuna.Trial) -> float:
        n = suggest_architecture(trial, space).n_parameters
        lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        return sign * (-abs(math.log(n / target)) - 0.3 * abs(math.log10(lr) + 2)) + shift

    return objective


def finished(objective: Objective, n: int = 25, seed: int = 100, **arguments: Any) -> optuna.Study:
    arguments = {"direction": "maximize"} | arguments
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed), **arguments)
    study.optimize(objective, n_trials=n)
    return study


def searched(
    objective: Objective, priors: Sequence[optuna.Study] = (), n: int = 8, seed: int = 0, **arguments: Any
) -> optuna.Study:
    arguments = {"direction": "maximize"} | arguments
    sampler = quick_sampler(N_STARTUP_AFTER_PRIORS, seed, prior_studies=priors, warn_independent_sampling=False)
    study = optuna.create_study(sampler=sampler, **arguments)
    study.optimize(objective, n_trials=n)
    return study


def params_of(study: optuna.Study) -> list[dict[str, Any]]:
    return [t.params for t in study.trials]


# What it is worth.


def test_a_related_study_shows_where_to_look() -> None:
    prior = finished(open_objective(shift=7.0), n=40)
    with_it, without = (
        [searched(open_objective(), priors, n=N_STARTUP_AFTER_PRIORS + 2, seed=seed).best_value for seed in range(4)]
        for priors in ([prior], [])
    )
    assert np.mean(with_it) > np.mean(without) + 0.2


def test_an_opposite_study_does_not_stay_in_the_way() -> None:
    prior = finished(open_objective(sign=-1.0), n=40)
    with_it, without = (
        [searched(open_objective(), priors, n=14, seed=seed).best_value for seed in range(3)]
        for priors in ([prior], [])
    )
    assert np.mean(with_it) > np.mean(without) - 0.15


def test_the_mean_predicts_the_earlier_objective() -> None:
    prior_study, study = finished(open_objective(), n=60), finished(open_objective(), n=30, seed=7)
    prior = read_prior(prior_study, 1)
    observed = HistoryReader().read(study, SPACE, -1).observations
    encoder = Encoder.of(SPACE, Cube({"lr": FloatDistribution(1e-4, 1e-1, log=True)}), observed)
    (mean,) = prior.means(encoder, WeisfeilerLehman())
    predicted = mean(encoder.points_of(observed))
    values = [o.values[0] for o in observed if o.values is not None]
    assert np.corrcoef(np.argsort(np.argsort(predicted)), np.argsort(np.argsort(values)))[0, 1] > 0.8
    assert np.array_equal(mean(encoder.points_of(observed)), predicted)


def test_the_startup_is_short() -> None:
    drawn = params_of(searched(open_objective(), n=N_STARTUP_AFTER_PRIORS))
    study = optuna.create_study(
        direction="maximize", sampler=quick_sampler(10, 0, prior_studies=[finished(open_objective())])
    )
    study.optimize(open_objective(), n_trials=N_STARTUP_AFTER_PRIORS + 1)
    assert params_of(study)[:-1] == drawn
    alone = optuna.create_study(direction="maximize", sampler=quick_sampler(10, 0))
    alone.optimize(open_objective(), n_trials=N_STARTUP_AFTER_PRIORS + 1)
    assert params_of(alone)[:-1] == drawn
    assert params_of(alone)[-1] != params_of(study)[-1]


# Whatever the earlier study was.


def test_directions_may_differ() -> None:
    maximised = finished(open_objective())
    minimised = finished(open_objective(sign=-1.0), direction="minimize")
    assert params_of(maximised) == params_of(minimised)
    assert params_of(searched(open_objective(), [maximised])) == params_of(searched(open_objective(), [minimised]))


def test_only_a_part_of_the_hyperparameters_is_common() -> None:
    def with_momentum(trial: optuna.Trial) -> float:
        trial.suggest_float("momentum", 0.0, 0.99)
        return float(open_objective()(trial))

    def with_activation(trial: optuna.Trial) -> float:
        trial.suggest_categorical("activation", ["relu", "gelu"])
        return float(open_objective()(trial))

    prior = finished(with_momentum, n=40)
    values = [searched(with_activation, [prior], n=5, seed=seed).best_value for seed in range(4)]
    alone = [searched(with_activation, [], n=5, seed=seed).best_value for seed in range(4)]
    assert np.mean(values) > np.mean(alone)


def test_trials_outside_of_the_ranges_are_left_out() -> None:
    def narrow(trial: optuna.Trial) -> float:
        suggest_architecture(trial, SPACE)
        return trial.suggest_float("lr", 1e-9, 1e-8, log=True)

    with pytest.warns(UserWarning, match="which says nothing here: it has no two trials with hyperparameters"):
        study = searched(open_objective(), [finished(narrow)])
    assert params_of(study) == params_of(searched(open_objective()))


def test_another_seed_architecture() -> None:
    prior = finished(open_objective(space=CNN_SPACE))
    assert len(searched(open_objective(), [prior]).trials) == 8


def test_a_study_without_architectures() -> None:
    def tuned(trial: optuna.Trial) -> float:
        return -abs(math.log10(trial.suggest_float("lr", 1e-4, 1e-1, log=True)) + 2)

    prior = finished(tuned, n=30)
    rates = [t.params["lr"] for t in searched(open_objective(), [prior], n=6).trials[N_STARTUP_AFTER_PRIORS:]]
    assert all(abs(math.log10(rate) + 2) < 0.5 for rate in rates)
    # And the other way round: what it learned with architectures says nothing of a study without.
    with pytest.warns(UserWarning, match="which says nothing here"):
        study = searched(tuned, [finished(open_objective())], n=6)
    assert params_of(study) == params_of(searched(tuned, n=6))


def cells(n_states: int, first: str = "0-1") -> CellSpace:
    edges = [(i, j) for j in range(n_states) for i in range(j)]
    names = {edge: f"{edge[0]}-{edge[1]}" for edge in edges}
    names[0, 1] = first
    return CellSpace(
        dict.fromkeys(names.values(), OPERATIONS),
        lambda choices: graph_of_edge_operations({edge: choices[name] for edge, name in names.items()}, n_states),
    )


def cell_objective(space: CellSpace) -> Objective:
    def objective(trial: optuna.Trial) -> float:
        cell = suggest_architecture(trial, space)
        return float(sum(operation == "conv" for operation in cell.values()) - (cell["0-2"] == "pool"))

    return objective


@pytest.mark.parametrize("other", [cells(4), cells(4, first="a"), cells(3)], ids=["same", "other names", "smaller"])
def test_closed_spaces(other: CellSpace) -> None:
    space = cells(4)
    prior = finished(cell_objective(other), n=40)
    n = N_STARTUP_AFTER_PRIORS + 3
    with_it, without = (
        [searched(cell_objective(space), priors, n=n, seed=seed).best_value for seed in range(4)]
        for priors in ([prior], [])
    )
    assert np.mean(with_it) >= np.mean(without)


def test_several_objectives() -> None:
    def objective(trial: optuna.Trial) -> tuple[float, float]:
        return open_objective()(trial), suggest_architecture(trial, SPACE).n_parameters

    directions = ["maximize", "minimize"]
    priors = [finished(objective, direction=None, directions=directions, seed=seed) for seed in (100, 101)]
    study = searched(objective, priors, direction=None, directions=directions)
    again = searched(objective, priors, direction=None, directions=directions)
    assert params_of(study) == params_of(again)
    assert params_of(study) != params_of(searched(objective, direction=None, directions=directions))


def test_of_many_trials_the_best_and_the_latest_are_used() -> None:
    study = optuna.create_study(direction="maximize")
    x = FloatDistribution(0, 1)
    values = np.random.default_rng(0).permutation(MAX_OBSERVATIONS + 100) / 1000
    study.add_trials([create_trial(value=v, params={"x": v}, distributions={"x": x}) for v in values.tolist()])
    kept = {o.values[0] for o in read_prior(study, 1).observed if o.values is not None}
    assert len(kept) == MAX_OBSERVATIONS
    assert {*np.sort(values)[-150:].tolist(), *values[-100:].tolist()} <= kept


# Copies, storages, seeds.


def test_the_same_seed_gives_the_same_proposals_also_from_a_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'prior.db'}"
    in_memory = finished(open_objective())
    in_database = finished(open_objective(), storage=url, study_name="prior")
    loaded = optuna.load_study(study_name="prior", storage=url)
    expected = params_of(searched(open_objective(), [in_memory]))
    assert params_of(searched(open_objective(), [in_memory])) == expected
    assert params_of(searched(open_objective(), [in_database])) == expected
    assert params_of(searched(open_objective(), [loaded])) == expected
    assert params_of(searched(open_objective(), [in_memory], seed=1)) != expected


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda sampler: pickle.loads(pickle.dumps(sampler))])
def test_a_copy_of_the_sampler_has_the_studies(copied: Callable[[Any], Any]) -> None:
    prior = finished(open_objective())
    sampler = quick_sampler(3, 0, prior_studies=[prior])
    studies = []
    for each in (copied(sampler), sampler):
        study = optuna.create_study(direction="maximize", sampler=each)
        study.optimize(open_objective(), n_trials=5)
        studies.append(params_of(copied(study.sampler) and study))
    assert studies[0] == studies[1]


def test_nothing_is_written_to_the_earlier_study() -> None:
    prior = finished(open_objective())
    before = copy.deepcopy((prior.user_attrs, prior.trials))
    searched(open_objective(), [prior])
    assert (prior.user_attrs, prior.trials) == before


# Bad input.


@pytest.mark.parametrize("bad", [None, "study", [1]])
def test_other_types_are_refused(bad: Any) -> None:
    with pytest.raises(TypeError, match=r"prior_studies must be a sequence of optuna\.Study but got"):
        quick_sampler(prior_studies=bad)
    with pytest.raises(TypeError, match=r"prior_studies must be a sequence of optuna\.Study but got"):
        quick_sampler(prior_studies=finished(open_objective(), n=3))


def test_studies_that_say_nothing_are_refused() -> None:
    constant = optuna.create_study(study_name="constant")
    constant.optimize(lambda trial: 0 * trial.suggest_float("x", 0, 1), n_trials=5)
    for study, n in ((optuna.create_study(), 0), (constant, 1)):
        with pytest.raises(ValueError, match=rf"at least two different values but '.*' has {n}\.$"):
            quick_sampler(prior_studies=[study])


def test_another_number_of_objectives_is_refused() -> None:
    def two(trial: optuna.Trial) -> tuple[float, float]:
        value = open_objective()(trial)
        return value, -value

    prior = finished(two, direction=None, directions=["maximize", "minimize"])
    with pytest.raises(ValueError, match=r"as many objectives as this one, 1, but '.*' has 2\.$"):
        searched(open_objective(), [prior], n=1)


def test_a_space_that_this_process_does_not_know_is_refused() -> None:
    study = optuna.create_study(study_name="elsewhere")
    for value in (1.0, 2.0):
        study.add_trial(create_trial(value=value, user_attrs={lineage.FINGERPRINT: "0" * 32}))
    with pytest.raises(ValueError, match="'elsewhere', whose space holds a Python function that this process"):
        read_prior(study, 1)


def test_a_warning_comes_once_per_study_that_says_nothing() -> None:
    def elsewhere(trial: optuna.Trial) -> float:
        return trial.suggest_float("other", 0, 1)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        searched(open_objective(), [finished(elsewhere)], n=8)
    assert sum("says nothing here" in str(w.message) for w in caught) == 1
