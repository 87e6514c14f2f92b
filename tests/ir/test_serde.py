"""Architectures as JSON: round trips, the frozen format of version 1, and named errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.ir import Architecture, Node
from optuna_nas_morph.ir.ops import (
    OPS,
    Activation,
    AdaptivePool,
    Add,
    BatchNorm,
    ColumnEmbedding,
    Concat,
    Conv,
    DepthwiseConv,
    Dropout,
    Flatten,
    GlobalPool,
    Input,
    LayerNorm,
    LayerScale,
    Linear,
    Multiply,
    Opaque,
    ParametricActivation,
    PatchEmbedding,
    Pool,
    PositionEmbedding,
    RMSNorm,
    Scale,
    SelfAttention,
    TokenEmbedding,
    ToTokens,
)
from tests.strategies import architectures, random_architecture

GOLDEN_FINGERPRINTS = {
    "golden_v1": "3d15b745d9d3cfbc0b243a323d97b9e4",
    "golden_v1_blends": "7187a9bd88145140cfb23662f4f7e74e",
    "golden_v1_columns": "bdb0a902b352ce7e8dbd001680b9dcc6",
    "golden_v1_factors": "e45a0bff6b61c28f48060301ed23277c",
    "golden_v1_opaque": "46cccf8ea21a28a3076baeeb77c1090a",
    "golden_v1_norms": "75d1cfeac75c37aa9d1cc7be814d4954",
}
"""By the name of a file beside this one. Operations that came later have files of their own: a file never changes."""


def golden_architecture() -> Architecture:
    """Every operation that there was at first, every field at another value than its default somewhere."""
    return Architecture(
        (
            Node("image", Input((3, 8, 8))),
            Node("words", Input((4,), dtype="int64")),
            Node("series", Input((4, 5), channel_axis=1)),
            Node("stem", Conv(8, (3, 3), (2, 2), (1, 1), bias=False), ("image",)),
            Node("stem_bn", BatchNorm(1e-3), ("stem",)),
            Node("stem_act", Activation("leaky_relu", 0.1), ("stem_bn",)),
            Node("grouped", Conv(8, (3, 3), padding=(2, 2), dilation=(2, 2), groups=2), ("stem_act",)),
            Node("depthwise", DepthwiseConv((5, 3), padding=(2, 1)), ("grouped",)),
            Node("sum", Add(), ("depthwise", "stem_act")),
            Node("squeeze", AdaptivePool((1, 1)), ("sum",)),
            Node("excite", Conv(8, (1, 1)), ("squeeze",)),
            Node("gate", Activation("hardsigmoid"), ("excite",)),
            Node("gated", Multiply(), ("sum", "gate")),
            Node("pool", Pool("max", (3, 3), (1, 1), (1, 1)), ("gated",)),
            Node("cat", Concat(), ("pool", "gated")),
            Node("ln", LayerNorm(1e-6), ("cat",)),
            Node("patches", PatchEmbedding(6, (2, 2)), ("ln",)),
            Node("cells", ToTokens(), ("squeeze",)),
            Node("cells_flat", Flatten(), ("cells",)),
            Node("lookup", TokenEmbedding(11, 6), ("words",)),
            Node("tokens", Add(), ("patches", "lookup")),
            Node("positions", PositionEmbedding(), ("tokens",)),
            Node("attention", SelfAttention(2, 4, 6), ("positions",)),
            Node("drop", Dropout(0.1), ("attention",)),
            Node("mean", GlobalPool(), ("drop",)),
            Node("most", GlobalPool("max"), ("series",)),
            Node("small", AdaptivePool((2, 1), "max"), ("image",)),
            Node("wide", DepthwiseConv((2, 1), multiplier=2, bias=False), ("small",)),
            Node("wide_flat", Flatten(), ("wide",)),
            Node("joined", Concat(), ("mean", "most", "cells_flat", "wide_flat")),
            Node("hidden", Linear(16, bias=False), ("joined",)),
            Node("hidden_act", Activation("gelu"), ("hidden",)),
            Node("out", Linear(10), ("hidden_act",)),
        )
    )


def golden_blends() -> Architecture:
    """Constants, and activations that are blended in."""
    return Architecture(
        (
            Node("image", Input((3, 8, 8))),
            Node("blend", ParametricActivation("silu"), ("image",)),
            Node("half", Scale(-0.5), ("blend",)),
        )
    )


def golden_factors() -> Architecture:
    """Factors per channel."""
    return Architecture((Node("image", Input((3, 8, 8))), Node("factors", LayerScale(0.5), ("image",))))


def golden_columns() -> Architecture:
    """Categories in columns."""
    return Architecture((Node("table", Input((3,), dtype="int64")), Node("c", ColumnEmbedding(2, 7, 4), ("table",))))


def golden_opaque() -> Architecture:
    """A part of a user's network."""
    state = (("lstm.weight", (8, 3), "float32", True), ("count", (), "int64", False), ("mask", (4, 4), "bool", False))
    return Architecture(
        (
            Node("words", Input((4,), dtype="int64")),
            Node("embed", Opaque("Embedding", ((4,),), (4, 3), "00ff" * 8, channel_axis=1), ("words",)),
            Node(
                "lstm",
                Opaque("LSTM", ((4, 3), (4,)), (2,), "fedcba9876543210" * 2, 0, "int64", state, 192),
                ("embed", "words"),
            ),
        )
    )


def golden_norms() -> Architecture:
    """Norms of today's transformers."""
    return Architecture(
        (
            Node("tokens", Input((4, 6), channel_axis=1)),
            Node("rms", RMSNorm(), ("tokens",)),
            Node("rms_eps", RMSNorm(1e-5), ("rms",)),
        )
    )


GOLDEN = {
    "golden_v1": golden_architecture(),
    "golden_v1_blends": golden_blends(),
    "golden_v1_factors": golden_factors(),
    "golden_v1_columns": golden_columns(),
    "golden_v1_opaque": golden_opaque(),
    "golden_v1_norms": golden_norms(),
}


def golden_text(name: str) -> str:
    return Path(__file__).with_name(f"{name}.json").read_text(encoding="utf-8")


def test_golden_files_hold_every_operation() -> None:
    assert {node.op.op_name for architecture in GOLDEN.values() for node in architecture.nodes} == set(OPS)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_files_are_written_byte_for_byte(name: str) -> None:
    """A change here breaks every stored study: raise the version and keep reading this one."""
    assert GOLDEN[name].to_json() + "\n" == golden_text(name)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_files_are_read(name: str) -> None:
    assert Architecture.from_json(golden_text(name)) == GOLDEN[name]


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_fingerprints(name: str) -> None:
    """Fingerprints are stored in studies too."""
    assert GOLDEN[name].fingerprint == GOLDEN_FINGERPRINTS[name]


def check_round_trip(architecture: Architecture) -> None:
    text = architecture.to_json()
    again = Architecture.from_json(text)
    assert again == architecture
    assert again.to_json() == text
    assert again.fingerprint == architecture.fingerprint
    assert again.specs == architecture.specs


@settings(max_examples=150, deadline=None)
@given(architectures())
def test_round_trip(architecture: Architecture) -> None:
    check_round_trip(architecture)


def test_round_trip_of_many() -> None:
    for seed in range(300):
        check_round_trip(random_architecture(np.random.default_rng(seed)))


def test_layout_and_order_of_keys_do_not_matter() -> None:
    data = json.loads(golden_architecture().to_json())
    text = json.dumps(data, indent=2, sort_keys=True)
    assert Architecture.from_json(text) == golden_architecture()


# Errors.


@pytest.mark.parametrize(
    "text",
    ["", "{", "nodes", '{"nodes": [}', "\x00", pytest.param("[" * 100_000, id="deep"), None, 3, b"\xff\xfe\x00"],
)
def test_not_json(text: Any) -> None:
    with pytest.raises(ArchitectureError, match="is no JSON"):
        Architecture.from_json(text)


@pytest.mark.parametrize(
    "text", ["null", "[]", "3", '"text"', "{}", '{"version":1,"nodes":[]}', '{"format":"onnx","version":1,"nodes":[]}']
)
def test_other_format(text: str) -> None:
    with pytest.raises(ArchitectureError, match='with "format": "optuna-nas-morph/architecture"'):
        Architecture.from_json(text)


Change = Callable[[dict[str, Any]], object]


def changed(change: Change) -> str:
    """JSON of a small architecture after a change to its data."""
    data = json.loads(
        Architecture(
            (
                Node("x", Input((4,))),
                Node("hidden", Linear(8), ("x",)),
                Node("act", Activation("relu"), ("hidden",)),
                Node("out", Linear(2), ("act",)),
            )
        ).to_json()
    )
    change(data)
    return json.dumps(data)


@pytest.mark.parametrize("version", [0, 2, "1", None, 1.0, True, [1]])
def test_other_version(version: Any) -> None:
    with pytest.raises(ArchitectureError, match=r"version must be 1 but got .*another version of optuna-nas-morph"):
        Architecture.from_json(changed(lambda data: data.update(version=version)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("version"), "version must be 1 but got None"),
        (lambda d: d.pop("nodes"), "nodes must be a list but got NoneType"),
        (lambda d: d.update(nodes={}), "nodes must be a list but got dict"),
        (lambda d: d.update(nodes=[]), "nodes must hold at least one node"),
        (lambda d: d["nodes"].append(3), "every node must be an object with a name but got 3"),
        (lambda d: d["nodes"][1].pop("name"), "every node must be an object with a name but got .*'linear'"),
        (lambda d: d["nodes"][1].update(name=None), "every node must be an object with a name"),
        (lambda d: d["nodes"][1].update(name="a b"), "starting with a letter, but got 'a b'"),
        (lambda d: d["nodes"][1].pop("inputs"), "node 'hidden': inputs must be a list of node names but got None"),
        (lambda d: d["nodes"][1].update(inputs="x"), "node 'hidden': inputs must be a list of node names but got 'x'"),
        (lambda d: d["nodes"][1].update(inputs=[0]), "node 'hidden': inputs must be a list of node names"),
        (lambda d: d["nodes"][1].update(inputs=["y"]), "node 'hidden': its input 'y' is not a node before it"),
        (lambda d: d["nodes"][1].update(inputs=["act"]), "node 'hidden': its input 'act' is not a node before it"),
        (lambda d: d["nodes"][1].pop("op"), "node 'hidden': op must be one of .* but got None"),
        (lambda d: d["nodes"][1].update(op="conv9"), "node 'hidden': op must be one of .* but got 'conv9'"),
        (lambda d: d["nodes"][1].update(op=["linear"]), "node 'hidden': op must be one of"),
        (lambda d: d["nodes"][1].update(widht=3), r"node 'hidden': linear: unknown fields \['widht'\]"),
        (lambda d: d["nodes"][1].pop("out_features"), "node 'hidden': linear: .*out_features"),
        (lambda d: d["nodes"][1].update(out_features="8"), "node 'hidden': linear: out_features .* but got '8'"),
        (lambda d: d["nodes"][1].update(out_features=8.0), "node 'hidden': linear: out_features .* but got 8.0"),
        (lambda d: d["nodes"][1].update(out_features=[8]), "node 'hidden': linear: out_features"),
        (lambda d: d["nodes"][1].update(out_features={"n": 8}), "node 'hidden': linear: out_features"),
        (lambda d: d["nodes"][1].update(out_features=None), "node 'hidden': linear: out_features"),
        (lambda d: d["nodes"][1].update(bias=0), "node 'hidden': linear: bias must be True or False but got 0"),
        (lambda d: d["nodes"][2].update(function={"relu": 1}), "node 'act': activation: function must be one of"),
        (lambda d: d["nodes"][0].update(shape=4), "node 'x': input: shape"),
        (lambda d: d["nodes"][0].update(shape=[[4]]), "node 'x': input: shape"),
        (lambda d: d["nodes"][0].update(shape=[4, 4]), "node 'hidden': linear: needs its channels on the last axis"),
        (lambda d: d["nodes"].insert(1, d["nodes"][0]), "node 'x': the name is used twice"),
        (lambda d: d["nodes"].insert(1, {**d["nodes"][1], "name": "dead"}), r"nodes \['dead'\] do not reach"),
    ],
)
def test_error_names_the_node(change: Change, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        Architecture.from_json(changed(change))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_should_not_hold(value: str) -> None:
    text = changed(lambda d: d["nodes"][2].update(function="leaky_relu", negative_slope=12345))
    with pytest.raises(ArchitectureError, match="node 'act': activation: negative_slope must be a finite number"):
        Architecture.from_json(text.replace("12345", value))
