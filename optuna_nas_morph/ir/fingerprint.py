"""A fingerprint that does not depend on names or on the order of nodes.

Colours are refined along the edges as in Weisfeiler and Leman (1968), which for a directed acyclic graph needs no
rounds: one sweep gives every node a colour that stands for all that feeds it, one sweep back adds all that it feeds, a
third spreads both. The order of inputs counts where the operation is not commutative.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna_nas_morph.ir.architecture import Architecture
    from optuna_nas_morph.ir.labelled import LabelledGraph


def graph_fingerprint(graph: LabelledGraph) -> str:
    """Hash of the multiset of refined colours of a directed multigraph: 32 hexadecimal digits.

    Labels are refined by the colours of in-neighbours and out-neighbours, and by how many edges lead there, until no
    more nodes are told apart. Nodes of one colour are then interchangeable in most graphs; where they have different
    neighbours, which nothing so far speaks against, each is singled out in turn and gets a colour of what that leads
    to: two paths ``a -> b -> c`` with edges ``a -> c`` are not what they are with these crossed.
    """
    neighbours: list[tuple[Counter[int], Counter[int]]] = [(Counter(), Counter()) for _ in graph.labels]
    for source, target in graph.edges:
        neighbours[target][0][source] += 1
        neighbours[source][1][target] += 1
    colours = _refined([_hash(label) for label in graph.labels], neighbours)
    places: dict[str, list[int]] = {}
    for node, colour in enumerate(colours):
        places.setdefault(colour, []).append(node)
    unlike = [nodes for nodes in places.values() if any(neighbours[n] != neighbours[nodes[0]] for n in nodes)]
    final = list(colours)
    for node in (node for nodes in unlike for node in nodes):
        singled_out = [*colours[:node], _hash(f"{colours[node]}!"), *colours[node + 1 :]]
        final[node] = _hash("|".join(sorted(_refined(singled_out, neighbours))))
    return _hash("|".join(sorted(final)))


def _refined(colours: Sequence[str], neighbours: Sequence[tuple[Counter[int], Counter[int]]]) -> list[str]:
    """Colours told apart by those of in-neighbours and out-neighbours, as far as that goes."""
    colours, n_colours = list(colours), 0
    while len(set(colours)) > n_colours:
        n_colours = len(set(colours))
        colours = [
            _hash("|".join([colour, *(_written(colours, counts) for counts in around)]))
            for colour, around in zip(colours, neighbours, strict=True)
        ]
    return colours


def _written(colours: Sequence[str], counts: Counter[int]) -> str:
    return ",".join(sorted(f"{colours[node]}*{n}" for node, n in counts.items()))


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
