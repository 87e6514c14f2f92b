"""The fingerprint: equal exactly for isomorphic graphs, with networkx as the judge."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import combinations
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networkx.algorithms.isomorphism import categorical_multiedge_match, categorical_node_match

from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.ir import Architecture, Node
from optuna_nas_morph.ir.ops import OPS, Activation, Add, Concat, Conv, Input, Op
from tests.strategies import architectures, example_architectures, random_architecture, random_wiring, relabelled

EXAMPLES = example_architectures()


def to_networkx(architecture: Architecture) -> nx.MultiDiGraph:
    """Operations as node attributes; the place of an input on its edge, where it has a meaning."""
    graph = nx.MultiDiGraph()
    for node in architecture.nodes:
        argument = "" if node.inputs else f" {architecture.inputs.index(node.name)}"
        graph.add_node(node.name, key=node.op.key + argument)
        for place, name in enumerate(node.inputs):
            graph.add_edge(name, node.name, place=-1 if node.op.commutative else place)
    return graph


def isomorphic(a: nx.MultiDiGraph, b: nx.MultiDiGraph) -> bool:
    return bool(
        nx.is_isomorphic(
            a,
            b,
            node_match=categorical_node_match("key", None),
            edge_match=categorical_multiedge_match("place", None),
        )
    )


def check_against_networkx(all_architectures: Iterator[Architecture]) -> tuple[int, int]:
    """How many equal and how many different pairs were checked."""
    classes: defaultdict[str, list[nx.MultiDiGraph]] = defaultdict(list)
    by_operations: defaultdict[tuple[tuple[str, int], ...], set[str]] = defaultdict(set)
    for architecture in all_architectures:
        classes[architecture.fingerprint].append(to_networkx(architecture))
        keys = tuple(sorted(Counter(node.op.key for node in architecture.nodes).items()))
        by_operations[keys].add(architecture.fingerprint)
    n_equal = n_different = 0
    for graphs in classes.values():
        for other in graphs[1:]:
            assert isomorphic(graphs[0], other), f"one fingerprint: {graphs[0].edges} and {other.edges}"
            n_equal += 1
    # Graphs with other operations are never isomorphic; isomorphism is transitive, so one of each class is enough.
    for fingerprints in by_operations.values():
        for a, b in combinations(sorted(fingerprints), 2):
            assert not isomorphic(classes[a][0], classes[b][0]), f"two fingerprints: {classes[a][0].edges}"
            n_different += 1
    return n_equal, n_different


def mixed_architectures(n: int, seed: int) -> Iterator[Architecture]:
    """A tenth of all operations, the rest small graphs in which equal and nearly equal ones are frequent."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        yield random_wiring(rng, int(rng.integers(3, 8))) if i % 10 else random_architecture(rng)


def test_equal_exactly_for_isomorphic_graphs() -> None:
    n_equal, n_different = check_against_networkx(mixed_architectures(1000, seed=0))
    assert n_equal > 100
    assert n_different > 100


@pytest.mark.slow
def test_equal_exactly_for_isomorphic_graphs_at_length() -> None:
    n_equal, n_different = check_against_networkx(mixed_architectures(10_000, seed=1))
    assert n_equal > 1000
    assert n_different > 1000


def test_does_not_depend_on_names_or_order() -> None:
    """1,000 random relabellings in random topological orders, with summands and factors shuffled."""
    rng = np.random.default_rng(0)
    n_moved = 0
    for seed in range(100):
        architecture = random_architecture(np.random.default_rng(seed))
        for _ in range(10):
            other = relabelled(architecture, rng)
            assert other.fingerprint == architecture.fingerprint
            n_moved += [n.op for n in other.nodes] != [n.op for n in architecture.nodes]
    assert n_moved > 200


@settings(max_examples=50, deadline=None)
@given(architectures(), st.integers(0, 2**32 - 1))
def test_does_not_depend_on_names_or_order_hypothesis(architecture: Architecture, seed: int) -> None:
    assert relabelled(architecture, np.random.default_rng(seed)).fingerprint == architecture.fingerprint


def variants(op: Op, field: str) -> Iterator[Op]:
    """The operation with other values of one field, as far as they are allowed."""
    value = getattr(op, field)
    candidates: tuple[Any, ...]
    if isinstance(value, bool):
        candidates = (not value,)
    elif isinstance(value, int):
        candidates = (value + 1, 2 * value, 1)
    elif isinstance(value, float):
        candidates = (value + 0.125,)
    elif isinstance(value, tuple):
        rank = len(value) or len(getattr(op, "kernel_size", ()))
        candidates = tuple((n,) * rank for n in (1, 2, 3)) + tuple(
            (1,) * i + (2,) + (1,) * (rank - 1 - i) for i in range(rank)
        )
    else:
        candidates = ("max", "avg", "relu", "tanh", "int64")
    for candidate in candidates:
        try:
            other = replace(op, **{field: candidate})
        except ArchitectureError:
            continue
        if other != op:
            yield other


def test_depends_on_every_field_of_every_operation() -> None:
    seen: set[tuple[str, str]] = set()
    for architecture in EXAMPLES.values():
        fingerprints = {architecture.fingerprint}
        children = {architecture}
        for node in architecture.nodes:
            for field in fields(node.op):
                for op in variants(node.op, field.name):
                    try:
                        child = architecture.replace({node.name: op})
                    except ArchitectureError:
                        continue
                    children.add(child)
                    fingerprints.add(child.fingerprint)
                    seen.add((node.op.op_name, field.name))
        assert len(fingerprints) == len(children)
    # test_opaque has those of a part of a user's network.
    assert seen == {(name, f.name) for name, cls in OPS.items() for f in fields(cls) if name != "opaque"}


def two_branches(join: Op, first: str, second: str) -> Architecture:
    return Architecture(
        (
            Node("x", Input((2, 4))),
            Node("a", Conv(2, (1,)), ("x",)),
            Node("b", Activation("relu"), ("x",)),
            Node("join", join, (first, second)),
        )
    )


def test_order_of_inputs_counts_for_concat_only() -> None:
    assert two_branches(Concat(), "a", "b").fingerprint != two_branches(Concat(), "b", "a").fingerprint
    assert two_branches(Add(), "a", "b").fingerprint == two_branches(Add(), "b", "a").fingerprint
    assert two_branches(Add(), "a", "b").fingerprint != two_branches(Concat(), "a", "b").fingerprint


def test_order_of_the_networks_inputs_counts() -> None:
    def swapped(first: str, second: str) -> Architecture:
        inputs = tuple(Node(name, Input((4,))) for name in (first, second))
        return Architecture((*inputs, Node("relu", Activation("relu"), ("x",)), Node("add", Add(), ("relu", "y"))))

    assert swapped("x", "y").fingerprint != swapped("y", "x").fingerprint


@pytest.mark.parametrize("join", [Add(), Concat()])
def test_shared_branch_is_not_a_copied_one(join: Op) -> None:
    start = (Node("x", Input((2, 4))), Node("a", Conv(2, (1,)), ("x",)))
    shared = Architecture((*start, Node("join", join, ("a", "a"))))
    copied = Architecture((*start, Node("b", Conv(2, (1,)), ("x",)), Node("join", join, ("a", "b"))))
    assert shared.fingerprint != copied.fingerprint


def test_which_of_two_equal_tensors_is_shared_counts() -> None:
    """Equal but for where the second consumer sits: behind the first or the second convolution of a chain."""

    def chain(source: str) -> Architecture:
        return Architecture(
            (
                Node("x", Input((2, 4))),
                Node("a", Conv(2, (1,)), ("x",)),
                Node("b", Conv(2, (1,)), ("a",)),
                Node("c", Conv(2, (1,)), ("b",)),
                Node("sum", Add(), ("c", source)),
            )
        )

    assert len({chain(source).fingerprint for source in ("x", "a", "b", "c")}) == 4


def twins(n: int, *rest: Node) -> Architecture:
    """Convolutions a0, a1, ... of one input that only their consumers tell apart, and what reads them."""
    branches = tuple(Node(f"a{i}", Conv(2, (1,)), ("x",)) for i in range(n))
    return Architecture((Node("x", Input((2, 4))), *branches, *rest))


def test_place_among_twins_counts() -> None:
    """Two concatenations of two twins: in the same order, or in opposite ones."""

    def pair(second: tuple[str, str]) -> Architecture:
        first = Node("c0", Concat(), ("a0", "a1"))
        return twins(2, first, Node("c1", Concat(), second), Node("sum", Add(), ("c0", "c1")))

    assert pair(("a0", "a1")).fingerprint != pair(("a1", "a0")).fingerprint


def test_roles_of_twins_in_one_sum_count() -> None:
    """Two sums of two twins each; two of the four have a second reader, in the same sum or in different ones."""

    def pair(*extra: str) -> Architecture:
        sums = (Node("s0", Add(), ("a0", "a1")), Node("s1", Add(), ("a2", "a3")))
        readers = tuple(Node(f"r{i}", Activation("relu"), (name,)) for i, name in enumerate(extra))
        return twins(4, *sums, *readers, Node("sum", Add(), ("s0", "s1", "r0", "r1")))

    assert pair("a0", "a1").fingerprint == pair("a2", "a3").fingerprint
    assert pair("a0", "a2").fingerprint == pair("a3", "a1").fingerprint
    assert pair("a0", "a1").fingerprint != pair("a0", "a2").fingerprint


def test_form() -> None:
    for architecture in EXAMPLES.values():
        assert len(architecture.fingerprint) == 32
        assert int(architecture.fingerprint, 16) >= 0


@settings(deadline=None)
@given(architectures(), architectures())
def test_key_of_an_operation_is_equal_exactly_for_equal_operations(a: Architecture, b: Architecture) -> None:
    for first in a.nodes:
        for second in b.nodes:
            assert (first.op.key == second.op.key) == (first.op == second.op)
