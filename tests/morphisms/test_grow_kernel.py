"""GrowKernel: a ring of zeros around a kernel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import Conv, DepthwiseConv, GlobalPool, Input, Linear, Op
from optuna_nas_morph.morphisms import GrowKernel
from tests.morphisms.architectures import HAND_MADE, graph
from tests.morphisms.contract import MorphismContract
from tests.morphisms.same_function import difference, random_weights


def one(op: Op, *sizes: int) -> Architecture:
    return graph(("x", Input((3, *sizes))), ("conv", op), ("pool", GlobalPool("max")), ("fc", Linear(3)))


GEOMETRIES: dict[str, tuple[Op, Op]] = {
    "plain": (Conv.same(2, 4, 3), Conv.same(2, 4, 5)),
    "one": (Conv(4, (1, 1)), Conv.same(2, 4, 3)),
    "even": (Conv(4, (2, 2)), Conv(4, (4, 4), padding=(1, 1))),
    "anisotropic": (Conv(4, (3, 1), padding=(1, 0)), Conv(4, (5, 3), padding=(2, 1))),
    "stride": (Conv.same(2, 4, 3, stride=2), Conv.same(2, 4, 5, stride=2)),
    "dilation": (Conv.same(2, 4, 3, dilation=(2, 1)), Conv.same(2, 4, 5, dilation=(2, 1))),
    "all": (Conv(4, (2, 3), (2, 1), (0, 2), (3, 1)), Conv(4, (4, 5), (2, 1), (3, 3), (3, 1))),
    "bias": (Conv(4, (3, 3), bias=False), Conv(4, (5, 5), padding=(1, 1), bias=False)),
    "grouped": (Conv(6, (3, 3), groups=2), Conv(6, (5, 5), padding=(1, 1), groups=2)),
    "depthwise": (DepthwiseConv((3, 2), multiplier=2), DepthwiseConv((5, 4), padding=(1, 1), multiplier=2)),
}
"""A convolution and what it grows to."""


def on(op: Op) -> Architecture:
    return graph(("x", Input((4, 11, 10))), ("conv", op), ("pool", GlobalPool("max")), ("fc", Linear(3)))


class TestContract(MorphismContract):
    morphisms = (GrowKernel(), GrowKernel(4, 9))
    draws = False
    extra = {name: on(old) for name, (old, _) in GEOMETRIES.items()}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_geometry(name: str) -> None:
    old, new = GEOMETRIES[name]
    child = GrowKernel().apply(on(old), ("conv",))
    assert child["conv"].op == new
    assert child.specs["conv"] == on(old).specs["conv"]


def test_the_old_kernel_is_in_the_middle_of_zeros() -> None:
    parent = on(Conv(4, (3, 2)))
    child = GrowKernel(4).apply(parent, ("conv",))
    before = random_weights(parent, np.random.default_rng(0))
    after = GrowKernel(4).transfer(parent, child, ("conv",), before, np.random.default_rng(0))
    weight = after["conv.weight"].clone()
    assert torch.equal(weight[:, :, 2:5, 2:4], before["conv.weight"])
    weight[:, :, 2:5, 2:4] = 0
    assert not weight.any()
    assert all(after[name] is before[name] for name in before if name != "conv.weight")


@pytest.mark.parametrize(
    ("op", "sizes", "morphism", "reason"),
    [
        (Conv.same(1, 4, 7), (9,), GrowKernel(), "its kernel would be larger than max_size=7"),
        (Conv.same(1, 4, 5), (9,), GrowKernel(4), "its kernel would be larger than max_size=7"),
        (Conv(4, (5, 7)), (9, 9), GrowKernel(), "its kernel would be larger than max_size=7"),
        (Conv.same(1, 4, 3), (4,), GrowKernel(), "its kernel would reach further than its input of 4 is large"),
        (
            Conv.same(1, 4, 3, dilation=2),
            (8,),
            GrowKernel(),
            "its kernel would reach further than its input of 8 is large",
        ),
        (Conv(4, (1, 1)), (5, 1), GrowKernel(), "its kernel would reach further than its input of 1 is large"),
    ],
)
def test_refusals(op: Op, sizes: tuple[int, ...], morphism: GrowKernel, reason: str) -> None:
    assert morphism.sites(one(op, *sizes)) == ()
    with pytest.raises(MorphismError) as e:
        morphism.apply(one(op, *sizes), ("conv",))
    assert str(e.value) == f"{morphism} cannot be applied at 'conv': {reason}."


@pytest.mark.parametrize(("op", "size"), [(Conv.same(1, 4, 3), 5), (Conv.same(1, 4, 3, dilation=2), 9)])
def test_a_kernel_may_be_as_large_as_its_input(op: Op, size: int) -> None:
    parent = one(op, size)
    child = GrowKernel().apply(parent, ("conv",))
    before = random_weights(parent, np.random.default_rng(0))
    after = GrowKernel().transfer(parent, child, ("conv",), before, np.random.default_rng(0))
    assert difference(parent, before, child, after, train=False) <= 1e-12


def test_only_convolutions_have_kernels() -> None:
    parent = HAND_MADE["branches"]
    assert GrowKernel().refusal(parent, ("pooled",)) == "pool has no kernel that can grow"
    assert GrowKernel().refusal(parent, ("fc",)) == "linear has no kernel that can grow"
    assert GrowKernel().refusal(parent, ("nowhere",)) == "there is no such node"
    assert GrowKernel().refusal(parent, ("stem", "stem")) == "there is no such node"
    assert GrowKernel().refusal(HAND_MADE["transformer"], ("patches",)) == "patch_embedding has no kernel that can grow"


@pytest.mark.parametrize("by", [0, 1, 3, -2])
def test_bad_growth(by: int) -> None:
    with pytest.raises(MorphismError, match=f"by must be even and positive but got {by}"):
        GrowKernel(by)
