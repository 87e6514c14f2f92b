"""The fingerprint of labelled graphs: equal exactly for isomorphic ones, with networkx as the judge."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.ir import LabelledGraph
from tests.kernels.strategies import multigraphs, permutations


def random_dag(rng: np.random.Generator, n_nodes: int, n_labels: int, density: float) -> LabelledGraph:
    """Edges up to threefold, all forward."""
    labels = tuple("abcd"[i] for i in rng.integers(n_labels, size=n_nodes))
    edges = [
        pair
        for pair in combinations(range(n_nodes), 2)
        if rng.random() < density
        for _ in range(int(rng.choice([1, 1, 1, 2, 3])))
    ]
    return LabelledGraph(labels, tuple(edges))


def random_multigraph(rng: np.random.Generator) -> LabelledGraph:
    """Directed, with cycles, loops and parallel edges."""
    n_nodes = int(rng.integers(1, 9))
    labels = tuple("abc"[i] for i in rng.integers(3, size=n_nodes))
    return LabelledGraph(labels, tuple(map(tuple, rng.integers(n_nodes, size=(int(rng.integers(14)), 2)).tolist())))


def relabelled(graph: LabelledGraph, rng: np.random.Generator) -> LabelledGraph:
    """The same graph with its nodes and edges in another order."""
    place = rng.permutation(len(graph.labels)).tolist()
    labels = [""] * len(place)
    for old, new in enumerate(place):
        labels[new] = graph.labels[old]
    edges = [(place[s], place[t]) for s, t in graph.edges]
    return LabelledGraph(tuple(labels), tuple(edges[i] for i in rng.permutation(len(edges))))


def to_networkx(graph: LabelledGraph) -> nx.DiGraph:
    """Parallel edges as one with their number: networkx is many times quicker on simple graphs."""
    result = nx.DiGraph()
    result.add_nodes_from((i, {"label": label}) for i, label in enumerate(graph.labels))
    result.add_edges_from((s, t, {"n": n}) for (s, t), n in Counter(graph.edges).items())
    return result


def isomorphic(a: LabelledGraph, b: LabelledGraph) -> bool:
    return bool(
        nx.is_isomorphic(
            to_networkx(a),
            to_networkx(b),
            node_match=lambda x, y: x["label"] == y["label"],
            edge_match=lambda x, y: x["n"] == y["n"],
        )
    )


def check_against_networkx(graphs: Iterable[LabelledGraph]) -> tuple[int, int]:
    """How many equal and how many different pairs were checked.

    Isomorphism is transitive, so one graph of each fingerprint stands for the others; graphs with other labels or
    another number of edges are never isomorphic.
    """
    classes: defaultdict[str, dict[LabelledGraph, None]] = defaultdict(dict)
    buckets: defaultdict[tuple[object, ...], set[str]] = defaultdict(set)
    for graph in graphs:
        classes[graph.fingerprint][graph] = None
        buckets[(tuple(sorted(graph.labels)), len(graph.edges))].add(graph.fingerprint)
    n_equal = n_different = 0
    for members in classes.values():
        first, *others = members
        for other in others:
            assert isomorphic(first, other), f"one fingerprint: {first} and {other}"
            n_equal += 1
    for fingerprints in buckets.values():
        for a, b in combinations(sorted(fingerprints), 2):
            first, second = next(iter(classes[a])), next(iter(classes[b]))
            assert not isomorphic(first, second), f"two fingerprints: {first} and {second}"
            n_different += 1
    return n_equal, n_different


def small_dags(n: int, seed: int) -> Iterator[LabelledGraph]:
    """Few nodes and labels, so that isomorphic pairs and pairs that nearly are so are frequent."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        yield random_dag(rng, int(rng.integers(1, 7)), int(rng.integers(1, 3)), float(rng.choice([0.3, 0.6])))


# The judge itself.


def test_the_judge_agrees_with_networkx_on_multigraphs() -> None:
    def plain(graph: LabelledGraph) -> nx.MultiDiGraph:
        result = nx.MultiDiGraph()
        result.add_nodes_from((i, {"label": label}) for i, label in enumerate(graph.labels))
        result.add_edges_from(graph.edges)
        return result

    rng = np.random.default_rng(5)
    answers = []
    for _ in range(150):
        graph = random_multigraph(rng)
        edges = list(graph.edges)
        if edges and rng.random() < 0.7:
            edges[int(rng.integers(len(edges)))] = edges[int(rng.integers(len(edges)))]
        other = relabelled(LabelledGraph(graph.labels, tuple(edges)), rng)
        expected = nx.is_isomorphic(
            plain(graph),
            plain(other),
            node_match=lambda x, y: x["label"] == y["label"],
            edge_match=lambda x, y: len(x) == len(y),
        )
        assert isomorphic(graph, other) == expected
        answers.append(expected)
    assert 20 < sum(answers) < 130


# Equal exactly for isomorphic graphs.


def test_1000_relabellings_change_nothing() -> None:
    rng = np.random.default_rng(0)
    n_moved = 0
    for _ in range(1000):
        graph = random_multigraph(rng)
        other = relabelled(graph, rng)
        assert other.fingerprint == graph.fingerprint
        n_moved += other != graph
    assert n_moved > 700


@given(st.data())
def test_no_permutation_changes_anything(data: st.DataObject) -> None:
    graph = data.draw(multigraphs(max_nodes=8))
    assert data.draw(permutations(graph)).fingerprint == graph.fingerprint


def test_equal_exactly_for_isomorphic_graphs() -> None:
    n_equal, n_different = check_against_networkx(small_dags(4000, seed=0))
    assert n_equal > 150
    assert n_different > 5000


@given(st.lists(multigraphs(max_nodes=4), min_size=2, max_size=12))
def test_equal_exactly_for_isomorphic_graphs_with_cycles_and_loops(graphs: list[LabelledGraph]) -> None:
    check_against_networkx(graphs)


@pytest.mark.slow
def test_equal_exactly_for_isomorphic_graphs_at_length() -> None:
    check_against_networkx(small_dags(15_000, seed=1))
    rng = np.random.default_rng(2)
    # One label, regular: where colours alone tell least.
    check_against_networkx(regular_dag(rng, int(rng.integers(2, 5)), int(rng.integers(2, 4))) for _ in range(3000))


def regular_dag(rng: np.random.Generator, width: int, n_layers: int) -> LabelledGraph:
    """Layers joined by permutations: every node of a layer looks like the others."""
    edges = []
    for low, high in combinations(range(n_layers), 2):
        for _ in range(int(rng.integers(1, 3))):
            edges += [(low * width + i, high * width + j) for i, j in enumerate(rng.permutation(width).tolist())]
    return LabelledGraph(("a",) * (width * n_layers), tuple(edges))


def test_regular_layers_are_told_apart() -> None:
    rng = np.random.default_rng(3)
    n_equal, n_different = check_against_networkx(regular_dag(rng, int(rng.integers(2, 4)), 3) for _ in range(300))
    assert n_equal > 20
    assert n_different > 20


# Hand-made.


def graph(labels: str, *edges: str) -> LabelledGraph:
    """Edges as pairs of places: ``"01"``."""
    return LabelledGraph(tuple(labels), tuple((int(e[0]), int(e[1])) for e in edges))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (graph("ab", "01"), graph("ab", "01", "01")),
        (graph("ab", "01"), graph("ab", "10")),
        (graph("aa", "01"), graph("aa")),
        (graph("a"), graph("b")),
        (graph(""), graph("a")),
        (graph("aa"), graph("a")),
        # One parallel edge, here or there on the way.
        (graph("aaa", "01", "01", "12"), graph("aaa", "01", "12", "12")),
        # x + x and y + y are not x + y and x + y.
        (graph("sstt", "02", "03", "12", "13"), graph("sstt", "02", "02", "13", "13")),
        # Two triangles are not a hexagon.
        (graph("aabbcc", "02", "24", "04", "13", "35", "15"), graph("aabbcc", "02", "24", "05", "13", "35", "14")),
        (graph("aa", "00"), graph("aa", "01")),
        (graph("aaa", "01", "12", "20"), graph("aaa", "01", "12", "02")),
        # A label is not a part of another.
        (LabelledGraph(("ab", "c"), ()), LabelledGraph(("a", "bc"), ())),
        (LabelledGraph(("a|a",), ()), LabelledGraph(("a", "a"), ())),
    ],
)
def test_different_graphs(a: LabelledGraph, b: LabelledGraph) -> None:
    assert not isomorphic(a, b)
    assert a.fingerprint != b.fingerprint


def test_it_is_32_hexadecimal_digits_and_the_same_everywhere() -> None:
    assert graph("abb", "01", "01", "12").fingerprint == "85ebff550e4e2a904621d0ea3a30735f"
    assert graph("").fingerprint == LabelledGraph((), ()).fingerprint


def test_a_hundred_equal_branches_are_quick() -> None:
    """Nodes that are interchangeable need no singling out."""
    n = 100
    wide = LabelledGraph(("a",) * (n + 2), tuple(e for i in range(1, n + 1) for e in ((0, i), (i, n + 1))))
    other = LabelledGraph(wide.labels, (*wide.edges[:-1], (0, n + 1)))
    assert wide.fingerprint != other.fingerprint


# The value.


def test_lists_will_do() -> None:
    made = LabelledGraph(["a", "b"], [[0, 1], (0, 1)])  # type: ignore[arg-type]
    expected = graph("ab", "01", "01")
    assert made == expected
    assert hash(made) == hash(expected)
    assert made.fingerprint == expected.fingerprint


@pytest.mark.parametrize("edge", [(0, 2), (-1, 0), (2, 2)])
def test_edges_join_nodes_that_exist(edge: tuple[int, int]) -> None:
    with pytest.raises(ArchitectureError) as e:
        LabelledGraph(("a", "b"), ((0, 1), edge))
    assert str(e.value) == f"edges must join nodes 0 to 1, but got ({edge[0]}, {edge[1]})."
