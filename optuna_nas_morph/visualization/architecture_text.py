"""An architecture as text, for terminals and logs."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial

from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.visualization.diagram import Diagram
from optuna_nas_morph.visualization.subject import Source, required_subject_of
from optuna_nas_morph.visualization.theme import CHANGE_LOOKS


def architecture_to_text(
    source: Source,
    *,
    trial: int | None = None,
    parent: Architecture | FrozenTrial | optuna.Trial | None = None,
) -> str:
    """An architecture as text: one row per box, and rails beside the rows for all that does not lead to the next row.

    A row hangs on the one above it where there is no free line between them. ``+`` and ``~`` mark what was added and
    changed.

    Args:
        source:
            As in `plot_architecture`.
        trial:
            Likewise.
        parent:
            Likewise.

    Returns:
        The rows.

    Raises:
        TypeError: If ``source`` or ``parent`` is something else.
        ValueError: If there is no such trial or it has no architecture.
    """
    subject = required_subject_of(source, trial, parent)
    return f"{subject.title}: {subject.diagram.caption}\n\n{diagram_to_text(subject.diagram)}"


def diagram_to_text(diagram: Diagram) -> str:
    """A diagram as text, one row per box in topological order."""
    edges = {(link.source, link.target) for link in diagram.links}
    spans = _spans(edges)
    rails = _rails(spans)
    n_rails = max(rails.values(), default=-1) + 1
    signs = [CHANGE_LOOKS[box.change].sign.strip() or " " for box in diagram.boxes]
    titles = [" ".join((box.title, *box.lines[:-1])) for box in diagram.boxes]
    width = max(map(len, titles), default=0)
    rows = []
    for i, box in enumerate(diagram.boxes):
        if i > 0 and (i - 1, i) not in edges:
            rows.append(" ".join(["   ", *_crossed(spans, rails, n_rails, i - 0.5)]).rstrip())
        shape = box.lines[-1] if box.lines else ""
        glyphs = _beside(spans, rails, n_rails, i)
        rows.append(f"{signs[i]} o{glyphs}  {titles[i]:<{width}}  {shape}".rstrip())
    return "\n".join(rows) + "\n"


def _spans(edges: set[tuple[int, int]]) -> dict[int, list[int]]:
    """Per box that feeds more than the next row, the rows that it reaches besides, in order."""
    spans: dict[int, list[int]] = {}
    for source, target in sorted(edges):
        if target > source + 1:
            spans.setdefault(source, []).append(target)
    return spans


def _rails(spans: dict[int, list[int]]) -> dict[int, int]:
    """A rail for each span, short ones innermost, so that no two meet on one."""
    rails: dict[int, int] = {}
    for source in sorted(spans, key=lambda source: (spans[source][-1] - source, source)):
        end = spans[source][-1]
        taken = {rail for other, rail in rails.items() if other <= end and source <= spans[other][-1]}
        rails[source] = next(k for k in range(len(rails) + 1) if k not in taken)
    return rails


def _crossed(spans: dict[int, list[int]], rails: dict[int, int], n_rails: int, row: float) -> Sequence[str]:
    """What stands in each rail between two rows."""
    inside = {rails[source] for source, targets in spans.items() if source < row < targets[-1]}
    return ["│" if k in inside else " " for k in range(n_rails)]


def _beside(spans: dict[int, list[int]], rails: dict[int, int], n_rails: int, row: int) -> str:
    """What stands in the rails beside a row, with the lines that lead from it and to it."""
    glyphs = list(_crossed(spans, rails, n_rails, row))
    reach = -1
    for source, targets in spans.items():
        rail = rails[source]
        if row == source or row in targets:
            glyphs[rail] = "╮" if row == source else "╯" if row == targets[-1] else "┤"
            reach = max(reach, rail)
    text = ""
    for k in range(n_rails):
        lead = "─" if k <= reach else " "
        glyph = glyphs[k]
        if k < reach:
            glyph = {" ": "─", "│": "┼", "╮": "┬", "╯": "┴", "┤": "┼"}[glyph]
        text += lead + glyph
    return text
