"""An architecture in the language of Mermaid."""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial

from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.visualization.diagram import Diagram
from optuna_nas_morph.visualization.subject import Source, required_subject_of
from optuna_nas_morph.visualization.theme import CHANGE_LOOKS, Change


def architecture_to_mermaid(
    source: Source,
    *,
    trial: int | None = None,
    parent: Architecture | FrozenTrial | optuna.Trial | None = None,
) -> str:
    """An architecture as a Mermaid flowchart, which GitHub, GitLab and many wikis draw inside of Markdown.

    Args:
        source:
            As in `plot_architecture`.
        trial:
            Likewise.
        parent:
            Likewise.

    Returns:
        The flowchart, without the fence around it.

    Raises:
        TypeError: If ``source`` or ``parent`` is something else.
        ValueError: If there is no such trial or it has no architecture.
    """
    return diagram_to_mermaid(required_subject_of(source, trial, parent).diagram)


def diagram_to_mermaid(diagram: Diagram) -> str:
    """A diagram as a Mermaid flowchart."""
    lines = ["flowchart TD"]
    for i, box in enumerate(diagram.boxes):
        text = "<br/>".join(map(_escaped, box.text))
        lines.append(f'    n{i}(["{text}"])' if box.merges else f'    n{i}["{text}"]')
    lines += [
        f"    n{link.source} {'==>' if link.change == Change.ADDED else '-->'} n{link.target}" for link in diagram.links
    ]
    for change in (Change.CHANGED, Change.ADDED):
        if members := [f"n{i}" for i, box in enumerate(diagram.boxes) if box.change == change]:
            look = CHANGE_LOOKS[change]
            dash = f",stroke-dasharray:{' '.join(map(str, look.dash))}" if look.dash else ""
            lines.append(f"    classDef {change.value} stroke:{look.colour},stroke-width:{look.width:g}px{dash}")
            lines.append(f"    class {','.join(members)} {change.value}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """Everything that Mermaid, or the HTML that it makes, might read as its own, as entity codes."""
    plain = (c if c.isalnum() or c in " .,:+-~/→×_" else f"#{ord(c)};" for c in text.replace("\n", " "))
    return "".join(plain)
