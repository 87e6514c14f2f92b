"""A layered drawing of a directed acyclic graph: from sizes of boxes to coordinates.

The four steps of Sugiyama, Tagawa and Toda (Methods for Visual Understanding of Hierarchical System Structures, IEEE
Trans. SMC 11, 1981): layers by longest path and dummies for long edges, orders that cross little (`layers`), and
coordinates that keep edges straight (`straight`). A drawing that would be too tall is broken into `columns`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from optuna_nas_morph.visualization.layout.columns import column_starts
from optuna_nas_morph.visualization.layout.curves import Point, Route, joined, line, rounded, s_curve
from optuna_nas_morph.visualization.layout.layers import Layers, layers_of
from optuna_nas_morph.visualization.layout.straight import straightened

GAP = 22.0
"""Least distance of boxes side by side."""
LAYER_GAP = 26.0
"""Distance of layers."""
GUTTER = 30.0
"""Least distance of columns."""
LANE = 10.0
"""Distance of edges beside each other, from one column to the next."""
DUMMY_WIDTH = 4.0


@dataclass(frozen=True)
class Layout:
    """Coordinates of a drawing: x grows to the right, y grows downwards, both from 0.

    Attributes:
        centres:
            Per node, the centre of its box.
        columns:
            Per node, its column. Within a column every edge leads down; from one to the next it leads to the right.
        routes:
            Per edge, the way from the bottom of one box to the top of the other.
        width:
            Width of the drawing.
        height:
            Height of the drawing.
        n_crossings:
            Pairs of edges that cross between layers, where edges from one node that run together count once.
    """

    centres: tuple[Point, ...]
    columns: tuple[int, ...]
    routes: tuple[Route, ...]
    width: float
    height: float
    n_crossings: int


def layered_layout(
    sizes: Sequence[tuple[float, float]], edges: Sequence[tuple[int, int]], *, max_height: float = 800.0
) -> Layout:
    """Lay out a directed acyclic graph.

    Args:
        sizes:
            Width and height of every node's box, in pixels.
        edges:
            ``(source, target)`` as indices into ``sizes``. Repeats run along the same route.
        max_height:
            A drawing above this height is broken into columns. Where they would make it much wider than high, they are
            fewer and higher.

    Returns:
        The layout; the same for the same arguments.

    Raises:
        ValueError: If an edge names a node that does not exist, or the edges form a cycle.
    """
    layers = layers_of(len(sizes), edges)
    boxes = [*sizes, *[(DUMMY_WIDTH, 0.0)] * (len(layers.layer_of) - len(sizes))]
    heights = [max(boxes[i][1] for i in row) for row in layers.rows]
    leaving = [sorted({u for u, _ in layers.segments if layers.layer_of[u] == k}) for k in range(len(heights))]
    widths = [sum(boxes[i][0] + GAP for i in row) - GAP + GUTTER for row in layers.rows]
    mean_width = sum(widths) / max(1, len(widths))
    starts = column_starts([height + LAYER_GAP for height in heights], list(map(len, leaving)), mean_width, max_height)
    column_of = [sum(start <= k for start in starts) - 1 for k in range(len(heights))]

    # To the next column, what leaves a box takes a lane below the one, one in the gutter, and one above the other.
    lanes = [leaving[start - 1] for start in starts[1:]] + [[]] * bool(starts)
    top = LANE * max(map(len, lanes), default=0)
    tops: list[float] = []
    bottoms: list[float] = []
    for k, height in enumerate(heights):
        tops.append(top if k in starts else bottoms[-1] + LAYER_GAP)
        bottoms.append(tops[-1] + height)

    x_of: dict[int, float] = {}
    turns: dict[tuple[int, int], Route] = {}
    right = 0.0
    for c, (start, end) in enumerate(pairwise([*starts, len(heights)])):
        if c > 0:
            gutter, right = right + GUTTER / 2, right + GUTTER + LANE * (len(lanes[c - 1]) - 1)
        own = _column(layers, boxes, start, end)
        left, right = right, right + max(x + boxes[i][0] / 2 for i, x in own.items())
        x_of.update({i: round(left + x, 3) for i, x in own.items()})
        if c > 0:
            ways = [(u, v) for u, v in layers.segments if u in lanes[c - 1]]
            turns.update(_turns(ways, x_of, bottoms[start - 1], gutter, tops[start]))

    middles = [(a + b) / 2 for a, b in zip(tops, bottoms, strict=True)]
    centres = [(x_of[i], middles[k]) for i, k in enumerate(layers.layer_of)]

    def segment(u: int, v: int) -> Route:
        # A box may be lower than its layer: the edge runs straight to where the layer ends.
        leaves, enters = centres[u][1] + boxes[u][1] / 2, centres[v][1] - boxes[v][1] / 2
        a, b = (x_of[u], bottoms[layers.layer_of[u]]), (x_of[v], tops[layers.layer_of[v]])
        return joined([line((a[0], leaves), a), turns.get((u, v)) or s_curve(a, b), line(b, (b[0], enters))])

    routes = tuple(joined(segment(u, v) for u, v in pairwise(chain)) for chain in layers.chains)
    columns = tuple(column_of[k] for k in layers.layer_of[: len(sizes)])
    ends = [*starts[1:], len(heights)]
    floor = max((bottoms[end - 1] + LANE * len(lane) for lane, end in zip(lanes, ends, strict=False)), default=0.0)
    return Layout(tuple(centres[: len(sizes)]), columns, routes, right, floor, layers.n_crossings)


def _column(layers: Layers, boxes: Sequence[tuple[float, float]], start: int, end: int) -> dict[int, float]:
    """X of what is in layers ``start`` to ``end - 1``, from 0."""
    inside = [(u, v) for u, v in layers.segments if start <= layers.layer_of[u] and layers.layer_of[v] < end]
    xs = straightened(layers.rows[start:end], [w for w, _ in boxes], inside, GAP, layers.n_nodes)
    left = min(x - boxes[i][0] / 2 for i, x in xs.items())
    return {i: x - left for i, x in xs.items()}


def _turns(
    ways: Sequence[tuple[int, int]], x_of: Mapping[int, float], floor: float, gutter: float, ceiling: float
) -> dict[tuple[int, int], Route]:
    """Ways from the bottom of a column to the top of the next, nested so that those in order do not cross."""
    lane = {u: k for k, u in enumerate(sorted({u for u, _ in ways}, key=lambda u: -x_of[u]))}
    result = {}
    for u, v in ways:
        below, above, x = floor + LANE * (lane[u] + 1), ceiling - LANE * (len(lane) - lane[u]), gutter + LANE * lane[u]
        result[u, v] = rounded(
            [(x_of[u], floor), (x_of[u], below), (x, below), (x, above), (x_of[v], above), (x_of[v], ceiling)]
        )
    return result
