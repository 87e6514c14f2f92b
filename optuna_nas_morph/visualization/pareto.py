"""What a better value costs."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_nas_morph import lineage
from optuna_nas_morph.visualization.plotly_imports import go, plotly_imports
from optuna_nas_morph.visualization.states import State, marker, state_of
from optuna_nas_morph.visualization.theme import BLUE, VERMILLION, titled
from optuna_nas_morph.visualization.trials import OBJECTIVE_VALUE, details_of
from optuna_nas_morph.visualization.words import plotly_text

_logger = logging.getLogger(__name__)

Targets = Callable[[FrozenTrial], Sequence[float]]
Cost = Literal["parameters", "flops"]

_COSTS = {"parameters": (lineage.PARAMETERS, "Parameters"), "flops": (lineage.FLOPS, "FLOPs")}


@dataclass(frozen=True)
class _ParetoPoint:
    """One trial: its place, whether it keeps to the constraints, and whether another is at least as good in both."""

    number: int
    at: tuple[float, float]
    is_feasible: bool
    is_on_front: bool
    details: tuple[str, ...]


@dataclass(frozen=True)
class _ParetoInfo:
    """Complete trials in the order of their numbers, and what the axes are."""

    points: tuple[_ParetoPoint, ...]
    names: tuple[str, str]
    minimise: tuple[bool, bool]
    is_log: bool


def plot_pareto(
    study: Study,
    *,
    cost: Cost = "parameters",
    targets: Targets | None = None,
    target_names: Sequence[str] | None = None,
    directions: Sequence[str | StudyDirection] | None = None,
) -> go.Figure:
    """Plot values against the size of the network, or two objectives against each other, with the Pareto front.

    Args:
        study:
            A :class:`~optuna.study.Study` object whose complete trials are plotted. With one objective, its values are
            plotted against ``cost``; with two, the objectives against each other; with more, ``targets`` must be given.
            Trials without such numbers are left out. Those that violate constraints are shown, but not on the front.
        cost:
            ``"parameters"`` or ``"flops"`` of the architecture, which is minimised. It matters for one objective only.
        targets:
            A function that returns two numbers of a trial, to be plotted instead.
        target_names:
            Two names for the axes.
        directions:
            ``"minimize"`` or ``"maximize"`` for each of ``targets``; must be given with them.

    Returns:
        A :class:`plotly.graph_objects.Figure` object.

    Raises:
        ImportError: If plotly is not installed.
        ValueError: If an argument is not as said above, or targets that are needed are left out.
    """
    plotly_imports.check()
    return _get_pareto_plot(_get_pareto_info(study, cost, targets, target_names, directions))


def _get_pareto_info(
    study: Study,
    cost: Cost = "parameters",
    targets: Targets | None = None,
    target_names: Sequence[str] | None = None,
    directions: Sequence[str | StudyDirection] | None = None,
) -> _ParetoInfo:
    if cost not in _COSTS:
        raise ValueError(f"cost must be one of {sorted(_COSTS)} but got {cost!r}.")
    if (targets is None) != (directions is None):
        raise ValueError("targets and directions must be given together: a front needs to know what is better.")
    attribute, cost_name = _COSTS[cost]
    minimise = [direction == StudyDirection.MINIMIZE for direction in study.directions]
    names = list(study.metric_names or [])
    by_cost = targets is None and len(study.directions) == 1
    if directions is not None:
        minimise, names = [_is_minimise(direction) for direction in directions], ["Target 0", "Target 1"]
    elif by_cost:
        minimise, names = [True, *minimise], [cost_name, *(names or [OBJECTIVE_VALUE])]
    elif len(study.directions) == 2:
        names = names or ["Objective 0", "Objective 1"]
    else:
        raise ValueError(
            f"`plot_pareto` shows two objectives but the study has {len(study.directions)}. Please specify `targets`"
            " and `directions`, or use `optuna.visualization.plot_pareto_front`."
        )
    names = names if target_names is None else list(target_names)
    if len(names) != 2 or len(minimise) != 2:
        raise ValueError(f"target_names and directions must have two entries but got {names} and {directions!r}.")

    points = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        if by_cost and attribute not in trial.user_attrs:
            continue
        numbers = targets(trial) if targets else [trial.user_attrs[attribute], trial.value] if by_cost else trial.values
        if len(numbers) != 2:
            raise ValueError(f"targets must return two numbers but returned {numbers!r} for trial {trial.number}.")
        at = float(numbers[0]), float(numbers[1])
        if all(map(math.isfinite, at)):
            feasible = state_of(trial) == State.COMPLETE
            points.append(_ParetoPoint(trial.number, at, feasible, False, tuple(details_of(trial))))
    if not points:
        _logger.warning("There are no complete trials.")
    signs = [1 if least else -1 for least in minimise]
    front = _front([(p.at[0] * signs[0], p.at[1] * signs[1]) if p.is_feasible else None for p in points])
    marked = tuple(replace(p, is_on_front=i in front) for i, p in enumerate(points))
    is_log = by_cost and all(p.at[0] > 0 for p in points)
    return _ParetoInfo(marked, (names[0], names[1]), (minimise[0], minimise[1]), is_log)


def _is_minimise(direction: str | StudyDirection) -> bool:
    name = direction.name.lower() if isinstance(direction, StudyDirection) else direction
    if name not in ("minimize", "maximize"):
        raise ValueError(f"directions must be 'minimize' or 'maximize' but got {direction!r}.")
    return name == "minimize"


def _front(losses: Sequence[tuple[float, float] | None]) -> set[int]:
    """Indices of the losses that no other one is below in one and not above in the other."""
    front: set[int] = set()
    ranked = sorted((loss, i) for i, loss in enumerate(losses) if loss is not None)
    least = last = (math.inf, math.inf)
    for loss, i in ranked:
        if loss[1] < least[1] or loss == last:
            front.add(i)
            least = last = loss
    return front


def _get_pareto_plot(info: _ParetoInfo) -> go.Figure:
    front = sorted({p.at for p in info.points if p.is_on_front})
    figure = go.Figure()
    figure.update_layout(
        title=titled("Pareto Front", f"{len(info.points)} trials, {len(front)} on the front"),
        xaxis={"title": {"text": plotly_text(info.names[0])}, "type": "log" if info.is_log else "linear"},
        yaxis={"title": {"text": plotly_text(info.names[1])}},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"},
    )
    if front:
        xs, ys = zip(*front, strict=True)
        # A corner is what is reached on the way from one to the next, not what would be better than both.
        line = {"color": VERMILLION, "width": 2, "shape": "hv" if info.minimise[0] else "vh"}
        figure.add_scatter(x=xs, y=ys, mode="lines", line=line, hoverinfo="skip", showlegend=False)
    for name, look, group in (
        (
            "dominated",
            marker(State.COMPLETE, size=7) | {"color": BLUE},
            [p for p in info.points if p.is_feasible and not p.is_on_front],
        ),
        ("infeasible", marker(State.INFEASIBLE, size=7), [p for p in info.points if not p.is_feasible]),
        (
            "on the front",
            marker(State.PRUNED, size=11) | {"color": VERMILLION, "symbol": "star"},
            [p for p in info.points if p.is_on_front],
        ),
    ):
        if group:
            figure.add_scatter(
                x=[p.at[0] for p in group],
                y=[p.at[1] for p in group],
                mode="markers",
                marker=look,
                name=name,
                hovertext=["<br>".join(map(plotly_text, p.details)) for p in group],
                hoverinfo="text",
            )
    return figure
