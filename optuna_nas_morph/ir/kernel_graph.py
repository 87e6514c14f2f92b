"""The labelled graph that a graph kernel compares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna_nas_morph.ir.labelled import LabelledGraph

if TYPE_CHECKING:
    from optuna_nas_morph.ir.architecture import Architecture


def kernel_graph(architecture: Architecture) -> LabelledGraph:
    """Fold chains of norms, activations, dropout and reshapes into the operation before them.

    A node folds where it is all that its only input feeds. Two Weisfeiler-Lehman iterations then span several real
    layers, and a label reads like ``conv3x3.w5+bn+relu``.
    """
    labels: list[str] = []
    edges: list[tuple[int, int]] = []
    place: dict[str, int] = {}
    for node in architecture.nodes:
        label = node.op.label(architecture.input_specs(node.name))
        if node.op.folds and len(architecture.consumers[node.inputs[0]]) == 1:
            place[node.name] = place[node.inputs[0]]
            labels[place[node.name]] += f"+{label}"
            continue
        place[node.name] = len(labels)
        labels.append(label)
        edges.extend((place[name], place[node.name]) for name in node.inputs)
    return LabelledGraph(tuple(labels), tuple(edges))
