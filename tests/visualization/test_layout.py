"""Layouts: nothing overlaps, edges lead down, few cross, and it is the same every time."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optuna_nas_morph.visualization.layout import forest_layout, layered_layout, sampled
from optuna_nas_morph.visualization.layout.columns import ASPECT, CUT, column_starts
from optuna_nas_morph.visualization.layout.curves import rounded
from optuna_nas_morph.visualization.layout.layers import layers_of
from optuna_nas_morph.visualization.layout.straight import straightened

FEW = settings(max_examples=20)  # each solves linear programs
EPSILON = 0.01  # coordinates are rounded to a thousandth of a pixel


@st.composite
def dags(draw: st.DrawFn, most: int = 14) -> tuple[list[tuple[float, float]], list[tuple[int, int]]]:
    """Boxes of any size, with edges from earlier to later ones, some of them twice."""
    n = draw(st.integers(1, most))
    sizes = draw(st.lists(st.tuples(st.floats(10, 200), st.floats(10, 80)), min_size=n, max_size=n))
    pairs = [(i, j) for j in range(n) for i in range(j)]
    edges = draw(st.lists(st.sampled_from(pairs), max_size=30)) if pairs else []
    return sizes, edges


@FEW
@given(dags(), st.sampled_from([100.0, 300.0, 10_000.0]))
def test_no_boxes_overlap_and_all_are_inside(
    graph: tuple[list[tuple[float, float]], list[tuple[int, int]]], max_height: float
) -> None:
    sizes, edges = graph
    layout = layered_layout(sizes, edges, max_height=max_height)
    for i, j in combinations(range(len(sizes)), 2):
        (xi, yi), (xj, yj) = layout.centres[i], layout.centres[j]
        apart_x = abs(xi - xj) - (sizes[i][0] + sizes[j][0]) / 2
        apart_y = abs(yi - yj) - (sizes[i][1] + sizes[j][1]) / 2
        assert max(apart_x, apart_y) > 20, (i, j)
    for (x, y), (w, h) in zip(layout.centres, sizes, strict=True):
        assert x - w / 2 >= -EPSILON and x + w / 2 <= layout.width + EPSILON
        assert y - h / 2 >= -EPSILON and y + h / 2 <= layout.height + EPSILON


@FEW
@given(dags(), st.sampled_from([100.0, 300.0, 10_000.0]))
def test_edges_lead_down_or_to_the_next_column(
    graph: tuple[list[tuple[float, float]], list[tuple[int, int]]], max_height: float
) -> None:
    sizes, edges = graph
    layout = layered_layout(sizes, edges, max_height=max_height)
    assert len(layout.routes) == len(edges)
    for (u, v), route in zip(edges, layout.routes, strict=True):
        (xu, yu), (xv, yv) = layout.centres[u], layout.centres[v]
        assert route[0] == pytest.approx((xu, yu + sizes[u][1] / 2))
        assert route[-1] == pytest.approx((xv, yv - sizes[v][1] / 2))
        if layout.columns[u] == layout.columns[v]:
            assert yu + sizes[u][1] / 2 < yv - sizes[v][1] / 2
            assert all(b[1] >= a[1] - EPSILON for a, b in pairwise(sampled(route)))
        else:
            assert layout.columns[u] < layout.columns[v]
            assert xu < xv


@FEW
@given(dags())
def test_the_same_graph_has_the_same_layout(graph: tuple[list[tuple[float, float]], list[tuple[int, int]]]) -> None:
    assert layered_layout(*graph) == layered_layout(*graph)


@FEW
@given(dags(most=10))
def test_no_edge_runs_through_a_box(graph: tuple[list[tuple[float, float]], list[tuple[int, int]]]) -> None:
    sizes, edges = graph
    layout = layered_layout(sizes, edges, max_height=10_000.0)
    for (u, v), route in zip(edges, layout.routes, strict=True):
        for i, ((x, y), (w, h)) in enumerate(zip(layout.centres, sizes, strict=True)):
            if i not in (u, v):
                points = sampled(route, 40)
                assert not any(abs(a - x) < w / 2 - EPSILON and abs(b - y) < h / 2 - EPSILON for a, b in points)


# Layers and orders.


@given(dags())
def test_layers_are_those_of_networkx(graph: tuple[list[tuple[float, float]], list[tuple[int, int]]]) -> None:
    sizes, edges = graph
    digraph = nx.DiGraph(edges)
    digraph.add_nodes_from(range(len(sizes)))
    layers = layers_of(len(sizes), edges)
    expected = {node: k for k, nodes in enumerate(nx.topological_generations(digraph)) for node in nodes}
    assert dict(enumerate(layers.layer_of[: len(sizes)])) == expected
    assert sorted(i for row in layers.rows for i in row) == list(range(len(layers.layer_of)))
    for u, v in layers.segments:
        assert layers.layer_of[v] == layers.layer_of[u] + 1


@given(dags())
def test_crossings_are_those_of_a_naive_count(graph: tuple[list[tuple[float, float]], list[tuple[int, int]]]) -> None:
    sizes, edges = graph
    layers = layers_of(len(sizes), edges)
    place = {i: p for row in layers.rows for p, i in enumerate(row)}
    naive = sum(
        layers.layer_of[a] == layers.layer_of[c] and (place[a] - place[c]) * (place[b] - place[d]) < 0
        for (a, b), (c, d) in combinations(layers.segments, 2)
    )
    assert layers.n_crossings == naive


@pytest.mark.parametrize(
    ("n_nodes", "edges", "expected"),
    [
        # Two paths whose ends stand the other way round: a swap leaves no crossing.
        (6, [(0, 3), (1, 2), (3, 4), (2, 5), (0, 4), (1, 5)], 0),
        # Three sources that each feed the mirror image of their place.
        (6, [(0, 5), (1, 4), (2, 3)], 0),
        # K(3, 3) in two layers: 9, whatever the order.
        (6, [(i, j) for i in range(3) for j in range(3, 6)], 9),
        # A binary tree, its leaves numbered out of order.
        (7, [(0, 2), (0, 1), (1, 6), (2, 3), (1, 4), (2, 5)], 0),
    ],
)
def test_orders_that_are_known_to_be_best(n_nodes: int, edges: list[tuple[int, int]], expected: int) -> None:
    assert layers_of(n_nodes, edges).n_crossings == expected


def test_a_cycle_or_an_unknown_node_is_an_error() -> None:
    with pytest.raises(ValueError, match="cycle"):
        layers_of(3, [(0, 1), (1, 2), (2, 1)])
    with pytest.raises(ValueError, match=r"nodes 0 to 2 but got \(0, 3\)"):
        layers_of(3, [(0, 3)])


# Coordinates.


def test_a_way_that_is_skipped_stays_straight() -> None:
    layout = layered_layout([(100.0, 40.0)] * 5, [(0, 1), (1, 2), (2, 3), (0, 3), (3, 4)])
    assert {x for x, _ in layout.centres} == {layout.centres[0][0]}
    assert any(x != layout.centres[0][0] for x, _ in layout.routes[3])  # the skip gives way


def test_coordinates_are_a_minimum() -> None:
    """Against a grid search of a small case: one node above three, the dummy 4 in the middle."""
    widths, segments = [10.0, 10.0, 10.0, 10.0, 4.0], [(0, 1), (0, 2), (0, 4)]
    found = straightened([[0], [1, 4, 2]], widths, segments, 5.0, n_nodes=4)

    def cost(x0: float, x1: float, x4: float, x2: float) -> float:
        return 4 * abs(x0 - x1) + 4 * abs(x0 - x2) + abs(x0 - x4)

    grid = range(5, 40)
    best = min(cost(a, b, c, d) for a in grid for b in grid for c in range(b + 12, 40) for d in range(c + 12, 60))
    assert cost(found[0], found[1], found[4], found[2]) == pytest.approx(best)


@given(st.lists(st.tuples(st.floats(10, 100), st.integers(0, 5)), min_size=1, max_size=9), st.floats(50, 400))
def test_columns_are_the_best_of_all(layers: list[tuple[float, int]], max_height: float) -> None:
    heights, cuts = [h for h, _ in layers], [n for _, n in layers]
    width, total, n = 120.0, sum(heights), len(heights)
    n_columns = min(n, math.ceil(total / max(max_height, math.sqrt(total * width / ASPECT))))

    def cost(starts: tuple[int, ...]) -> float:
        parts = [sum(heights[a:b]) * n_columns / total - 1 for a, b in pairwise([*starts, n])]
        return sum(part**2 for part in parts) + CUT * sum(cuts[start - 1] for start in starts[1:])

    found = column_starts(heights, cuts, width, max_height)
    assert len(found) == n_columns and found[0] == 0
    best = min(cost((0, *rest)) for rest in combinations(range(1, n), n_columns - 1))
    assert cost(tuple(found)) == pytest.approx(best)


def test_a_long_chain_becomes_columns() -> None:
    layout = layered_layout([(100.0, 40.0)] * 50, list(pairwise(range(50))), max_height=800.0)
    assert set(layout.columns) == set(range(5))
    assert layout.height < 900
    assert layout.width < 900


def test_columns_are_cut_where_one_edge_is() -> None:
    """Blocks of four with a skip each: between two blocks only one tensor passes."""
    edges = list(pairwise(range(41))) + [(i, i + 4) for i in range(0, 40, 4)]
    layout = layered_layout([(100.0, 40.0)] * 41, edges, max_height=800.0)
    last = [i for i in range(40) if layout.columns[i] != layout.columns[i + 1]]
    assert last and all(i % 4 == 0 for i in last)


def test_nothing_has_a_layout_too() -> None:
    layout = layered_layout([], [])
    assert (layout.centres, layout.routes, layout.width, layout.height) == ((), (), 0.0, 0.0)


def test_rounded_corners_stay_near_the_corners() -> None:
    route = rounded([(0.0, 0.0), (0.0, 50.0), (70.0, 50.0)], 10.0)
    assert (route[0], route[-1]) == ((0.0, 0.0), (70.0, 50.0))
    distances = [math.dist(point, (10.0, 40.0)) for point in sampled(route, 30) if point[0] < 10 and point[1] > 40]
    assert distances and all(abs(d - 10) < 0.01 for d in distances)  # a quarter of a circle


# Trees.


@st.composite
def forests(draw: st.DrawFn) -> dict[int, int | None]:
    n = draw(st.integers(0, 40))
    return {i: draw(st.one_of(st.none(), st.integers(0, i - 1))) if i else None for i in range(n)}


@given(forests(), st.booleans())
def test_no_trials_overlap_and_no_branches_cross(parents: dict[int, int | None], thin: bool) -> None:
    leaves = set(parents) - set(parents.values())
    extents = dict.fromkeys(leaves, 0.25) if thin else {}
    places = forest_layout(parents, extents)
    digraph = nx.DiGraph([(p, i) for i, p in parents.items() if p is not None])
    digraph.add_nodes_from(parents)
    for i, p in parents.items():
        assert places[i][0] == len(nx.ancestors(digraph, i))
        heirs = [j for j, q in parents.items() if q == i]
        if heirs:
            assert places[i][1] == pytest.approx((places[heirs[0]][1] + places[heirs[-1]][1]) / 2)
        assert p is None or places[p][0] == places[i][0] - 1
    assert all(row >= 0 for _, row in places.values())
    by_depth: dict[int, list[int]] = {}
    for root in (i for i, p in parents.items() if p is None):
        for i in nx.dfs_preorder_nodes(digraph, root, sort_neighbors=sorted):
            by_depth.setdefault(places[i][0], []).append(i)
    for nodes in by_depth.values():  # from top to bottom in the order of a walk: no branches cross
        for a, b in pairwise(nodes):
            least = (extents.get(a, 1.0) + extents.get(b, 1.0)) / 2
            assert places[b][1] - places[a][1] >= least - 1e-9


def test_a_short_branch_stands_beside_a_long_one() -> None:
    # 0 has the children 1 (with three of its own) and 2 (with three of its own at another depth).
    parents = {0: None, 1: 0, 2: 0, 3: 2, 4: 3, 5: 3, 6: 3}
    rows = [row for _, row in forest_layout(parents).values()]
    assert max(rows) == 2  # and not 3, as one row for each leaf would be


def test_a_long_line_of_descent_needs_no_recursion() -> None:
    n = 3000
    places = forest_layout({i: i - 1 if i else None for i in range(n)})
    assert places[n - 1] == (n - 1, 0.0)


def test_parents_come_first() -> None:
    with pytest.raises(ValueError, match="1 does not come before 0"):
        forest_layout({0: 1, 1: None})
