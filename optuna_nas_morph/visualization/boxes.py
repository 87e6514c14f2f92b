"""Diagrams as traces of plotly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from optuna_nas_morph.visualization.diagram import Box, Diagram
from optuna_nas_morph.visualization.layout import Layout, Point, Route, sampled
from optuna_nas_morph.visualization.layout.curves import rounded
from optuna_nas_morph.visualization.plotly_imports import go
from optuna_nas_morph.visualization.theme import BLUE, CHANGE_LOOKS, Change, faded
from optuna_nas_morph.visualization.words import plotly_text

RADIUS = 7.0
BAR = 3.0
"""Height of the bar that says how many parameters a box has."""


def diagram_traces(diagram: Diagram, layout: Layout, at: Point = (0.0, 0.0), **place: Any) -> list[go.Scatter]:
    """A diagram as traces, one unit per pixel, y downwards.

    Args:
        diagram:
            What is drawn.
        layout:
            Where, as ``diagram.layout()`` says.
        at:
            Where its upper left corner goes.
        place:
            Passed to every trace: ``xaxis``, ``yaxis``, ``legend``.
    """
    quiet: dict[str, Any] = {"mode": "lines", "hoverinfo": "skip", "showlegend": False, **place}
    traces = []
    for change, look in CHANGE_LOOKS.items():
        dash = ",".join(f"{n}px" for n in look.dash) or "solid"
        # Without simplify=False plotly takes away corners of boxes.
        line = {"color": look.colour, "width": look.width, "dash": dash, "simplify": False}
        routes = [r for r, link in zip(layout.routes, diagram.links, strict=True) if link.change == change]
        if routes:
            # Dashes would start anew wherever routes meet: a changed link is one that ends at something added.
            traces.append(go.Scatter(_chains(map(sampled, routes), at), line={**line, "dash": "solid"}, **quiet))
            ends = [route[-1] for route in routes]
            marker = {"symbol": "triangle-down", "size": 7, "color": look.colour}
            heads = {"x": [x + at[0] for x, _ in ends], "y": [y + at[1] - 3 for _, y in ends]}
            traces.append(go.Scatter(heads, marker=marker, **{**quiet, "mode": "markers"}))
        outlines = [
            sampled(outline(box, centre), 12 if box.merges else 4)
            for box, centre in zip(diagram.boxes, layout.centres, strict=True)
            if box.change == change
        ]
        if outlines:
            fill = {"fill": "toself", "fillcolor": faded(look.colour, 0.10 if change == Change.SAME else 0.22)}
            legend = {"name": change.value, "showlegend": diagram.compares}
            traces.append(go.Scatter(_chains(outlines, at), line=line, **{**quiet, **fill, **legend}))
    if bars := [b for box, centre in zip(diagram.boxes, layout.centres, strict=True) if (b := bar(box, centre))]:
        full: dict[str, Any] = {"fill": "toself", "fillcolor": BLUE, "line": {"width": 0}}
        traces.append(go.Scatter(_chains(bars, at), **{**quiet, **full}))
    traces.append(
        go.Scatter(
            x=[x + at[0] for x, _ in layout.centres],
            y=[y + at[1] for _, y in layout.centres],
            text=[_text(box) for box in diagram.boxes],
            hovertext=["<br>".join(map(plotly_text, (box.title, *box.details))) for box in diagram.boxes],
            hoverinfo="text",
            textfont={"size": 11},
            mode="text",
            showlegend=False,
            **place,
        )
    )
    return traces


def outline(box: Box, centre: Point) -> Route:
    """The rim of a box: a rounded rectangle, or a pill."""
    (w, h), (x, y) = box.size, centre
    radius = h / 2 if box.merges else RADIUS
    corners = [(x - w / 2, y - h / 2), (x + w / 2, y - h / 2), (x + w / 2, y + h / 2), (x - w / 2, y + h / 2)]
    return rounded([(x, y - h / 2), *corners[1:3], *corners[3:], corners[0], (x, y - h / 2)], radius)


def bar(box: Box, centre: Point) -> list[Point]:
    """Corners of the bar at the bottom of a box, as long as its share of parameters; none where it would be a dot."""
    (w, h), (x, y) = box.size, centre
    inset = h / 2 if box.merges else RADIUS
    left, bottom = x - w / 2 + inset, y + h / 2 - BAR / 2
    right = left + (w - 2 * inset) * box.share
    return (
        []
        if right - left < 1.5
        else [(left, bottom), (right, bottom), (right, bottom - BAR), (left, bottom - BAR), (left, bottom)]
    )


def _text(box: Box) -> str:
    title, *lines = map(plotly_text, box.text)
    return "<br>".join([f"<b>{title}</b>", *lines])


def _chains(chains: Iterable[Sequence[Point]], at: Point) -> dict[str, list[float | None]]:
    """Chains of points as one trace: plotly starts anew after None."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    for points in chains:
        xs += [*(round(x + at[0], 2) for x, _ in points), None]
        ys += [*(round(y + at[1], 2) for _, y in points), None]
    return {"x": xs[:-1], "y": ys[:-1]}
