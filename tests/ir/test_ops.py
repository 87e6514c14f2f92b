"""What the fields of every operation accept, and the one spelling they are stored in."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.ir.ops import (
    OPS,
    Activation,
    BatchNorm,
    ColumnEmbedding,
    Conv,
    DepthwiseConv,
    Dropout,
    Input,
    LayerNorm,
    LayerScale,
    Linear,
    Op,
    Pool,
    RMSNorm,
    Scale,
    SelfAttention,
    TokenEmbedding,
    op_from_dict,
)
from optuna_nas_morph.ir.ops.base import width_bucket
from tests.strategies import ops

COUNT = [0, -1, 1.0, True, "3", None, (3,), [3], np.int64(3), float("nan")]
FLAG = [0, 1, None, "yes", 1.0, (True,)]
NUMBER = [float("nan"), float("inf"), -float("inf"), "0.1", None, True, (0.1,), [0.1], 1j]
CHOICE = ["", "Max", "RELU", None, 1, True, ["max"], ("max",), {"max": 1}]
SIZES = [None, 3, 3.0, "33", [3, 3], (3.0, 3), (True, 3), ("3", "3"), (0, 3), (3, -1), (None, 3), (np.int64(3), 3)]
WINDOW = [*SIZES, (), (2, 2, 2, 2)]
PER_AXIS = [*SIZES, 0, False, "", (1,), (1, 1, 1), [1, 1], [], (1.0, 1.0), (True, True), range(2)]
PADDING = [*[v for v in PER_AXIS if v != (0, 3)], (-1, 0), (0.0, 0.0), (False, False)]

VALID: dict[str, dict[str, Any]] = {
    "activation": {"function": "leaky_relu", "negative_slope": 0.2},
    "adaptive_pool": {"output_size": (2, 2), "kind": "avg"},
    "add": {},
    "batch_norm": {"eps": 1e-3, "momentum": 0.01},
    "column_embedding": {"column": 1, "n_categories": 5, "features": 3},
    "concat": {},
    "conv": {
        "out_channels": 4,
        "kernel_size": (3, 3),
        "stride": (1, 2),
        "padding": (1, 0),
        "dilation": (1, 2),
        "groups": 2,
        "bias": False,
    },
    "depthwise_conv": {
        "kernel_size": (3, 3),
        "stride": (1, 2),
        "padding": (1, 0),
        "dilation": (1, 2),
        "multiplier": 2,
        "bias": False,
    },
    "dropout": {"p": 0.1},
    "flatten": {},
    "global_pool": {"kind": "max"},
    "input": {"shape": (3, 4), "channel_axis": 1, "dtype": "float32"},
    "layer_norm": {"eps": 1e-3},
    "layer_scale": {"initial": 0.1},
    "linear": {"out_features": 3, "bias": False},
    "multiply": {},
    "opaque": {
        "kind": "LSTM",
        "input_shapes": ((3, 4), (2,)),
        "shape": (5, 6),
        "digest": "0123456789abcdef" * 2,
        "channel_axis": 1,
        "dtype": "int64",
        "tensors": (("weight", (2, 3), "float32", True), ("mask", (), "bool", False)),
        "n_flops": 7,
    },
    "parametric_activation": {"function": "gelu"},
    "patch_embedding": {"features": 3, "patch_size": (2, 2)},
    "pool": {"kind": "max", "kernel_size": (3, 3), "stride": (1, 2), "padding": (1, 0)},
    "position_embedding": {},
    "rms_norm": {"eps": 1e-3},
    "scale": {"factor": 2.0},
    "self_attention": {"n_heads": 2, "head_dim": 3, "out_features": 4},
    "to_tokens": {},
    "token_embedding": {"n_tokens": 5, "features": 3},
}
BAD: dict[tuple[str, str], list[Any]] = {
    ("activation", "function"): CHOICE,
    ("activation", "negative_slope"): [*NUMBER, -1, -1.5],
    ("adaptive_pool", "output_size"): WINDOW,
    ("adaptive_pool", "kind"): CHOICE,
    ("batch_norm", "eps"): [*NUMBER, 0, -1e-5],
    ("batch_norm", "momentum"): [*NUMBER, -0.1, 1.1],
    ("column_embedding", "column"): [n for n in COUNT if n != 0],
    ("column_embedding", "n_categories"): COUNT,
    ("column_embedding", "features"): COUNT,
    ("conv", "out_channels"): [*COUNT, 3],
    ("conv", "kernel_size"): [*WINDOW, (3,), (3, 3, 3)],
    ("conv", "stride"): PER_AXIS,
    ("conv", "padding"): PADDING,
    ("conv", "dilation"): PER_AXIS,
    ("conv", "groups"): [*COUNT, 3],
    ("conv", "bias"): FLAG,
    ("depthwise_conv", "kernel_size"): [*WINDOW, (3,), (3, 3, 3)],
    ("depthwise_conv", "stride"): PER_AXIS,
    ("depthwise_conv", "padding"): PADDING,
    ("depthwise_conv", "dilation"): PER_AXIS,
    ("depthwise_conv", "multiplier"): COUNT,
    ("depthwise_conv", "bias"): FLAG,
    ("dropout", "p"): [*NUMBER, -0.1, 1, 1.0],
    ("global_pool", "kind"): CHOICE,
    ("input", "shape"): [*SIZES, ()],
    ("input", "channel_axis"): [-1, 2, 0.0, True, None, "0", (0,)],
    ("input", "dtype"): ["float64", "", None, 1, ["float32"]],
    ("layer_norm", "eps"): [*NUMBER, 0, -1e-5],
    ("layer_scale", "initial"): NUMBER,
    ("linear", "out_features"): COUNT,
    ("linear", "bias"): FLAG,
    ("opaque", "kind"): ["", None, 1, "a b", "_a", "a+b", "1a", ["LSTM"], "a\n"],
    ("opaque", "input_shapes"): [None, (), (3, 4), [(3, 4)], "33", *[(sizes,) for sizes in SIZES]],
    ("opaque", "shape"): [*SIZES, ()],
    ("opaque", "digest"): ["", None, 1, "0" * 31, "A" * 32, "0" * 33, "g" * 32],
    ("opaque", "channel_axis"): [-1, 2, 0.0, True, None, "0", (0,)],
    ("opaque", "dtype"): ["float64", "bool", "", None, 1, ["float32"]],
    ("opaque", "tensors"): [
        None,
        "abcd",
        [],
        (("w", (2,), "float32"),),
        (("", (2,), "float32", True),),
        ((1, (2,), "float32", True),),
        (("w", [2], "float32", True),),
        (("w", (-1,), "float32", True),),
        (("w", (2.0,), "float32", True),),
        (("w", (2,), "float64", True),),
        (("w", (2,), ["float32"], True),),
        (("w", (2,), "float32", 1),),
        (("w", (2,), "float32", True), None),
    ],
    ("opaque", "n_flops"): [*[v for v in COUNT if v != 0]],
    ("parametric_activation", "function"): CHOICE,
    ("patch_embedding", "features"): COUNT,
    ("patch_embedding", "patch_size"): WINDOW,
    ("pool", "kind"): CHOICE,
    ("pool", "kernel_size"): [*WINDOW, (3,), (3, 3, 3)],
    ("pool", "stride"): PER_AXIS,
    ("pool", "padding"): [*PADDING, (2, 0), (0, 2)],
    ("rms_norm", "eps"): [*NUMBER, 0, -1e-5],
    ("scale", "factor"): [*NUMBER, 0, -0.0],
    ("self_attention", "n_heads"): COUNT,
    ("self_attention", "head_dim"): COUNT,
    ("self_attention", "out_features"): COUNT,
    ("token_embedding", "n_tokens"): COUNT,
    ("token_embedding", "features"): COUNT,
}
# Another field may be the one that no longer fits: a kernel of another rank leaves the stride behind.
PARTNERS = {"kernel_size": "kernel_size|stride|padding", "groups": "groups", "shape": "shape|channel_axis"}


def test_tables_cover_every_field_of_every_operation() -> None:
    assert set(VALID) == set(OPS)
    assert {(name, field) for name, values in VALID.items() for field in values} == set(BAD)
    assert set(BAD) == {(name, f.name) for name, cls in OPS.items() for f in fields(cls) if f.compare}


@pytest.mark.parametrize("name", VALID)
def test_valid_fields(name: str) -> None:
    op = OPS[name](**VALID[name])
    assert {f.name: getattr(op, f.name) for f in fields(op) if f.compare} == VALID[name]
    assert hash(op) == hash(OPS[name](**VALID[name]))
    assert op_from_dict(op.to_dict()) == op


@pytest.mark.parametrize(
    ("name", "field", "value"), [(name, field, value) for (name, field), values in BAD.items() for value in values]
)
def test_bad_field_is_refused_by_name(name: str, field: str, value: Any) -> None:
    with pytest.raises(ArchitectureError, match=rf"^{name}: .*({PARTNERS.get(field, field)})"):
        OPS[name](**{**VALID[name], field: value})


def test_negative_slope_belongs_to_leaky_relu() -> None:
    with pytest.raises(ArchitectureError, match="negative_slope belongs to leaky_relu but function is 'relu'"):
        Activation("relu", 0.2)


# One spelling.


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Conv(4, (3, 3)), Conv(4, (3, 3), (1, 1), (0, 0), (1, 1), 1, True)),
        (DepthwiseConv((3,)), DepthwiseConv((3,), (1,), (0,), (1,))),
        (Pool("max", (2, 3)), Pool("max", (2, 3), (2, 3), (0, 0))),
        (Activation("leaky_relu", 0), Activation("leaky_relu", 0.0)),
        (Activation("leaky_relu", 0.0), Activation("leaky_relu", -0.0)),
        (Dropout(0), Dropout(0.0)),
        (Dropout(0.0), Dropout(-0.0)),
        (BatchNorm(1), BatchNorm(1.0)),
        (LayerNorm(1), LayerNorm(1.0)),
        (LayerScale(0), LayerScale(-0.0)),
        (RMSNorm(1), RMSNorm(1.0)),
        (Scale(2), Scale(2.0)),
    ],
)
def test_equal_operations_have_one_key(first: Op, second: Op) -> None:
    assert first == second
    assert first.key == second.key
    assert first.to_dict() == second.to_dict()


def test_window_fills_in_defaults() -> None:
    window = Conv(4, (3, 5)).window
    assert (window.kernel_size, window.stride, window.padding, window.dilation) == ((3, 5), (1, 1), (0, 0), (1, 1))
    window = Pool("max", (2, 3)).window
    assert (window.stride, window.padding, window.dilation) == ((2, 3), (0, 0), (1, 1))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_keeps_the_size(rank: int, kernel: int, dilation: int) -> None:
    spec = Input((2, *range(6, 6 + rank))).infer([])
    conv = Conv.same(rank, 4, kernel, dilation=dilation, bias=False)
    assert conv.infer([spec]) == spec.with_channels(4)
    assert not conv.bias
    assert Conv.same(rank, 4, kernel, stride=2, dilation=dilation).infer([spec]).spatial == tuple(
        (n + 1) // 2 for n in spec.spatial
    )
    assert DepthwiseConv.same(rank, kernel).infer([spec]) == spec
    assert DepthwiseConv.same(rank, kernel, stride=2).infer([spec]).spatial == tuple((n + 1) // 2 for n in spec.spatial)


def test_same_takes_one_entry_per_axis() -> None:
    assert Conv.same(2, 4, (3, 5), stride=(1, 2), groups=2) == Conv(4, (3, 5), (1, 2), (1, 2), groups=2)
    assert DepthwiseConv.same(2, (3, 5), stride=(1, 2), bias=False) == DepthwiseConv((3, 5), (1, 2), (1, 2), bias=False)


@pytest.mark.parametrize(
    ("op", "wider"),
    [
        (Conv(4, (3,)), Conv(7, (3,))),
        (Linear(4, bias=False), Linear(7, bias=False)),
        (SelfAttention(2, 3, 4), SelfAttention(2, 3, 7)),
        (TokenEmbedding(9, 4), TokenEmbedding(9, 7)),
        (ColumnEmbedding(1, 9, 4), ColumnEmbedding(1, 9, 7)),
        (BatchNorm(), BatchNorm()),
        (Input((4,)), Input((4,))),
    ],
)
def test_with_width(op: Op, wider: Op) -> None:
    assert op.with_width(7) == wider


@pytest.mark.parametrize(("width", "bucket"), [(1, "w0"), (2, "w1"), (3, "w1"), (31, "w4"), (32, "w5"), (33, "w5")])
def test_width_bucket(width: int, bucket: str) -> None:
    assert width_bucket(width) == bucket


# To dictionaries and back.


@settings(max_examples=300, deadline=None)
@given(ops())
def test_dictionary_round_trip(op: Op) -> None:
    again = op_from_dict(op.to_dict())
    assert again == op
    assert again.key == op.key
    assert type(again) is type(op)


@settings(max_examples=200, deadline=None)
@given(ops(), ops())
def test_key_is_equal_exactly_for_equal_operations(a: Op, b: Op) -> None:
    assert (a.key == b.key) == (a == b)


def test_dictionary_leaves_defaults_out() -> None:
    assert Conv(4, (3, 3), padding=(0, 0)).to_dict() == {"op": "conv", "out_channels": 4, "kernel_size": (3, 3)}
    assert Input((3,)).to_dict() == {"op": "input", "shape": (3,)}


def test_every_default_is_valid() -> None:
    for name, cls in OPS.items():
        required = {f.name: VALID[name][f.name] for f in fields(cls) if f.default is MISSING}
        assert op_from_dict({"op": name, **required}) == cls(**required)
