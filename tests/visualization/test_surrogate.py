"""The surrogate's plot shows every forecast, and what lies outside of its interval."""

from __future__ import annotations

import optuna
import pytest

from optuna_nas_morph.interpret.forecast import Forecast, forecasts
from optuna_nas_morph.visualization import plot_surrogate
from optuna_nas_morph.visualization.surrogate import _get_surrogate_plot, _SurrogateInfo
from tests.interpret.test_explain import joint, study_of

BY_HAND = (
    Forecast(5, 1.0, 1.5, 0.5, 2.5, 5),
    Forecast(6, 4.0, 2.0, 1.0, 3.0, 5),
    Forecast(8, float("inf"), 2.0, 1.0, 3.0, 7),
    Forecast(9, 3.0, 2.5, 2.0, 4.0, 7),
)


def test_by_hand() -> None:
    figure = _get_surrogate_plot(_SurrogateInfo(BY_HAND, 0.9, "<accuracy>"))
    assert "2 of 4 values in their 90% interval" in figure.layout.title.text
    diagonal, scatter, bars, inside, outside = figure.data
    assert tuple(diagonal.x) == tuple(diagonal.y) == (1.0, 4.0)
    assert (tuple(scatter.x), tuple(scatter.y)) == ((1.5, 2.0, 2.5), (1.0, 4.0, 3.0))
    assert (tuple(scatter.error_x.array), tuple(scatter.error_x.arrayminus)) == ((1.0, 1.0, 1.5), (1.0, 1.0, 0.5))
    assert tuple(bars.x) == (5, 5, 5, 6, 6, 6, 9, 9, 9)
    assert tuple(bars.y) == (-1.0, 1.0, None, -1.0, 1.0, None, -0.5, 1.5, None)
    assert (tuple(inside.x), tuple(inside.y)) == ((5, 9), (-0.5, 0.5))
    assert (tuple(outside.x), tuple(outside.y)) == ((6,), (2.0,))
    assert outside.marker.symbol != inside.marker.symbol
    assert "&lt;accuracy&gt;" in figure.layout.xaxis.title.text


def test_of_a_study() -> None:
    study = study_of(joint, n=20)
    found = forecasts(study)
    figure = plot_surrogate(study, target_name="score")
    assert tuple(figure.data[1].x) == tuple(f.mean for f in found)
    assert "rank correlation of predicted and observed" in figure.layout.title.text
    assert "trial 5: observed" in figure.data[1].hovertext[0]
    figure.to_json()
    assert figure.layout.paper_bgcolor is None


@pytest.mark.parametrize("n_trials", [0, 1, 5])
def test_too_few_trials_make_an_empty_figure(n_trials: int, caplog: pytest.LogCaptureFixture) -> None:
    assert not plot_surrogate(study_of(joint, n=n_trials)).data
    assert "There is nothing to predict" in caplog.text


def test_constant_values() -> None:
    figure = plot_surrogate(study_of(lambda trial: 0 * joint(trial) + 1, n=10))
    assert "rank correlation" not in figure.layout.title.text
    assert figure.layout.yaxis2.range is not None


def test_a_study_without_architectures(caplog: pytest.LogCaptureFixture) -> None:
    study = optuna.create_study()
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=8)
    assert not plot_surrogate(study).data
    assert "There is nothing to predict" in caplog.text
