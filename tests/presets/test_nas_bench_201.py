"""The cells of NAS-Bench-201, against the format of its tables and networkx."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import networkx as nx
import numpy as np
import pytest

from optuna_nas_morph import presets
from optuna_nas_morph.ir import LabelledGraph
from optuna_nas_morph.presets.nas_bench_201 import OPERATIONS, to_string

SPACE = presets.nas_bench_201()
PATTERN = re.compile(r"\|(\w+)~0\|\+\|(\w+)~0\|(\w+)~1\|\+\|(\w+)~0\|(\w+)~1\|(\w+)~2\|")


def from_string(text: str) -> dict[str, str]:
    """A cell's string, read by what the benchmark says of it: state 1 gets an operation from 0, 2 from 0 and 1."""
    return {
        f"{edge.split('~')[1]}-{target}": edge.split("~")[0]
        for target, state in enumerate(text.split("+"), start=1)
        for edge in state.strip("|").split("|")
    }


def reduced(choices: Mapping[str, Any]) -> nx.MultiDiGraph:
    """What a cell computes, by rewriting: operations as nodes, sums as nodes; cut, then contract one by one."""
    graph = nx.MultiDiGraph()
    for state in range(4):
        graph.add_node(state, label={0: "input", 3: "output"}.get(state, "sum"))
    for name, operation in choices.items():
        if operation != "none":
            graph.add_node(name, label="sum" if operation == "skip_connect" else operation)
            graph.add_edge(int(name[0]), name)
            graph.add_edge(name, int(name[2]))
    alive = (nx.descendants(graph, 0) & nx.ancestors(graph, 3)) | {0, 3}
    graph = graph.subgraph(alive).copy()
    while inner := [node for node, label in graph.nodes(data="label") if label == "sum"]:
        node = inner[0]
        edges = list(product(list(graph.in_edges(node)), list(graph.out_edges(node))))
        graph.add_edges_from([(source, target) for (source, _), (_, target) in edges])
        graph.remove_node(node)
    return graph


def simple(graph: nx.MultiDiGraph) -> nx.DiGraph:
    """Parallel edges as one with their number."""
    result = nx.DiGraph()
    result.add_nodes_from(graph.nodes(data=True))
    result.add_edges_from((s, t, {"n": n}) for (s, t), n in Counter(graph.edges()).items())
    return result


def isomorphic(a: nx.DiGraph, b: nx.DiGraph) -> bool:
    return bool(nx.is_isomorphic(a, b, lambda x, y: x == y, lambda x, y: x == y))


def classes_of(graphs: Iterator[nx.DiGraph]) -> list[int]:
    """Number of the class of isomorphic graphs that each belongs to."""
    buckets: defaultdict[tuple[Any, ...], list[tuple[int, nx.DiGraph]]] = defaultdict(list)
    known: dict[tuple[Any, ...], int] = {}
    result, n = [], 0
    for graph in graphs:
        exact = (tuple(graph.nodes(data="label")), tuple(graph.edges(data="n")))
        if exact not in known:
            degrees = [
                (label, graph.in_degree(v, "n"), graph.out_degree(v, "n")) for v, label in graph.nodes(data="label")
            ]
            bucket = buckets[tuple(sorted(degrees))]
            found = next((i for i, other in bucket if isomorphic(graph, other)), None)
            if found is None:
                found, n = n, n + 1
                bucket.append((found, graph))
            known[exact] = found
        result.append(known[exact])
    return result


def check_partition(cells: list[dict[str, Any]]) -> int:
    """Fingerprints are equal exactly where the rewritten graphs are isomorphic. How many classes there are."""
    classes = classes_of(simple(reduced(choices)) for choices in cells)
    fingerprints = [SPACE.cell(choices).fingerprint for choices in cells]
    pairs = set(zip(classes, fingerprints, strict=True))
    assert len(pairs) == len(set(classes)) == len(set(fingerprints))
    return len(pairs)


def test_15625_cells_with_a_string_each() -> None:
    members = list(SPACE.members())
    assert len(members) == SPACE.size == 5**6 == 15_625
    texts = {to_string(SPACE.choices_of(m)) for m in members}
    assert len(texts) == 15_625
    assert all((found := PATTERN.fullmatch(text)) and set(found.groups()) <= set(OPERATIONS) for text in texts)


def test_choices_and_operations_are_the_benchmarks() -> None:
    assert list(SPACE.choices) == ["0-1", "0-2", "1-2", "0-3", "1-3", "2-3"]
    assert OPERATIONS == ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    assert set(SPACE.choices.values()) == {OPERATIONS}


@pytest.mark.parametrize("seed", range(20))
def test_strings_are_those_of_the_tables(seed: int) -> None:
    choices = SPACE.choices_of(SPACE.random(np.random.default_rng(seed)))
    assert from_string(to_string(choices)) == choices


def test_a_string_by_hand() -> None:
    # The best cell on CIFAR-10 (Dong and Yang, 2020).
    choices = {
        "0-1": "nor_conv_3x3",
        "0-2": "nor_conv_3x3",
        "1-2": "nor_conv_3x3",
        "0-3": "skip_connect",
        "1-3": "nor_conv_3x3",
        "2-3": "nor_conv_1x1",
    }
    text = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
    assert to_string(choices) == text
    assert from_string(text) == choices
    graph = SPACE.cell(choices).graph
    assert Counter(graph.labels) == Counter(["input", "output", *(["nor_conv_3x3"] * 4), "nor_conv_1x1"])
    # Into 0-1, 0-2, 1-2 and 1-3 one edge each, into 2-3 two, into the output three.
    assert len(graph.edges) == 9


def test_the_digest_is_frozen() -> None:
    """Studies are resumed with it."""
    assert SPACE.digest == "b18edec44f0242b2a02075aefb012eb9"
    assert presets.nas_bench_201() == SPACE


def test_fingerprints_are_classes_of_isomorphic_cells() -> None:
    """With three operations, and a sample of all cells."""
    few = [dict(zip(SPACE.choices, ops, strict=True)) for ops in product(OPERATIONS[:3], repeat=6)]
    assert check_partition(few) == 99
    rng = np.random.default_rng(0)
    check_partition([SPACE.choices_of(SPACE.random(rng)) for _ in range(700)])


@pytest.mark.slow
def test_fingerprints_are_classes_of_isomorphic_cells_for_all() -> None:
    assert check_partition([SPACE.choices_of(m) for m in SPACE.members()]) == 5425


def test_graphs_that_no_operation_is_left_of() -> None:
    none = dict.fromkeys(SPACE.choices, "none")
    assert SPACE.cell(none).graph == LabelledGraph(("input", "output"), ())
    # Every path from the input to the output is an identity: there are four.
    skip = dict.fromkeys(SPACE.choices, "skip_connect")
    assert SPACE.cell(skip).graph == LabelledGraph(("input", "output"), ((0, 1),) * 4)
