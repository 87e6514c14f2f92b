"""Edits return new architectures; look-ups by name."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError

import networkx as nx
import numpy as np
import pytest

from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.ir import Architecture, Node
from optuna_nas_morph.ir.ops import Activation, Add, BatchNorm, Concat, Conv, Flatten, Input, Linear
from tests.strategies import random_architecture


@pytest.fixture
def architecture() -> Architecture:
    return Architecture(
        (
            Node("x", Input((2, 4, 4))),
            Node("a", Conv.same(2, 3, 3), ("x",)),
            Node("b_7", Conv.same(2, 3, 3), ("a",)),
            Node("sum", Add(), ("a", "b_7", "a")),
            Node("flat", Flatten(), ("sum",)),
            Node("out", Linear(2), ("flat",)),
        )
    )


def test_replace(architecture: Architecture) -> None:
    before = architecture.to_json()
    child = architecture.replace({"out": Linear(5), "b_7": Conv.same(2, 3, 5)})
    assert child.specs["out"].shape == (5,)
    assert child["b_7"].op == Conv.same(2, 3, 5)
    assert [n.inputs for n in child.nodes] == [n.inputs for n in architecture.nodes]
    assert architecture.to_json() == before
    assert architecture.replace({}) == architecture


def test_replace_by_what_does_not_fit(architecture: Architecture) -> None:
    with pytest.raises(ArchitectureError, match=r"'sum'.*one shape"):
        architecture.replace({"b_7": Conv.same(2, 4, 3)})


def test_replace_an_unknown_node(architecture: Architecture) -> None:
    with pytest.raises(ArchitectureError, match="'nothing'"):
        architecture.replace({"nothing": Linear(2)})


def test_insert_rewires_every_consumer(architecture: Architecture) -> None:
    before = architecture.to_json()
    child = architecture.insert("a", [Node("bn", BatchNorm(), ("a",)), Node("relu", Activation("relu"), ("bn",))])
    assert [n.name for n in child.nodes] == ["x", "a", "bn", "relu", "b_7", "sum", "flat", "out"]
    assert child["bn"].inputs == ("a",)
    assert child["b_7"].inputs == ("relu",)
    assert child["sum"].inputs == ("relu", "b_7", "relu")
    assert child.consumers["a"] == ("bn",)
    assert architecture.to_json() == before


def test_inserted_nodes_may_read_earlier_ones(architecture: Architecture) -> None:
    child = architecture.insert("b_7", [Node("extra", Conv.same(2, 3, 1), ("x",)), Node("s", Add(), ("b_7", "extra"))])
    assert child["sum"].inputs == ("a", "s", "a")
    assert child.consumers["x"] == ("a", "extra")


def test_insert_behind_the_output_makes_a_new_output(architecture: Architecture) -> None:
    child = architecture.insert("out", [Node("relu", Activation("relu"), ("out",))])
    assert child.output == "relu"


def test_insert_nothing(architecture: Architecture) -> None:
    assert architecture.insert("a", []) == architecture


@pytest.mark.parametrize("new", [[], [Node("relu", Activation("relu"), ("x",))]])
def test_insert_behind_an_unknown_node(architecture: Architecture, new: list[Node]) -> None:
    with pytest.raises(ArchitectureError, match="'nothing'"):
        architecture.insert("nothing", new)


def test_insert_what_is_not_valid(architecture: Architecture) -> None:
    with pytest.raises(ArchitectureError, match="'flat': the name is used twice"):
        architecture.insert("a", [Node("flat", Activation("relu"), ("a",))])
    with pytest.raises(ArchitectureError, match=r"'relu'.*'sum'"):
        architecture.insert("a", [Node("relu", Activation("relu"), ("sum",))])
    with pytest.raises(ArchitectureError, match=r"'cat'.*'a'|'sum'"):
        architecture.insert("b_7", [Node("cat", Concat(), ("a", "b_7"))])


def test_fresh_names(architecture: Architecture) -> None:
    assert architecture.fresh_names("conv", "bn") == ("conv_8", "bn_8")
    name, other = architecture.fresh_names("b", "b_7")
    child = architecture.insert("a", [Node(name, BatchNorm(), ("a",)), Node(other, BatchNorm(), (name,))])
    again = child.fresh_names("b", "b_7")
    assert not {n.name for n in child.nodes} & set(again)


def test_fresh_names_without_numbers_in_use() -> None:
    assert Architecture((Node("x", Input((2,))),)).fresh_names("a") == ("a_1",)


def test_look_ups(architecture: Architecture) -> None:
    assert architecture["a"].op == Conv.same(2, 3, 3)
    assert architecture.index == {"x": 0, "a": 1, "b_7": 2, "sum": 3, "flat": 4, "out": 5}
    assert architecture.consumers["a"] == ("b_7", "sum", "sum")
    assert architecture.consumers["out"] == ()
    assert (architecture.inputs, architecture.output) == (("x",), "out")
    assert [str(spec) for spec in architecture.input_specs("sum")] == ["3x4x4 float32"] * 3
    with pytest.raises(ArchitectureError, match="'nothing'"):
        architecture["nothing"]


def test_is_a_value(architecture: Architecture) -> None:
    other = Architecture(tuple(Node(n.name, n.op, n.inputs) for n in architecture.nodes))
    assert architecture == other
    assert hash(architecture) == hash(other)
    assert architecture.groups.sizes and architecture.fingerprint  # cached values must not change what it is
    assert architecture == other
    for twin in (copy.deepcopy(architecture), pickle.loads(pickle.dumps(architecture))):
        assert twin == architecture
        assert twin.fingerprint == architecture.fingerprint
    with pytest.raises(FrozenInstanceError):
        architecture.nodes = ()  # type: ignore[misc]
    assert Architecture(list(architecture.nodes)) == architecture  # type: ignore[arg-type]


def test_pickle_from_another_process_is_equal_and_hashes_alike(architecture: Architecture) -> None:
    """Hashes of strings differ between processes, so a cached one must not travel."""
    code = (
        "import pickle, sys; from optuna_nas_morph.ir import Architecture; "
        "a = Architecture.from_json(sys.stdin.read()); hash(a); sys.stdout.buffer.write(pickle.dumps(a))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=architecture.to_json().encode(),
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
    )
    assert {architecture: "found"}.get(pickle.loads(done.stdout)) == "found"


def test_ancestors() -> None:
    for seed in range(50):
        architecture = random_architecture(np.random.default_rng(seed))
        graph = nx.DiGraph([(name, node.name) for node in architecture.nodes for name in node.inputs])
        graph.add_nodes_from(architecture.index)
        for node in architecture.nodes:
            bits = architecture.ancestors[node.name]
            ours = {name for name, i in architecture.index.items() if bits >> i & 1}
            assert ours == nx.ancestors(graph, node.name)


def test_text(architecture: Architecture) -> None:
    lines = str(architecture).splitlines()
    assert len(lines) == 6
    assert lines[0].split() == ["x", "input", "2x4x4", "float32"]
    assert lines[3].split() == ["sum", "add", "3x4x4", "float32", "<-", "a,", "b_7,", "a"]
