"""How right the surrogate was."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from optuna.study import Study
from scipy.stats import spearmanr

from optuna_nas_morph.interpret.forecast import FIRST, Forecast, forecasts
from optuna_nas_morph.visualization.plotly_imports import go, plotly_imports, subplots
from optuna_nas_morph.visualization.theme import BLUE, GREY, SCALE, VERMILLION, faded, titled, whole_numbers
from optuna_nas_morph.visualization.trials import OBJECTIVE_VALUE, trials_with_architecture
from optuna_nas_morph.visualization.words import plotly_text, value_text

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _SurrogateInfo:
    """Forecasts in the order of the trials."""

    forecasts: tuple[Forecast, ...]
    level: float
    target_name: str


def plot_surrogate(
    study: Study, *, objective: int = 0, level: float = 0.9, n_fits: int = 20, target_name: str = OBJECTIVE_VALUE
) -> go.Figure:
    """Plot what the surrogate would have predicted of each trial, from the trials before it, against what came.

    The left panel has the observed value over the predicted one, with the interval in which it was expected; on the
    dashed line they are the same. The right panel has their difference over the trials: with more of them
    intervals should narrow, and should go on to hold the share of values that they promise. See
    `optuna_nas_morph.interpret.forecast.forecasts`.

    Args:
        study:
            A :class:`~optuna.study.Study` object whose trials are plotted.
        objective:
            Which objective, of several.
        level:
            Probability of the intervals.
        n_fits:
            How often the surrogate is fitted at most.
        target_name:
            Name to display on the axis labels.

    Returns:
        A :class:`plotly.graph_objects.Figure` object. It is empty, after a warning, before six trials with values.

    Raises:
        ImportError: If plotly is not installed.
        ValueError: If an argument is out of range, or the study has a space that this process does not know.
    """
    plotly_imports.check()
    n_values = sum(trial.values is not None for trial in trials_with_architecture(study))
    found = forecasts(study, objective=objective, level=level, n_fits=n_fits) if n_values > FIRST else []
    if not found:
        _logger.warning("There is nothing to predict: more trials with an architecture and a value are needed.")
    return _get_surrogate_plot(_SurrogateInfo(tuple(found), level, target_name))


def _get_surrogate_plot(info: _SurrogateInfo) -> go.Figure:
    figure = subplots.make_subplots(rows=1, cols=2, column_widths=[0.45, 0.55], horizontal_spacing=0.19)
    figure.update_layout(
        title=titled("Surrogate", _caption(info)),
        height=520,
        margin={"t": 110},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"},
    )
    name = plotly_text(info.target_name)
    for column, (x, y) in enumerate(((f"Predicted {name}", f"Observed {name}"), ("Trial", "Observed - predicted")), 1):
        figure.update_xaxes(title={"text": x}, row=1, col=column)
        figure.update_yaxes(title={"text": y}, row=1, col=column)
    shown = [f for f in info.forecasts if math.isfinite(f.observed)]
    if not shown:
        return figure
    numbers = [f.trial for f in shown]
    means, values = [f.mean for f in shown], [f.observed for f in shown]
    ends = [min(*means, *values), max(*means, *values)]
    # A few intervals are very wide at the start: they are cut off rather than let them squeeze everything else.
    room = 0.15 * (ends[1] - ends[0] or 1.0)
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(range=[ends[0] - room, ends[1] + room], row=1, col=1)
    largest = 1.15 * max(abs(f.observed - f.mean) for f in shown) or 1.0
    figure.update_yaxes(range=[-largest, largest], row=1, col=2)
    figure.update_xaxes(whole_numbers(numbers[-1]), row=1, col=2)
    figure.add_scatter(
        x=ends,
        y=ends,
        mode="lines",
        line={"color": GREY, "dash": "dash", "width": 1.5},
        showlegend=False,
        hoverinfo="skip",
        row=1,
        col=1,
    )
    hover = [_words(f, info.level) for f in shown]
    figure.add_scatter(
        x=means,
        y=values,
        mode="markers",
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [f.high - f.mean for f in shown],
            "arrayminus": [f.mean - f.low for f in shown],
            "color": faded(GREY, 0.35),
            "thickness": 1,
            "width": 0,
        },
        marker={
            "color": numbers,
            "colorscale": SCALE,
            "size": 8,
            "line": {"width": 1, "color": GREY},
            "colorbar": {"title": {"text": "Trial"}, "x": 0.38, "thickness": 10, "len": 0.9},
        },
        showlegend=False,
        hovertext=hover,
        hoverinfo="text",
        row=1,
        col=1,
    )
    bars = [(f.trial, y) for f in shown for y in (f.low - f.mean, f.high - f.mean, None)]
    figure.add_scatter(
        x=[x for x, _ in bars],
        y=[y for _, y in bars],
        mode="lines",
        line={"color": faded(BLUE, 0.45), "width": 5 if len(shown) < 80 else 1.5},
        name=f"{info.level:.0%} interval",
        hoverinfo="skip",
        row=1,
        col=2,
    )
    for covered, symbol, colour, label in (
        (True, "circle", GREY, "observed"),
        (False, "diamond", VERMILLION, "observed, outside"),
    ):
        group = [(f, text) for f, text in zip(shown, hover, strict=True) if f.is_covered == covered]
        if group:
            figure.add_scatter(
                x=[f.trial for f, _ in group],
                y=[f.observed - f.mean for f, _ in group],
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 7},
                name=label,
                hovertext=[text for _, text in group],
                hoverinfo="text",
                row=1,
                col=2,
            )
    return figure


def _words(f: Forecast, level: float) -> str:
    return "<br>".join(
        [
            f"trial {f.trial}: observed {value_text(f.observed)}",
            f"predicted {value_text(f.mean)} from {f.n_known} trials",
            f"{level:.0%} interval {value_text(f.low)} to {value_text(f.high)}",
        ]
    )


def _caption(info: _SurrogateInfo) -> str:
    n = len(info.forecasts)
    if not n:
        return "nothing to predict yet"
    n_covered = sum(f.is_covered for f in info.forecasts)
    text = f"{n_covered} of {n} values in their {info.level:.0%} interval"
    correlation = _correlation(info.forecasts)
    return text if correlation is None else f"{text}; rank correlation of predicted and observed {correlation:.2f}"


def _correlation(found: Sequence[Forecast]) -> float | None:
    """Spearman's; None where either does not vary."""
    columns = np.array([(f.mean, f.observed) for f in found])
    if len(found) < 3 or np.any(columns.min(axis=0) == columns.max(axis=0)):
        return None
    return float(spearmanr(*columns.T).statistic)
