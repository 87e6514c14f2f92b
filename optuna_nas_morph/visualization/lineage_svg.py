"""The family tree of a study as a file of its own."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from optuna.study import Study

from optuna_nas_morph.visualization import svg
from optuna_nas_morph.visualization.family_tree import LABEL, RADIUS, SHIFT, LineageInfo, TreeNode, get_lineage_info
from optuna_nas_morph.visualization.states import State, shape
from optuna_nas_morph.visualization.theme import GREY, LIGHT, VERMILLION, Theme, colour_at
from optuna_nas_morph.visualization.trials import OBJECTIVE_VALUE, Target

_HEAD = 74.0
_STRIP = 150.0
"""Length of the colour scale, in pixels."""


def lineage_to_svg(
    study: Study, *, target: Target | None = None, target_name: str = OBJECTIVE_VALUE, theme: Theme = LIGHT
) -> str:
    """The family tree of a study as SVG: the picture of `plot_lineage`, for where there is no plotly.

    The file refers to nothing outside, runs no script, and holds no ids and styles: it can also stand inside a page.

    Args:
        study:
            A :class:`~optuna.study.Study` object whose trials are drawn.
        target:
            As in `plot_lineage`.
        target_name:
            Likewise.
        theme:
            ``LIGHT``, ``DARK``, or colours of your own.

    Returns:
        The text of the file. What the mouse would show of a trial is the title of its group.

    Raises:
        ValueError: If the study has several objectives and ``target`` is left out.
    """
    info = get_lineage_info(study, target, target_name)
    width = max(info.width, 5.8 * len(info.caption), 480.0)
    root, drawing = svg.document(width, info.height + _HEAD + LABEL, theme, f"Lineage: {info.caption}")
    svg.add(drawing, "text", "Lineage", y=11.0, font_size=14.0, font_weight="bold")
    svg.add(drawing, "text", info.caption, y=27.0, fill=theme.muted)
    _add_legend(drawing, info, theme)
    tree = svg.add(drawing, "g", transform=f"translate(0 {_HEAD})", font_size="10")
    for node in sorted(info.nodes, key=lambda node: node.of_best):  # the way to the best on top
        if node.route is not None:
            colour, thickness = (VERMILLION, 2.5) if node.of_best else (GREY, 1.0)
            svg.add(tree, "path", d=svg.path(node.route), fill="none", stroke=colour, stroke_width=thickness)
    for node in info.nodes:
        _add_trial(tree, node, node.number == info.best)
    return svg.written(root)


def _add_trial(tree: ET.Element, node: TreeNode, is_best: bool) -> None:
    group, (x, y) = svg.add(tree, "g"), node.at
    svg.add(group, "title", "\n".join(node.details))
    _add_marker(group, node.state, node.at, node.share)
    if is_best:
        svg.add(group, "circle", cx=x, cy=y, r=RADIUS + 3, fill="none", stroke=VERMILLION, stroke_width=3.0)
    weight = "bold" if is_best else ""
    for text, shift in ((node.morphisms, -SHIFT), (node.value, SHIFT)):
        if text:
            left, baseline = x - RADIUS - 1, y + shift + 3.5
            svg.add(group, "text", text, x=left, y=baseline, text_anchor="end", font_weight=weight)


def _add_marker(parent: ET.Element, state: State, at: tuple[float, float], share: float | None) -> None:
    """A trial in the shape of its state and the colour of its value; hollow without one."""
    hollow = share is None or state in (State.FAILED, State.RUNNING)
    fill = "none" if hollow or share is None else colour_at(share)
    radius = RADIUS - (2 if state == State.FAILED else 1)
    svg.add(parent, "path", d=shape(state, at, radius), fill=fill, stroke=GREY, stroke_width=2.0 if hollow else 1.0)


def _add_legend(drawing: ET.Element, info: LineageInfo, theme: Theme) -> None:
    """A row of the states that there are, and the colour scale."""
    legend = svg.add(drawing, "g", transform="translate(6 43)", fill=theme.muted)
    x = 0.0
    for state in (state for state in State if any(node.state == state for node in info.nodes)):
        svg.add(legend, "path", d=shape(state, (x, 0.0), RADIUS - 1), fill="none", stroke=GREY, stroke_width=2.0)
        svg.add(legend, "text", state.value, x=x + 10, y=4.0)
        x += 26 + 6 * len(state.value)
    if info.ranks.ticks:
        step = _STRIP / 30
        for i in range(30):
            svg.add(legend, "rect", x=x + i * step, y=-5.0, width=step + 0.5, height=10.0, fill=colour_at(i / 29))
        first, last = info.ranks.ticks[0][1], info.ranks.ticks[-1][1]
        svg.add(legend, "text", f"{info.target_name} {first} to {last}", x=x + _STRIP + 8, y=4.0)
