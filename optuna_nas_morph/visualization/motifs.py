"""Which parts of architectures help and which harm."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.study import Study

from optuna_nas_morph import lineage
from optuna_nas_morph.interpret import Effect, Explanation, explain
from optuna_nas_morph.visualization.boxes import diagram_traces
from optuna_nas_morph.visualization.diagram import Diagram, diagram_of_graph
from optuna_nas_morph.visualization.layout import Layout, Point
from optuna_nas_morph.visualization.plotly_imports import go, plotly_imports
from optuna_nas_morph.visualization.theme import BLUE, GREY, VERMILLION, titled
from optuna_nas_morph.visualization.trials import trials_with_architecture
from optuna_nas_morph.visualization.words import plotly_text, value_text

_logger = logging.getLogger(__name__)

_MARGIN = 24
_HEAD = 84
"""Room for title and caption, in pixels."""
_BAR = 240.0
"""Length of the common scale of effects."""
_TEXT = 46.0
"""Height of a row's two lines and its interval."""
_GAP = 26.0
_INSET = 10.0
"""So that rims at the edge are not cut off."""


@dataclass(frozen=True)
class _Row:
    """One effect: its lines, and the drawing below it if it is that of a motif."""

    title: str
    text: str
    effect: Effect
    diagram: Diagram | None = None


@dataclass(frozen=True)
class _MotifsInfo:
    """Columns of rows, each with its heading."""

    columns: tuple[tuple[str, tuple[_Row, ...]], ...]
    caption: str


def plot_motifs(source: Study | Explanation, *, n_motifs: int = 4) -> go.Figure:
    """Plot the most helpful and the most harmful motifs of a study, drawn as graphs, with their effects.

    Above each motif stand its effect with its credible interval, in the units of the objective, and in how many trials
    it is. The thick bar is the interval, the dot the effect and the tick 0; all are on one scale. What is clear, that
    is, whose interval excludes 0, has a filled dot. Hyperparameters are beside them where there are some.

    Args:
        source:
            A study, which is explained as :func:`~optuna_nas_morph.explain` does by default, or what that returned.
        n_motifs:
            How many of each are shown at most.

    Returns:
        A :class:`plotly.graph_objects.Figure` object, as large as the drawing. It is empty, after a warning, where
        there are no motifs and no hyperparameters to compare.

    Raises:
        ImportError: If plotly is not installed.
        TypeError: If ``source`` is something else.
        ValueError: If ``n_motifs`` is not positive, or the study has a space that this process does not know.
    """
    plotly_imports.check()
    if type(n_motifs) is not int or n_motifs < 1:
        raise ValueError(f"n_motifs must be a positive integer but got {n_motifs!r}.")
    if not isinstance(source, Study | Explanation):
        raise TypeError(f"source must be a study or an Explanation but got a {type(source).__name__}.")
    explanation = source if isinstance(source, Explanation) else _explanation_of(source)
    info = None if explanation is None else _get_motifs_info(explanation, n_motifs)
    if info is None or not info.columns:
        _logger.warning("There are no effects to compare: more architectures with values are needed.")
        return go.Figure(layout={"title": titled("Motifs", "no effects to compare")})
    return _get_motifs_plot(info)


def _explanation_of(study: Study) -> Explanation | None:
    """None where too little has been evaluated to explain anything."""
    known = {t.user_attrs[lineage.FINGERPRINT] for t in trials_with_architecture(study) if t.values}
    return explain(study) if len(known) > 1 else None


def _get_motifs_info(explanation: Explanation, n_motifs: int) -> _MotifsInfo:
    helps = [m for m in explanation.motifs if m.effect.is_better][:n_motifs]
    harms = [m for m in reversed(explanation.motifs) if not m.effect.is_better][:n_motifs]
    columns = [
        (name, tuple(_Row(_effect(m.effect), _support(m.support), m.effect, diagram_of_graph(m.graph)) for m in motifs))
        for name, motifs in (("help", helps), ("harm", harms))
    ]
    ranked = sorted(explanation.hyperparameters, key=lambda h: -abs(h.effect.mean))[: 2 * n_motifs]
    columns.append(
        ("hyperparameters", tuple(_Row(_effect(h.effect), f"{h.name} {h.values}", h.effect) for h in ranked))
    )
    caption = (
        f"effect on a value of {value_text(explanation.start)}, the median of {explanation.n_trials} trials, with "
        f"{explanation.level:.0%} intervals"
    )
    return _MotifsInfo(tuple(column for column in columns if column[1]), caption)


def _get_motifs_plot(info: _MotifsInfo) -> go.Figure:
    figure = go.Figure()
    effects = [row.effect for _, rows in info.columns for row in rows]
    low, high = min(0.0, *(e.low for e in effects)), max(0.0, *(e.high for e in effects))
    scale = low, (high - low) or 1.0
    left, bottom = 0.0, 0.0
    for name, rows in info.columns:
        layouts = [None if row.diagram is None else row.diagram.layout() for row in rows]
        width = max(_BAR, *(0.0 if layout is None else layout.width for layout in layouts))
        _add_text(figure, (left, 0.0), f"<b>{name}</b>", 13)
        top = 30.0
        for row, layout in zip(rows, layouts, strict=True):
            top = _add_row(figure, row, layout, (left, top), scale)
        left, bottom = left + width + 2 * _GAP, max(bottom, top)
    width = max(left - 2 * _GAP, 480.0)
    figure.update_layout(
        title=titled("Motifs", info.caption),
        width=width + 2 * (_MARGIN + _INSET),
        height=bottom + _HEAD + _MARGIN,
        margin={"l": _MARGIN, "r": _MARGIN, "t": _HEAD, "b": _MARGIN},
        xaxis={"visible": False, "range": [-_INSET, width + _INSET]},
        yaxis={"visible": False, "range": [bottom, -10]},
        showlegend=False,
    )
    return figure


def _add_row(figure: go.Figure, row: _Row, layout: Layout | None, at: Point, scale: tuple[float, float]) -> float:
    """Draw one row, and say where the next one starts."""
    (x, y), (low, span) = at, scale
    _add_text(figure, at, f"<b>{plotly_text(row.title)}</b>", 11)
    _add_text(figure, (x, y + 14), plotly_text(row.text), 11)
    ends = [x + _BAR * (value - low) / span for value in (row.effect.low, row.effect.mean, row.effect.high, 0.0)]
    colour, line = (BLUE if row.effect.is_better else VERMILLION), y + 30
    _add_line(figure, [ends[3], ends[3]], [line - 5, line + 5], GREY, 1.5)
    _add_line(figure, [ends[3], ends[1]], [line, line], GREY, 1)
    _add_line(figure, [ends[0], ends[2]], [line, line], colour, 3)
    symbol = "circle" if row.effect.is_clear else "circle-open"
    marker = {"color": colour, "size": 9, "symbol": symbol}
    figure.add_scatter(x=[ends[1]], y=[line], mode="markers", marker=marker, hoverinfo="skip")
    if layout is None or row.diagram is None:
        return y + _TEXT + _GAP / 2
    figure.add_traces(diagram_traces(row.diagram, layout, (x, y + _TEXT)))
    return y + _TEXT + layout.height + _GAP


def _add_line(figure: go.Figure, xs: Sequence[float], ys: Sequence[float], colour: str, width: float) -> None:
    figure.add_scatter(x=xs, y=ys, mode="lines", line={"color": colour, "width": width}, hoverinfo="skip")


def _add_text(figure: go.Figure, at: Point, text: str, size: int) -> None:
    place = {"x": at[0], "y": at[1], "xanchor": "left", "yanchor": "middle"}
    figure.add_annotation(text=text, font={"size": size}, showarrow=False, align="left", **place)


def _effect(effect: Effect) -> str:
    return f"{effect.mean:+.3g} [{effect.low:+.3g}, {effect.high:+.3g}]"


def _support(n: int) -> str:
    return f"in {n} trial{'s' * (n != 1)}"
