"""SVG, element by element: no style sheets and no ids, so that a file can stand alone or in any page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree as ET

from optuna_nas_morph.visualization.layout import Point, Route
from optuna_nas_morph.visualization.theme import Theme

FONT = "ui-sans-serif, system-ui, Helvetica, Arial, sans-serif"
MARGIN = 16.0

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2


def document(width: float, height: float, theme: Theme, title: str) -> tuple[ET.Element, ET.Element]:
    """An empty drawing with a margin around ``width`` x ``height`` pixels.

    Returns:
        Its root, and the group that things go into.
    """
    full = width + 2 * MARGIN, height + 2 * MARGIN
    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "aria-label": clean(title)})
    root.attrib.update({"viewBox": f"0 0 {_n(full[0])} {_n(full[1])}", "width": _n(full[0]), "height": _n(full[1])})
    root.attrib.update({"font-family": FONT, "font-size": "11", "fill": theme.text})
    if theme.background != "none":
        add(root, "rect", width="100%", height="100%", rx=8.0, fill=theme.background)
    return root, add(root, "g", transform=f"translate({_n(MARGIN)} {_n(MARGIN)})")


def add(parent: ET.Element, tag: str, text: str = "", **attributes: str | float) -> ET.Element:
    """A new element; underscores in names of attributes stand for hyphens, and empty values are left out."""
    texts = {k.rstrip("_").replace("_", "-"): v if isinstance(v, str) else _n(v) for k, v in attributes.items()}
    element = ET.SubElement(parent, tag, {k: clean(v) for k, v in texts.items() if v})
    element.text = clean(text) or None
    return element


def written(root: ET.Element) -> str:
    """The text of a document."""
    return ET.tostring(root, encoding="unicode") + "\n"


def path(route: Route) -> str:
    """A route as the ``d`` of a path."""
    return f"M{_points(route[:1])}" + "".join(f"C{_points(route[k : k + 3])}" for k in range(1, len(route), 3))


def polygon(points: Iterable[Point]) -> str:
    """Corners as the ``points`` of a polygon."""
    return _points(list(points))


def clean(text: str) -> str:
    """Text without the characters that XML does not allow."""
    return _ILLEGAL.sub("�", text)


def _points(points: Sequence[Point]) -> str:
    return " ".join(f"{_n(x)},{_n(y)}" for x, y in points)


def _n(value: float) -> str:
    return f"{round(value, 1):g}" if abs(value) < 1e5 else f"{value:.0f}"
