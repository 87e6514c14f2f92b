"""How trials look: a shape for what became of them, a colour for how good they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import rankdata

from optuna_nas_morph.visualization.layout import Point
from optuna_nas_morph.visualization.theme import GREY, SCALE
from optuna_nas_morph.visualization.trials import is_feasible
from optuna_nas_morph.visualization.words import value_text


class State(Enum):
    """What became of a trial; the value is what it is called, and the order that of legends."""

    COMPLETE = "complete"
    INFEASIBLE = "infeasible"
    PRUNED = "pruned"
    FAILED = "failed"
    RUNNING = "running"


SYMBOLS = {
    State.COMPLETE: "circle",
    State.INFEASIBLE: "square",
    State.PRUNED: "diamond",
    State.FAILED: "x-thin",
    State.RUNNING: "circle-open",
}
"""Of plotly."""

_OF_OPTUNA = {
    TrialState.PRUNED: State.PRUNED,
    TrialState.FAIL: State.FAILED,
    TrialState.RUNNING: State.RUNNING,
    TrialState.WAITING: State.RUNNING,
}


def state_of(trial: FrozenTrial) -> State:
    """What became of a trial."""
    if trial.state == TrialState.COMPLETE:
        return State.COMPLETE if is_feasible(trial) else State.INFEASIBLE
    return _OF_OPTUNA[trial.state]


@dataclass(frozen=True)
class Ranks:
    """Values by their ranks, which use a colour scale evenly however they are spread.

    Attributes:
        shares:
            Per value, its place from 0 for the worst to 1 for the best; :obj:`None` where there is no value.
        ticks:
            Pairs of a place and the value there.
    """

    shares: tuple[float | None, ...]
    ticks: tuple[tuple[float, str], ...]


def ranks_of(values: Sequence[float | None], *, minimise: bool) -> Ranks:
    """Rank values; equal ones are in the middle of their places."""
    sign = -1 if minimise else 1
    known = np.array([sign * value for value in values if value is not None])
    if not len(known):
        return Ranks((None,) * len(values), ())
    if len(set(known)) == 1:
        return Ranks(tuple(None if v is None else 0.5 for v in values), ((0.5, value_text(sign * known[0])),))
    places = iter((rankdata(known) - 1) / (len(known) - 1))
    shares = tuple(None if value is None else float(next(places)) for value in values)
    return Ranks(shares, tuple((q, value_text(sign * np.quantile(known, q))) for q in (0, 0.25, 0.5, 0.75, 1)))


def marker(state: State, shares: Sequence[float] | None = None, size: float = 9) -> dict[str, Any]:
    """Marker of plotly for trials of one state; grey where there are no shares to colour by."""
    result: dict[str, Any] = {"symbol": SYMBOLS[state], "size": size, "line": {"width": 1, "color": GREY}}
    if state in (State.FAILED, State.RUNNING):
        return {**result, "color": GREY, "line": {"width": 2, "color": GREY}}
    if shares is None:
        return {**result, "color": GREY}
    return {**result, "color": list(shares), "colorscale": SCALE, "cmin": 0, "cmax": 1}


def shape(state: State, at: Point, radius: float) -> str:
    """The ``d`` of an SVG path of the same shape."""
    (x, y), r = at, radius
    if state in (State.COMPLETE, State.RUNNING):
        return f"M{x - r:.1f} {y:.1f}a{r:.1f} {r:.1f} 0 1 0 {2 * r:.1f} 0a{r:.1f} {r:.1f} 0 1 0 {-2 * r:.1f} 0Z"
    if state == State.FAILED:
        return f"M{x - r:.1f} {y - r:.1f}l{2 * r:.1f} {2 * r:.1f}m0 {-2 * r:.1f}l{-2 * r:.1f} {2 * r:.1f}"
    if state == State.INFEASIBLE:
        return f"M{x - r:.1f} {y - r:.1f}h{2 * r:.1f}v{2 * r:.1f}h{-2 * r:.1f}Z"
    r *= 1.25
    return f"M{x:.1f} {y - r:.1f}l{r:.1f} {r:.1f}l{-r:.1f} {r:.1f}l{-r:.1f} {-r:.1f}Z"
