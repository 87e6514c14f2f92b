"""Forecasts: what a surrogate that knows the earlier trials alone says of the later ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from optuna_nas_morph import suggest_architecture
from optuna_nas_morph.interpret.forecast import FIRST, Forecast, forecasts
from optuna_nas_morph.interpret.model import fit_model
from optuna_nas_morph.kernels import WeisfeilerLehman
from tests.interpret.test_explain import CHAINS, OPEN, joint, n_planted, study_of

N = 24


def truncated(study: optuna.Study, n: int) -> optuna.Study:
    """The study as it was after so many trials."""
    part = optuna.create_study(directions=study.directions)
    for key, value in study.user_attrs.items():
        part.set_user_attr(key, value)
    part.add_trials(study.trials[:n])
    return part


def noisy(trial: optuna.Trial) -> float:
    choices = suggest_architecture(trial, CHAINS)
    return n_planted(choices) + 0.3 * math.sin(7919.0 * trial.number)


@pytest.mark.parametrize("objective", [joint, noisy])
def test_each_is_the_prediction_of_a_model_that_has_seen_the_earlier_trials(objective: Any) -> None:
    study = study_of(objective, n=N)
    found = forecasts(study, n_fits=N)
    assert [f.trial for f in found] == list(range(FIRST, N))
    for f in found[::6]:
        part = truncated(study, f.n_known)
        rng = np.random.default_rng([0, f.n_known])
        model = fit_model(part, CHAINS, 0, WeisfeilerLehman(), rng)
        whole = fit_model(study, CHAINS, 0, WeisfeilerLehman(), np.random.default_rng(0))
        (o,) = [o for o in whole.observed if o.number == f.trial]
        mean, variance = model.surrogate.predict(model.encoder.points_of([o]))
        width = 1.6448536269514722 * math.sqrt(variance[0, 0] + model.surrogate.posteriors[0].hyperparameters.noise)
        expected = model.in_units(mean[0, 0] + np.array([0.0, -width, width]))
        np.testing.assert_allclose([f.mean, f.low, f.high], expected, rtol=1e-6)
        assert f.observed == study.trials[f.trial].value
        assert f.trial - 3 <= f.n_known <= f.trial


def test_what_came_later_changes_nothing() -> None:
    study = study_of(joint, n=N)
    before = forecasts(study, n_fits=5)
    changed = [t if t.number < 15 else with_value(t, -100.0) for t in study.trials]
    other = truncated(study, 0)
    other.add_trials(changed)
    after = forecasts(other, n_fits=5)
    assert [f.mean for f in before if f.n_known <= 15] == [f.mean for f in after if f.n_known <= 15]
    assert [f.mean for f in before if f.n_known > 15] != [f.mean for f in after if f.n_known > 15]


def with_value(trial: FrozenTrial, value: float) -> FrozenTrial:
    return optuna.trial.create_trial(
        value=value, params=trial.params, distributions=trial.distributions, user_attrs=trial.user_attrs
    )


def test_minimising_mirrors_maximising() -> None:
    up = forecasts(study_of(joint, n=N), n_fits=4)
    down = forecasts(study_of(lambda t: -joint(t), n=N, directions=("minimize",)), n_fits=4)
    for f, g in zip(up, down, strict=True):
        np.testing.assert_allclose([f.mean, f.low, f.high], [-g.mean, -g.high, -g.low], rtol=1e-9)
        assert f.low <= f.mean <= f.high


def test_the_last_fits_see_nearly_all_and_there_are_no_more_than_allowed() -> None:
    study = study_of(joint, n=60)
    for n_fits in (1, 3, 7):
        found = forecasts(study, n_fits=n_fits)
        assert [f.trial for f in found] == list(range(FIRST, 60))
        assert len({f.n_known for f in found}) == n_fits
        assert all(f.n_known <= f.trial for f in found)


def test_it_learns() -> None:
    found = forecasts(study_of(joint, n=80, seed=3))
    errors = np.array([abs(f.mean - f.observed) for f in found])
    assert errors[-25:].mean() < 0.6 * errors[:10].mean()
    assert np.mean([f.is_covered for f in found]) > 0.7


def test_an_open_space_with_failures_and_pruned_trials() -> None:
    def objective(trial: optuna.Trial) -> float:
        value = math.log(suggest_architecture(trial, OPEN).n_parameters)
        trial.report(value - 1, 0)
        if trial.number % 5 == 3:
            raise optuna.TrialPruned
        return math.nan if trial.number % 5 == 4 else value

    study = study_of(objective, n=20)
    found = forecasts(study)
    complete = [t.number for t in study.trials if t.state == TrialState.COMPLETE]
    assert [f.trial for f in found] == [n for n in complete if n > complete[3] and n >= found[0].trial]
    assert len(found) >= 7


def test_one_of_several_objectives() -> None:
    def two(trial: optuna.Trial) -> tuple[float, float]:
        value = joint(trial)
        return value, -3 * value

    study = study_of(two, n=N, directions=("maximize", "minimize"))
    first, second = forecasts(study), forecasts(study, objective=1)
    for f, g in zip(first, second, strict=True):
        np.testing.assert_allclose([f.observed, f.mean], [-g.observed / 3, -g.mean / 3], rtol=1e-6)


def test_too_few_trials() -> None:
    assert forecasts(study_of(joint, n=FIRST)) == []
    (only,) = forecasts(study_of(joint, n=FIRST + 1))
    assert only == Forecast(FIRST, only.observed, only.mean, only.low, only.high, FIRST)


def test_wrong_arguments() -> None:
    study = study_of(joint, n=6)
    with pytest.raises(ValueError, match="level must be between 0 and 1 but got 1"):
        forecasts(study, level=1)
    with pytest.raises(ValueError, match="n_fits must be a positive integer but got 0"):
        forecasts(study, n_fits=0)
    with pytest.raises(ValueError, match="objective must be an integer from 0 to 0 but got 1"):
        forecasts(study, objective=1)
    with pytest.raises(ValueError, match="study must hold an architecture space"):
        forecasts(optuna.create_study())
