"""What a picture of an architecture shows: boxes, links, and what of them is new."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from optuna_nas_morph.ir import Architecture, LabelledGraph, Node
from optuna_nas_morph.ir.ops.base import width_bucket
from optuna_nas_morph.visualization.layout import Layout, layered_layout
from optuna_nas_morph.visualization.theme import CHANGE_LOOKS, Change
from optuna_nas_morph.visualization.words import count_text, shape_change_text, shape_text

LETTER = 6.4
"""Width of a letter, in pixels, of the font size that boxes are written in."""
LINE = 14.0
"""Height of a line."""
PADDING = 7.0
MIN_WIDTH = 76.0


@dataclass(frozen=True)
class Box:
    """One node of a drawing: an operation, with what is folded into it.

    Attributes:
        title:
            First line.
        lines:
            What else is written in it.
        details:
            What is shown when the mouse rests on it.
        merges:
            Whether it only joins tensors: drawn as a pill.
        share:
            Its parameters relative to those of the box with the most.
        change:
            What became of it.
    """

    title: str
    lines: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    merges: bool = False
    share: float = 0.0
    change: Change = Change.SAME

    @property
    def text(self) -> tuple[str, ...]:
        """All that is written in it, signs of changes included."""
        return (CHANGE_LOOKS[self.change].sign + self.title, *self.lines)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height, in pixels."""
        return max(MIN_WIDTH, LETTER * max(map(len, self.text)) + 2 * PADDING), LINE * len(self.text) + 2 * PADDING


@dataclass(frozen=True)
class Link:
    """An edge of a drawing, between indices of boxes."""

    source: int
    target: int
    change: Change = Change.SAME


@dataclass(frozen=True)
class Diagram:
    """A drawing before anything has a place.

    Attributes:
        boxes:
            In topological order.
        links:
            Each pair once or more.
        caption:
            What there is to say of the whole.
        compares:
            Whether it shows what changed.
    """

    boxes: tuple[Box, ...]
    links: tuple[Link, ...]
    caption: str = ""
    compares: bool = False

    def layout(self, max_height: float = 800.0) -> Layout:
        """Where everything goes; a drawing above ``max_height`` pixels is broken into columns."""
        edges = [(link.source, link.target) for link in self.links]
        return layered_layout([box.size for box in self.boxes], edges, max_height=max_height)


def diagram_of_graph(graph: LabelledGraph) -> Diagram:
    """What a graph kernel sees: a motif, or a cell of a closed space. Boxes are in the order of its labels."""
    boxes = []
    for label in graph.labels:
        title, *folded = label.split("+")
        boxes.append(Box(title, tuple(["+ " + " + ".join(folded)] if folded else [])))
    n_edges = len(graph.edges)
    caption = f"{len(boxes)} node{'s' * (len(boxes) != 1)}, {n_edges} edge{'s' * (n_edges != 1)}"
    return Diagram(tuple(boxes), tuple(Link(*edge) for edge in graph.edges), caption)


def diagram_of_architecture(architecture: Architecture, parent: Architecture | None = None) -> Diagram:
    """An architecture, norms and activations folded as in `Architecture.kernel_graph`, against its parent if given.

    Nodes of both are matched by name, which morphisms keep.
    """
    folds: list[list[Node]] = []
    place: dict[str, int] = {}
    for node in architecture.nodes:
        if node.op.folds and len(architecture.consumers[node.inputs[0]]) == 1:
            place[node.name] = place[node.inputs[0]]
            folds[place[node.name]].append(node)
        else:
            place[node.name] = len(folds)
            folds.append([node])
    most = max(1, *(sum(_n_parameters(architecture, node) for node in nodes) for nodes in folds))
    boxes = tuple(_box(architecture, parent, nodes, most) for nodes in folds)
    links = []
    for node in architecture.nodes:
        for name in node.inputs:
            source, target = place[name], place[node.name]
            if source != target:
                links.append(Link(source, target, _link_change(parent, boxes, name, node, source, target)))
    return Diagram(boxes, tuple(links), _caption(architecture, parent), parent is not None)


def _box(architecture: Architecture, parent: Architecture | None, nodes: Sequence[Node], most: int) -> Box:
    head, last = nodes[0], nodes[-1]
    old = [parent[n.name] if parent is not None and n.name in parent.index else None for n in nodes]
    change = Change.SAME
    if parent is not None:
        kept = [node for node in old if node is not None]
        if old[0] is None:
            change = Change.ADDED
        elif len(kept) < len(nodes) or any(a.op != b.op for a, b in zip(kept, nodes, strict=True)):
            change = Change.CHANGED

    title = _label(architecture, head)
    if parent is not None and old[0] is not None and (was := _label(parent, old[0])) != title:
        title = f"{was} → {title}"
    folded = " + ".join(_label(architecture, node) for node in nodes[1:])
    spec = architecture.specs[last.name]
    known = parent is not None and last.name in parent.index
    shape = shape_change_text(parent.specs[last.name], spec) if parent is not None and known else shape_text(spec)
    n = sum(_n_parameters(architecture, node) for node in nodes)
    flops = sum(node.op.flops(architecture.input_specs(node.name)) for node in nodes)
    details = [f"{count_text(n)} parameters, {count_text(flops)} FLOPs"]
    details += [_details(node, before) for node, before in zip(nodes, old, strict=True)]
    return Box(
        title,
        (f"+ {folded}", shape) if folded else (shape,),
        tuple(details),
        head.op.max_inputs is None,
        n / most,
        change,
    )


def _link_change(
    parent: Architecture | None, boxes: Sequence[Box], name: str, node: Node, source: int, target: int
) -> Change:
    if parent is None:
        return Change.SAME
    if Change.ADDED in (boxes[source].change, boxes[target].change):
        return Change.ADDED
    known = node.name in parent.index and name in parent[node.name].inputs
    return Change.SAME if known else Change.ADDED


def _label(architecture: Architecture, node: Node) -> str:
    """What a graph kernel sees of an operation, without its coarse width: the shape says it better."""
    bucket = width_bucket(architecture.specs[node.name].n_channels)
    return node.op.label(architecture.input_specs(node.name)).removesuffix(f".{bucket}")


def _n_parameters(architecture: Architecture, node: Node) -> int:
    params = node.op.params(architecture.input_specs(node.name))
    return sum(math.prod(param.shape) for param in params.values() if not param.buffer)


def _details(node: Node, before: Node | None) -> str:
    """Name and fields of a node, with the old value of those that changed."""
    texts = []
    for f in fields(node.op):
        new, old = getattr(node.op, f.name), getattr(node.op if before is None else before.op, f.name, None)
        if new != f.default or new != old:
            texts.append(f"{f.name} {_field(new)}" if new == old else f"{f.name} {_field(old)} → {_field(new)}")
    return f"{node.name}: {node.op.op_name}" + (f" ({', '.join(texts)})" if texts else "")


def _field(value: object) -> str:
    return "×".join(map(str, value)) or "default" if isinstance(value, tuple) else str(value)


def _caption(architecture: Architecture, parent: Architecture | None) -> str:
    parts = [f"{len(architecture.nodes)} nodes"]
    for name, value, before in (
        ("parameters", architecture.n_parameters, None if parent is None else parent.n_parameters),
        ("FLOPs", architecture.flops, None if parent is None else parent.flops),
    ):
        more = "" if not before or before == value else f" ({value / before - 1:+.0%})"
        parts.append(f"{count_text(value)} {name}{more}")
    if parent is not None:
        gone = [node.name for node in parent.nodes if node.name not in architecture.index]
        parts += [f"without {', '.join(gone[:5])}{f' and {len(gone) - 5} more' * (len(gone) > 5)}"] if gone else []
    return ", ".join(parts)
