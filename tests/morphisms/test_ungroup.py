"""Ungroup: every output channel reads every input channel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import Conv, DepthwiseConv, GlobalPool, Input, Linear, Op
from optuna_nas_morph.morphisms import Ungroup, Widen
from tests.morphisms.architectures import HAND_MADE, graph
from tests.morphisms.contract import MorphismContract
from tests.morphisms.same_function import random_weights

GROUPED: dict[str, tuple[Op, Op]] = {
    "two": (Conv(4, (3, 2), (2, 1), (1, 1), (1, 2), groups=2), Conv(4, (3, 2), (2, 1), (1, 1), (1, 2))),
    "three": (Conv(9, (1, 1), groups=3, bias=False), Conv(9, (1, 1), bias=False)),
    "depthwise": (DepthwiseConv((2, 3), (1, 2), (0, 1)), Conv(6, (2, 3), (1, 2), (0, 1))),
    "multiplier": (DepthwiseConv((3, 3), multiplier=2, bias=False), Conv(12, (3, 3), bias=False)),
}


def on(op: Op) -> Architecture:
    return graph(("x", Input((6, 7, 6))), ("conv", op), ("pool", GlobalPool("max")), ("fc", Linear(3)))


class TestContract(MorphismContract):
    morphisms = (Ungroup(),)
    draws = False
    extra = {name: on(old) for name, (old, _) in GROUPED.items()}


@pytest.mark.parametrize("name", GROUPED)
def test_geometry_stays(name: str) -> None:
    old, new = GROUPED[name]
    child = Ungroup().apply(on(old), ("conv",))
    assert child["conv"].op == new
    assert child.specs["conv"] == on(old).specs["conv"]


def test_blocks_are_on_the_diagonal() -> None:
    parent = on(GROUPED["two"][0])
    before = random_weights(parent, np.random.default_rng(0))
    after = Ungroup().transfer(parent, Ungroup().apply(parent, ("conv",)), ("conv",), before, np.random.default_rng(0))
    assert torch.equal(after["conv.weight"][:2, :3], before["conv.weight"][:2])
    assert torch.equal(after["conv.weight"][2:, 3:], before["conv.weight"][2:])
    assert not after["conv.weight"][:2, 3:].any() and not after["conv.weight"][2:, :3].any()
    assert after["conv.bias"] is before["conv.bias"]


def test_what_is_not_grouped_can_widen() -> None:
    parent = HAND_MADE["layouts"]
    assert ("grouped",) not in Widen().sites(parent)
    assert ("grouped",) in Widen().sites(Ungroup().apply(parent, ("grouped",)))


def test_refusals() -> None:
    assert Ungroup().refusal(HAND_MADE["conv2d"], ("conv_a",)) == "it has one group"
    assert Ungroup().refusal(HAND_MADE["conv2d"], ("fc",)) == "linear is no convolution"
    single = graph(("x", Input((1, 5))), ("dw", DepthwiseConv((3,))), ("pool", GlobalPool()), ("fc", Linear(2)))
    assert Ungroup().sites(single) == ()
