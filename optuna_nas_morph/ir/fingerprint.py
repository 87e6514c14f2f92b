"""A fingerprint that does not depend on names or on the order of nodes.

Colours are refined along the edges as in Weisfeiler and Leman (1968), which for a directed acyclic graph needs no
rounds: one sweep gives every node a colour that stands for all that feeds it, one sweep back adds all that it feeds, a
third spreads both. The order of inputs counts where the operation is not commutative.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna_nas_morph.ir.architecture import Architecture
    from optuna_nas_morph.ir.labelled import LabelledGraph


def graph_fingerprint(graph: LabelledGraph) -> str:
    """Hash of the multiset of refined colours of a directed multigraph: 32 hexadecimal digits.

    Labels are refined by the colours of in-neighbours and out-neighbours until no more nodes are told apart.
    """
    inputs: list[list[int]] = [[] for _ in graph.labels]
    outputs: list[list[int]] = [[] for _ in graph.labels]
    for source, target in graph.edges:
        inputs[target].append(source)
        outputs[source].append(target)
    colours = [_hash(label) for label in graph.labels]
    n_colours = 0
    while len(set(colours)) > n_colours:
        n_colours = len(set(colours))
        colours = [
            _hash(
                f"{colour}|{','.join(sorted(colours[i] for i in inputs[node]))}"
                f"|{','.join(sorted(colours[i] for i in outputs[node]))}"
            )
            for node, colour in enumerate(colours)
        ]
    return _hash("|".join(sorted(colours)))


def fingerprint(architecture: Architecture) -> str:
    """Hash of the multiset of refined colours: 32 hexadecimal digits."""
    colours = {node.name: "" for node in architecture.nodes}
    if len(architecture.inputs) > 1:  # which of them is passed first, second, ... is part of the function
        colours.update({name: str(i) for i, name in enumerate(architecture.inputs)})
    colours = _sweep_down(architecture, colours)
    colours = _sweep_up(architecture, colours)
    colours = _sweep_down(architecture, colours)
    return _hash("|".join(sorted(colours.values())))


def _sweep_down(architecture: Architecture, colours: dict[str, str]) -> dict[str, str]:
    """From the inputs to the output: what a node is, its colour so far, and the new colours of its inputs."""
    new: dict[str, str] = {}
    for node in architecture.nodes:
        inputs = [new[name] for name in node.inputs]
        if node.op.commutative:
            inputs.sort()
        new[node.name] = _hash(f"{node.op.key}|{colours[node.name]}|{','.join(inputs)}")
    return new


def _sweep_up(architecture: Architecture, colours: dict[str, str]) -> dict[str, str]:
    """From the output to the inputs: a node's colour, and the new colours and input positions of its consumers."""
    new: dict[str, str] = {}
    above: dict[str, list[str]] = {node.name: [] for node in architecture.nodes}
    for node in reversed(architecture.nodes):
        new[node.name] = _hash(f"{colours[node.name]}|{','.join(sorted(above[node.name]))}")
        for position, name in enumerate(node.inputs):
            place = "" if node.op.commutative else str(position)
            above[name].append(f"{new[node.name]}@{place}")
    return new


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
