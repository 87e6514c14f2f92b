"""Colours, lines and markers: the one place for how things look.

Every figure works under plotly's light and dark templates: backgrounds and text are the template's, and everything else
has a contrast of at least 3 to white and to plotly's dark background. What a colour says, a shape or a dash says too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from html import escape
from typing import Any

from optuna._imports import try_import

with try_import() as plotly_imports:
    pass

# Okabe and Ito (Color Universal Design, 2008): told apart by colour-blind eyes.
BLUE = "#0072B2"
GREEN = "#009E73"
VERMILLION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#858585"

VIRIDIS = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
"""For values, from bad to good: even steps for colour-blind eyes and in print. Markers have a grey rim on top."""
SCALE = [[i / (len(VIRIDIS) - 1), colour] for i, colour in enumerate(VIRIDIS)]
"""`VIRIDIS` as plotly takes it."""


class Change(Enum):
    """What became of a part of an architecture since its parent."""

    SAME = "unchanged"
    CHANGED = "changed"
    ADDED = "added"


@dataclass(frozen=True)
class Look:
    """How a part is drawn.

    Attributes:
        colour:
            Of lines, and, faded, of what they enclose.
        width:
            Of lines, in pixels.
        dash:
            Lengths of dashes and gaps, in pixels; empty for solid lines.
        sign:
            In front of its label.
    """

    colour: str
    width: float
    dash: tuple[int, ...] = ()
    sign: str = ""


CHANGE_LOOKS: Mapping[Change, Look] = {
    Change.SAME: Look(GREY, 1.0),
    Change.CHANGED: Look(VERMILLION, 2.0, (5, 3), "~ "),
    Change.ADDED: Look(GREEN, 2.4, (), "+ "),
}


@dataclass(frozen=True)
class Theme:
    """Colours of an SVG, which has no template.

    Attributes:
        background:
            Of the drawing; ``"none"`` for that of the page.
        text:
            Of labels.
        muted:
            Of what is said beside them.
    """

    background: str = "#ffffff"
    text: str = "#1f2328"
    muted: str = "#59636e"


LIGHT = Theme()
DARK = Theme("#111111", "#f2f5fa", "#a9b4c2")


def faded(colour: str, opacity: float) -> str:
    """A colour that lets the background through, as plotly takes it."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def colour_at(share: float) -> str:
    """The colour of `VIRIDIS` at a place from 0 to 1."""
    place = min(max(share, 0.0), 1.0) * (len(VIRIDIS) - 1)
    low = min(int(place), len(VIRIDIS) - 2)
    ends = [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in VIRIDIS[low : low + 2]]
    return "#" + "".join(f"{round(a + (place - low) * (b - a)):02x}" for a, b in zip(*ends, strict=True))


def titled(title: str, caption: str) -> dict[str, Any]:
    """A title of plotly with a line below it."""
    text = f"{escape(title, quote=False)}<br><sup>{escape(caption, quote=False)}</sup>"
    return {"text": text, "x": 0, "xref": "paper", "xanchor": "left"}


def whole_numbers(last: int) -> dict[str, Any]:
    """An axis of trials from 0 to the last, without ticks between them."""
    return {"dtick": 1} if last < 10 else {}
