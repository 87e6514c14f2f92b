"""The family tree of a study."""

from __future__ import annotations

from optuna.study import Study

from optuna_nas_morph.visualization.family_tree import RADIUS, SHIFT, LineageInfo, get_lineage_info
from optuna_nas_morph.visualization.layout import sampled
from optuna_nas_morph.visualization.plotly_imports import go, plotly_imports
from optuna_nas_morph.visualization.states import State, marker
from optuna_nas_morph.visualization.theme import GREY, SCALE, VERMILLION, titled
from optuna_nas_morph.visualization.trials import OBJECTIVE_VALUE, Target
from optuna_nas_morph.visualization.words import plotly_text

_MARGIN = 28
_HEAD = 96
_BAR = 110
"""Room for the colour bar."""


def plot_lineage(study: Study, *, target: Target | None = None, target_name: str = OBJECTIVE_VALUE) -> go.Figure:
    """Plot the family tree of a study: every trial beside its parent, generation by generation.

    The colour of a trial is the rank of its value (of the last one reported if it was pruned), its shape what became of
    it. Beside an edge stand the morphisms that made the child of the parent. The way to the best trial is drawn thick.
    Where trials are many, only labels that do not overlap are written, those of the best lineage first, and the rest is
    shown where the mouse rests. Trials without an architecture are left out, and those of a closed space, which have no
    parents.

    Args:
        study:
            A :class:`~optuna.study.Study` object whose trials are plotted.
        target:
            A function to specify the value to display. If it is :obj:`None` and ``study`` is being used for
            single-objective optimization, the objective values are plotted.

            .. note::
                Specify this argument if ``study`` is being used for multi-objective optimization.
        target_name:
            Target's name to display on the colour bar.

    Returns:
        A :class:`plotly.graph_objects.Figure` object, as large as the tree.

    Raises:
        ImportError: If plotly is not installed.
        ValueError: If the study has several objectives and ``target`` is left out.
    """
    plotly_imports.check()
    return _get_lineage_plot(get_lineage_info(study, target, target_name))


def _get_lineage_plot(info: LineageInfo) -> go.Figure:
    figure = go.Figure(layout={"title": titled("Lineage", info.caption)})
    if not info.nodes:
        return figure
    quiet = {"hoverinfo": "skip", "showlegend": False}
    for of_best, colour, width in ((False, GREY, 1), (True, VERMILLION, 2.5)):
        xs: list[float | None] = []
        ys: list[float | None] = []
        for node in info.nodes:
            if node.route is not None and node.of_best == of_best:
                points = sampled(node.route, 8)
                xs += [*(round(x, 1) for x, _ in points), None]
                ys += [*(round(y, 1) for _, y in points), None]
        if xs:
            figure.add_scatter(x=xs, y=ys, mode="lines", line={"color": colour, "width": width}, **quiet)
    for state in State:
        members = [node for node in info.nodes if node.state == state]
        for group in ([n for n in members if n.share is None], [n for n in members if n.share is not None]):
            if group:
                shares = [node.share for node in group if node.share is not None]
                figure.add_scatter(
                    x=[node.at[0] for node in group],
                    y=[node.at[1] for node in group],
                    mode="markers",
                    marker=marker(state, shares or None, 2 * RADIUS - 2),
                    hovertext=["<br>".join(map(plotly_text, node.details)) for node in group],
                    hoverinfo="text",
                    showlegend=False,
                )
        if members:  # What stands in the legend has no value, hence no colour.
            figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker(state), name=state.value)
    for node in info.nodes:
        if node.number == info.best:
            ring = {"symbol": "circle-open", "size": 2 * RADIUS + 6, "line": {"width": 3}, "color": VERMILLION}
            figure.add_scatter(
                x=[node.at[0]], y=[node.at[1]], mode="markers", marker=ring, name="best", hoverinfo="skip"
            )
    for texts, dy in (("value", SHIFT), ("morphisms", -SHIFT)):
        labelled = [node for node in info.nodes if getattr(node, texts)]
        figure.add_scatter(
            x=[node.at[0] - RADIUS for node in labelled],
            y=[node.at[1] + dy for node in labelled],
            text=[_bold(plotly_text(getattr(node, texts)), node.number == info.best) for node in labelled],
            textposition="middle left",
            textfont={"size": 10},
            mode="text",
            **quiet,
        )
    if info.ranks.ticks:
        places, labels = zip(*info.ranks.ticks, strict=True)
        title = {"text": plotly_text(info.target_name), "side": "right"}
        bar = {"title": title, "tickvals": places, "ticktext": labels, "thickness": 14}
        bar |= {"lenmode": "pixels", "len": min(320.0, max(200.0, info.height)), "y": 1, "yanchor": "top"}
        bars = {
            "colorscale": SCALE,
            "cmin": 0,
            "cmax": 1,
            "color": [0.5],
            "showscale": True,
            "colorbar": bar,
            "size": 0,
        }
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=bars, **quiet)
    width, height = max(info.width, 420.0), max(info.height, 160.0)
    axis = {"visible": False}
    figure.update_layout(
        width=width + 2 * _MARGIN + _BAR,
        height=height + _HEAD + 2 * _MARGIN,
        margin={"l": _MARGIN, "r": _MARGIN + _BAR, "t": _HEAD, "b": _MARGIN},
        xaxis={**axis, "range": [0, width]},
        yaxis={**axis, "range": [height + _MARGIN / 2, -_MARGIN / 2]},
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"},
        hovermode="closest",
    )
    return figure


def _bold(text: str, bold: bool) -> str:
    return f"<b>{text}</b>" if bold else text
