"""A graph as the neural network kernel of Auto-Keras sees it: a sequence of layers, and connections that skip some.

Jin, Song and Hu, Auto-Keras: An Efficient Neural Architecture Search System, KDD 2019, Section 3.1.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from optuna_nas_morph.ir.labelled import LabelledGraph

_WIDTH = re.compile(r"(.*)\.w(\d+)")
_Neighbours = list[list[int]]  # per node, its neighbours; one of them twice if two edges lead there


@dataclass(frozen=True)
class LayerSequence:
    """The layers of a network in topological order, and its skip connections.

    Attributes:
        layers:
            Labels of nodes.
        skips:
            One triple for every edge that does not join a layer to the next one: the rank of the layer where it starts
            (from 1), how many layers it skips, and (in graphs with cycles) how many layers it leads back. A second
            edge from a layer to the next one is a skip connection that skips nothing.
    """

    layers: tuple[str, ...]
    skips: tuple[tuple[int, int, int], ...]


def layer_sequence(graph: LabelledGraph) -> LayerSequence:
    """Return a graph's layers and skip connections; the same for isomorphic graphs.

    As in the paper, layers that follow each other are taken to be joined: that they are not is not recorded.
    """
    order = topological_order(graph)
    rank = {node: i + 1 for i, node in enumerate(order)}
    ends = Counter((rank[source], rank[target]) for source, target in graph.edges)
    ends.subtract([end for end in ends if end[1] == end[0] + 1])
    skips = sorted((start, max(stop - start - 1, 0), max(start + 1 - stop, 0)) for start, stop in ends.elements())
    return LayerSequence(tuple(graph.labels[node] for node in order), tuple(skips))


def topological_order(graph: LabelledGraph) -> list[int]:
    """Return the nodes in an order in which edges point forward, whatever order the graph has them in.

    Of the nodes that may come next, the one goes first whose last input is nearest, so that branches stay together;
    then what its label and its surroundings say (the colours of the Weisfeiler-Lehman test). Nodes that even colours
    cannot tell apart, with any one of them marked, are taken to be symmetric. Where a cycle leaves no node that may
    come next, all may.
    """
    inputs: _Neighbours = [[] for _ in graph.labels]
    outputs: _Neighbours = [[] for _ in graph.labels]
    for source, target in graph.edges:
        inputs[target].append(source)
        outputs[source].append(target)
    names = {label: i for i, label in enumerate(sorted(set(graph.labels)))}
    colours = _refine([names[label] for label in graph.labels], inputs, outputs)
    rank: dict[int, int] = {}
    left = set(range(len(graph.labels)))
    n_missing = [len(set(sources) - {node}) for node, sources in enumerate(inputs)]
    while left:
        ready = [node for node in left if n_missing[node] == 0] or list(left)
        keys = {node: (-max((rank.get(i, -1) for i in inputs[node]), default=-1), colours[node]) for node in ready}
        smallest = min(keys.values())
        tied = sorted(node for node in ready if keys[node] == smallest)
        if len(tied) > 1:
            marked = [(_refine(_mark(colours, node), inputs, outputs), node) for node in tied]
            colours, first = min(marked, key=lambda pair: (sorted(pair[0]), pair[1]))
        else:
            first = tied[0]
        rank[first] = len(rank)
        left.remove(first)
        for target in set(outputs[first]) - {first}:
            n_missing[target] -= 1
    return list(rank)


def _mark(colours: list[int], node: int) -> list[int]:
    return [2 * colour + (i != node) for i, colour in enumerate(colours)]


def _refine(colours: list[int], inputs: _Neighbours, outputs: _Neighbours) -> list[int]:
    """Refine colours until they stop telling more nodes apart. The new ones are ordered as the old ones were."""
    n_colours = 0
    while len(set(colours)) > n_colours:
        n_colours = len(set(colours))
        signatures = [
            (own, tuple(sorted(colours[i] for i in before)), tuple(sorted(colours[i] for i in after)))
            for own, before, after in zip(colours, inputs, outputs, strict=True)
        ]
        ranks = {signature: i for i, signature in enumerate(sorted(set(signatures)))}
        colours = [ranks[signature] for signature in signatures]
    return colours


def layer_distance(a: str, b: str) -> float:
    """Return the cost of turning one layer into another, between 0 and 1.

    For layers of one operation with the same norm, activation and so on it is the paper's ``d_l``, the relative
    difference of their widths ``|w_a - w_b| / max(w_a, w_b)``; a label knows the power of two below a width. It is 1
    for different operations, so labels of no known form are equal or not. Different folded parts count by the share
    of parts (the operation among them) that both layers have: with ``d_p`` one minus that share, the cost is
    ``1 - (1 - d_l) (1 - d_p)``. Each of these is a metric.
    """
    (operation_a, width_a, parts_a), (operation_b, width_b, parts_b) = _parse(a), _parse(b)
    if operation_a != operation_b or (width_a is None) != (width_b is None):
        return 1.0
    common = 1 + (parts_a & parts_b).total()
    either = 1 + (parts_a | parts_b).total()
    same_width = 1.0 if width_a is None or width_b is None else 2.0 ** -abs(width_a - width_b)
    return 1 - same_width * common / either


@lru_cache(maxsize=10_000)
def _parse(label: str) -> tuple[str, int | None, Counter[str]]:
    """Split e.g. ``conv3x3.w5+bn+relu`` into the operation, the logarithm of its width, and what is folded into it."""
    head, *parts = label.split("+")
    found = _WIDTH.fullmatch(head)
    return (found[1], int(found[2]), Counter(parts)) if found else (head, None, Counter(parts))
