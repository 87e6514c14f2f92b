"""How a search grows its networks."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from optuna.study import Study

from optuna_nas_morph import lineage
from optuna_nas_morph.visualization.plotly_imports import go, plotly_imports, subplots
from optuna_nas_morph.visualization.states import State, marker, state_of
from optuna_nas_morph.visualization.theme import BLUE, VERMILLION, titled, whole_numbers
from optuna_nas_morph.visualization.trials import (
    OBJECTIVE_VALUE,
    Target,
    check_target,
    details_of,
    is_feasible,
    last_value_of,
    minimises,
    value_of,
)
from optuna_nas_morph.visualization.words import count_text, plotly_text

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Point:
    """One trial: its state, its sizes, and its value, of which a pruned one has the last that it reported."""

    number: int
    state: State
    parameters: int
    flops: int
    value: float | None
    details: tuple[str, ...]


@dataclass(frozen=True)
class _GrowthInfo:
    """Trials in the order of their numbers, and those of them that were the best when they ended."""

    points: tuple[_Point, ...]
    incumbents: tuple[_Point, ...]
    target_name: str


def plot_growth(study: Study, *, target: Target | None = None, target_name: str = OBJECTIVE_VALUE) -> go.Figure:
    """Plot parameters, FLOPs and values of the architectures of a study over its trials.

    The line leads from each trial that was the best so far to the next, in all three panels: where it rises in the
    upper two, growing has paid. Trials without an architecture are left out, and so are those of closed spaces, whose
    sizes are not known.

    Args:
        study:
            A :class:`~optuna.study.Study` object whose trials are plotted.
        target:
            A function to specify the value to display. If it is :obj:`None` and ``study`` is being used for
            single-objective optimization, the objective values are plotted. Which values of a target are better is not
            known: there is no line then.

            .. note::
                Specify this argument if ``study`` is being used for multi-objective optimization.
        target_name:
            Target's name to display on the axis label.

    Returns:
        A :class:`plotly.graph_objects.Figure` object.

    Raises:
        ImportError: If plotly is not installed.
        ValueError: If the study has several objectives and ``target`` is left out.
    """
    plotly_imports.check()
    return _get_growth_plot(_get_growth_info(study, target, target_name))


def _get_growth_info(study: Study, target: Target | None, target_name: str) -> _GrowthInfo:
    check_target(study, target)
    points: list[_Point] = []
    incumbents: list[_Point] = []
    for trial in study.get_trials(deepcopy=False):
        if lineage.PARAMETERS not in trial.user_attrs:
            continue
        value = value_of(trial, target)
        sizes = int(trial.user_attrs[lineage.PARAMETERS]), int(trial.user_attrs[lineage.FLOPS])
        shown = last_value_of(trial) if value is None and target is None else value
        point = _Point(trial.number, state_of(trial), *sizes, shown, tuple(details_of(trial)))
        points.append(point)
        if target is None and value is not None and is_feasible(trial):
            best = incumbents[-1].value if incumbents else None
            if best is None or (value < best if minimises(study) else value > best):
                incumbents.append(point)
    if not points:
        _logger.warning("There are no trials with an architecture.")
    return _GrowthInfo(tuple(points), tuple(incumbents), target_name)


def _get_growth_plot(info: _GrowthInfo) -> go.Figure:
    figure = subplots.make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.04)
    figure.update_layout(
        title=titled("Growth", _caption(info)),
        height=680,
        margin={"t": 110},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )
    panels = (("parameters", "Parameters"), ("flops", "FLOPs"), ("value", plotly_text(info.target_name)))
    last = info.points[-1].number if info.points else 0
    for row, (name, title) in enumerate(panels, 1):
        place = {"row": row, "col": 1}
        figure.update_yaxes(title={"text": title}, type="linear" if name == "value" else "log", **place)
        for state in State:
            points = [p for p in info.points if p.state == state and getattr(p, name) is not None]
            if points:
                figure.add_scatter(
                    x=[p.number for p in points],
                    # A logarithm has no place for networks without products.
                    y=[getattr(p, name) if name == "value" else max(1, getattr(p, name)) for p in points],
                    mode="markers",
                    marker=marker(state, size=7) | ({"color": BLUE} if state == State.COMPLETE else {}),
                    name=state.value,
                    legendgroup=state.value,
                    showlegend=row == 1,
                    hovertext=["<br>".join(map(plotly_text, p.details)) for p in points],
                    hoverinfo="text",
                    **place,
                )
        if info.incumbents:
            steps = [*info.incumbents, info.incumbents[-1]]
            figure.add_scatter(
                x=[*(p.number for p in info.incumbents), last],
                y=[getattr(p, name) if name == "value" else max(1, getattr(p, name)) for p in steps],
                mode="lines",
                line={"color": VERMILLION, "width": 2.5, "shape": "hv"},
                name="best so far",
                legendgroup="best",
                showlegend=row == 1,
                hoverinfo="skip",
                **place,
            )
    figure.update_xaxes(whole_numbers(last))
    figure.update_xaxes(title={"text": "Trial"}, row=3, col=1)
    return figure


def _caption(info: _GrowthInfo) -> str:
    text = f"{len(info.points)} trial{'s' * (len(info.points) != 1)}"
    if not info.incumbents:
        return text
    best = info.incumbents[-1]
    sizes = f"{count_text(best.parameters)} parameters, {count_text(best.flops)} FLOPs"
    return f"{text}; the best, trial {best.number}, has {sizes}"
