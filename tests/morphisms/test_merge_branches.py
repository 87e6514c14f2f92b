"""MergeBranches: the sum of two layers as one layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import Add, BatchNorm, Conv, DepthwiseConv, GlobalPool, Input, Linear, Op
from optuna_nas_morph.morphisms import Branch, FoldBatchNorm, MergeBranches
from tests.morphisms.architectures import HAND_MADE, RELU, graph
from tests.morphisms.contract import MorphismContract
from tests.morphisms.same_function import difference, random_weights


def parallel(*ops: Op, sizes: tuple[int, ...] = (7, 6)) -> Architecture:
    """Layers that read the same and are summed, between two others."""
    names = tuple(f"term_{i}" for i in range(len(ops)))
    return graph(
        ("x", Input((2, *sizes))),
        ("first", Conv.same(len(sizes), 4, 1)),
        *((name, op, "first") for name, op in zip(names, ops, strict=True)),
        ("sum", Add(), names),
        ("relu", RELU),
        ("pool", GlobalPool("max")),
        ("fc", Linear(3)),
    )


MERGED: dict[str, tuple[Op, Op, Op]] = {
    "same": (Conv.same(2, 4, 3), Conv.same(2, 4, 3), Conv.same(2, 4, 3)),
    "point": (Conv.same(2, 4, 3), Conv(4, (1, 1)), Conv.same(2, 4, 3)),
    "larger_second": (Conv(4, (1, 1)), Conv.same(2, 4, 5), Conv.same(2, 4, 5)),
    "crossed": (Conv.same(2, 4, (1, 5)), Conv.same(2, 4, (3, 1)), Conv.same(2, 4, (3, 5))),
    "stride": (Conv.same(2, 4, 3, stride=2), Conv(4, (1, 1), (2, 2)), Conv.same(2, 4, 3, stride=2)),
    "dilation": (Conv.same(2, 4, 3, dilation=2), Conv(4, (1, 1)), Conv.same(2, 4, 3, dilation=2)),
    "far_right": (Conv(4, (1, 1), (4, 4)), Conv(4, (3, 2), (4, 4)), Conv(4, (3, 2), (4, 4))),
    "shifted": (Conv(4, (3, 3), (4, 6)), Conv(4, (3, 3), (4, 6), (1, 1)), Conv(4, (4, 4), (4, 6), (1, 1))),
    "even": (Conv(4, (2, 2)), Conv(4, (4, 4), padding=(1, 1)), Conv(4, (4, 4), padding=(1, 1))),
    "bias": (Conv.same(2, 4, 3, bias=False), Conv(4, (1, 1)), Conv.same(2, 4, 3)),
    "no_bias": (*[Conv.same(2, 4, 3, bias=False)] * 2, Conv.same(2, 4, 3, bias=False)),
    "groups": (
        Conv(4, (3, 3), padding=(1, 1), groups=2),
        Conv(4, (1, 1), groups=2),
        Conv(4, (3, 3), (), (1, 1), groups=2),
    ),
    "depthwise": (
        DepthwiseConv((3, 3), padding=(1, 1), multiplier=2),
        DepthwiseConv((1, 1), multiplier=2, bias=False),
        DepthwiseConv((3, 3), padding=(1, 1), multiplier=2),
    ),
}
"""Two layers and their sum."""

THREE = parallel(Conv.same(2, 4, 3), Conv(4, (1, 1), bias=False), Conv.same(2, 4, 5))
MLP = graph(
    ("x", Input((5,))),
    ("a", Linear(4, bias=False), "x"),
    ("b", Linear(4), "x"),
    ("sum", Add(), ("a", "b")),
    ("relu", RELU),
    ("fc", Linear(2)),
)


class TestContract(MorphismContract):
    morphisms = (MergeBranches(),)
    draws = False
    adds_parameters = False
    keeps_nodes = False
    mixes = True
    extra = {name: parallel(a, b) for name, (a, b, _) in MERGED.items()} | {"three": THREE, "mlp_sum": MLP}


@pytest.mark.parametrize("name", MERGED)
def test_the_layer_that_is_their_sum(name: str) -> None:
    a, b, both = MERGED[name]
    child = MergeBranches().apply(parallel(a, b), ("sum", "0", "1"))
    assert child["term_0"].op == both
    assert set(child.index) == {"x", "first", "term_0", "relu", "pool", "fc"}
    assert child["relu"].inputs == ("term_0",)


def test_other_terms_stay() -> None:
    child = MergeBranches().apply(THREE, ("sum", "1", "2"))
    assert child["sum"].inputs == ("term_0", "term_1")
    assert child["term_1"].op == Conv.same(2, 4, 5)
    assert MergeBranches().sites(child) == (("sum", "0", "1"),)


def test_weights_add_up_in_place() -> None:
    parent = parallel(Conv.same(2, 4, 3), Conv(4, (1, 1), bias=False))
    child = MergeBranches().apply(parent, ("sum", "0", "1"))
    before = random_weights(parent, np.random.default_rng(0))
    after = MergeBranches().transfer(parent, child, ("sum", "0", "1"), before, np.random.default_rng(0))
    expected = before["term_0.weight"].clone()
    expected[:, :, 1:2, 1:2] += before["term_1.weight"]
    assert torch.equal(after["term_0.weight"], expected)
    assert torch.equal(after["term_0.bias"], before["term_0.bias"])


def test_it_undoes_a_branch() -> None:
    parent = HAND_MADE["conv2d"]
    split = Branch("add").apply(parent, ("conv_b",))
    (site,) = MergeBranches().sites(split)
    assert MergeBranches().apply(split, site).fingerprint == parent.fingerprint


def test_a_block_of_repvgg_becomes_one_convolution() -> None:
    """Ding et al. (2021, figure 4), without the branch of the identity."""
    parent = graph(
        ("x", Input((2, 6, 6))),
        ("conv_3", Conv.same(2, 4, 3, bias=False), "x"),
        ("norm_3", BatchNorm(), "conv_3"),
        ("conv_1", Conv(4, (1, 1), bias=False), "x"),
        ("norm_1", BatchNorm(), "conv_1"),
        ("sum", Add(), ("norm_3", "norm_1")),
        ("relu", RELU),
        ("pool", GlobalPool()),
        ("fc", Linear(3)),
    )
    rng = np.random.default_rng(0)
    weights = before = random_weights(parent, rng)
    architecture = parent
    for morphism in (FoldBatchNorm(), FoldBatchNorm(), MergeBranches()):
        site = morphism.sites(architecture)[0]
        child = morphism.apply(architecture, site)
        weights = morphism.transfer(architecture, child, site, weights, rng)
        architecture = child
    assert [node.op.op_name for node in architecture.nodes] == ["input", "conv", "activation", "global_pool", "linear"]
    assert difference(parent, before, architecture, weights, train=False) < 1e-12


@pytest.mark.parametrize(
    ("architecture", "site", "reason"),
    [
        (parallel(Conv.same(2, 4, 3), Conv.same(2, 4, 3, dilation=2)), "01", "no layer is the sum of 'term_0' and"),
        (parallel(Conv.same(2, 4, 3), DepthwiseConv.same(2, 3)), "01", "no layer is the sum of"),
        (parallel(Conv(4, (3, 3), padding=(1, 1), groups=2), Conv.same(2, 4, 3)), "01", "no layer is the sum of"),
        (parallel(Conv(4, (2, 2), (2, 2)), Conv(4, (2, 2), (2, 2), (0, 0), (2, 2)), sizes=(5, 5)), "01", "no layer is"),
        (parallel(Conv(4, (1, 1), (2, 2)), Conv(4, (2, 2), (1, 1), (0, 0), (3, 3)), sizes=(6, 6)), "01", "no layer is"),
        (parallel(Conv(4, (1, 1), (9, 9), (1, 1)), Conv(4, (2, 2), (9, 9), (0, 0), (2, 2))), "01", "no layer is"),
        (THREE, "03", "add 'sum' has no such terms"),
        (THREE, "10", "add 'sum' has no such terms"),
        (HAND_MADE["residual"], ("a_add", "0", "1"), "they read different nodes"),
        (graph(*[("x", Input((3,))), ("a", Linear(2), "x"), ("b", Linear(2), "x")], ("sum", Add(), ("a", "b"))), "01",
         "it is the network's output"),
    ],
)  # fmt: skip
def test_refusals(architecture: Architecture, site: str | tuple[str, ...], reason: str) -> None:
    place = site if isinstance(site, tuple) else ("sum", *site)
    assert str(MergeBranches().refusal(architecture, place)).startswith(reason)


def test_what_something_else_reads_is_refused() -> None:
    parent = graph(
        ("x", Input((3,))),
        ("a", Linear(2), "x"),
        ("b", Linear(2), "x"),
        ("sum", Add(), ("a", "b")),
        ("again", Add(), ("sum", "a")),
        ("fc", Linear(2)),
    )
    assert MergeBranches().refusal(parent, ("sum", "0", "1")) == "something else reads one of them"
    twice = graph(("x", Input((3,))), ("a", Linear(2), "x"), ("sum", Add(), ("a", "a")), ("fc", Linear(2)))
    assert MergeBranches().refusal(twice, ("sum", "0", "1")) == "something else reads one of them"
