"""A picture of an architecture as a file of its own."""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial

from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.visualization import svg
from optuna_nas_morph.visualization.boxes import bar, outline
from optuna_nas_morph.visualization.diagram import LINE, PADDING, Diagram
from optuna_nas_morph.visualization.subject import Source, required_subject_of
from optuna_nas_morph.visualization.theme import BLUE, CHANGE_LOOKS, LIGHT, Change, Theme

_HEAD = 42.0
"""Room for the title, in pixels."""


def architecture_to_svg(
    source: Source,
    *,
    trial: int | None = None,
    parent: Architecture | FrozenTrial | optuna.Trial | None = None,
    theme: Theme = LIGHT,
) -> str:
    """An architecture as SVG: the picture of `plot_architecture`, for where there is no plotly.

    The file refers to nothing outside, runs no script, and holds no ids and styles: it can also stand inside a page.

    Args:
        source:
            As in `plot_architecture`.
        trial:
            Likewise.
        parent:
            Likewise.
        theme:
            ``LIGHT``, ``DARK``, or colours of your own.

    Returns:
        The text of the file.

    Raises:
        TypeError: If ``source`` or ``parent`` is something else.
        ValueError: If there is no such trial or it has no architecture.
    """
    subject = required_subject_of(source, trial, parent)
    return diagram_to_svg(subject.diagram, subject.title, theme)


def diagram_to_svg(diagram: Diagram, title: str, theme: Theme = LIGHT) -> str:
    """A diagram as SVG, below its title and caption. What the mouse would show is the title of each box."""
    layout = diagram.layout()
    widest = max(7.5 * len(title), 5.6 * len(diagram.caption))
    root, drawing = svg.document(max(layout.width, widest), layout.height + _HEAD, theme, f"{title}: {diagram.caption}")
    svg.add(drawing, "text", title, y=11.0, font_size=14.0, font_weight="bold")
    svg.add(drawing, "text", diagram.caption, y=27.0, fill=theme.muted)
    left = max(0.0, (widest - layout.width) / 2)
    inner = svg.add(drawing, "g", transform=f"translate({left:.1f} {_HEAD})", text_anchor="middle")
    for route, link in zip(layout.routes, diagram.links, strict=True):
        look = CHANGE_LOOKS[link.change]
        svg.add(inner, "path", d=svg.path(route), fill="none", stroke=look.colour, stroke_width=look.width)
        x, y = route[-1]
        svg.add(inner, "polygon", points=svg.polygon([(x, y), (x - 4, y - 6), (x + 4, y - 6)]), fill=look.colour)
    for box, centre in zip(diagram.boxes, layout.centres, strict=True):
        look, (x, y), height = CHANGE_LOOKS[box.change], centre, box.size[1]
        group = svg.add(inner, "g")
        svg.add(group, "title", "\n".join((box.title, *box.details)))
        svg.add(
            group,
            "path",
            d=svg.path(outline(box, centre)) + "Z",
            fill=look.colour,
            fill_opacity=0.1 if box.change == Change.SAME else 0.22,
            stroke=look.colour,
            stroke_width=look.width,
            stroke_dasharray=" ".join(map(str, look.dash)),
        )
        if corners := bar(box, centre):
            svg.add(group, "polygon", points=svg.polygon(corners), fill=BLUE)
        for i, text in enumerate(box.text):
            baseline = y - height / 2 + PADDING + LINE * i + 10.5
            svg.add(group, "text", text, x=x, y=baseline, font_weight="bold" if i == 0 else "")
    return svg.written(root)
