"""Branch: one layer becomes two with the same input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import Activation, Add, BatchNorm, Concat, Conv, DepthwiseConv, GlobalPool, Input, Linear
from optuna_nas_morph.morphisms import Branch, Deepen, InsertActivation, Site, Widen
from tests.morphisms.architectures import HAND_MADE, RELU, graph
from tests.morphisms.contract import MorphismContract, train
from tests.morphisms.same_function import random_weights


class TestSum(MorphismContract):
    morphisms = (Branch("add"),)
    draws = True


class TestConcatenation(MorphismContract):
    morphisms = (Branch(),)
    draws = False
    adds_parameters = False
    test_what_is_new_can_learn = None  # nothing is new: a half may be all units of a layer that are dead


PARENT = graph(
    ("x", Input((2, 6, 5))),
    ("a", Conv.same(2, 5, 3)),
    ("bn", BatchNorm()),
    ("relu", RELU),
    ("dw", DepthwiseConv.same(2, 3)),
    ("b", Conv.same(2, 4, 3, stride=2)),
    ("pool", GlobalPool()),
    ("fc", Linear(3)),
)


def added(child: Architecture) -> list[object]:
    return [node.op for node in child.nodes if node.name not in PARENT.index]


def test_norms_and_activations_go_along_with_the_halves() -> None:
    child = Branch().apply(PARENT, ("a",))
    assert child["a"].op == Conv.same(2, 3, 3)
    assert added(child) == [Conv.same(2, 2, 3), BatchNorm(), RELU, Concat()]
    assert child["branch_concat_1"].inputs == ("relu", "branch2_activation_1")
    assert child["dw"].inputs == ("branch_concat_1",)
    before = random_weights(PARENT, np.random.default_rng(0))
    after = Branch().transfer(PARENT, child, ("a",), before, np.random.default_rng(0))
    for name, twin in (("a", "branch0_conv_1"), ("bn", "branch1_batch_norm_1")):
        for tensor in ("weight", "bias"):
            both = torch.cat([after[f"{name}.{tensor}"], after[f"{twin}.{tensor}"]])
            assert torch.equal(both, before[f"{name}.{tensor}"])


def test_a_branch_can_grow_alone() -> None:
    child = Branch().apply(PARENT, ("a",))
    assert ("branch0_conv_1",) in Widen(2.0).sites(child) and ("a",) in Widen(2.0).sites(child)
    wider = Widen(2.0).apply(child, ("branch0_conv_1",))
    assert (wider.specs["relu"].n_channels, wider.specs["branch2_activation_1"].n_channels) == (3, 4)
    assert ("branch2_activation_1",) in Deepen().sites(child)


def test_the_parts_of_a_sum_add_up_and_differ_entry_by_entry() -> None:
    morphism = Branch("add")
    child = morphism.apply(PARENT, ("a",))
    assert added(child) == [Conv.same(2, 5, 3), Add()]
    before = random_weights(PARENT, np.random.default_rng(0))
    after = morphism.transfer(PARENT, child, ("a",), before, np.random.default_rng(0))
    for tensor in ("weight", "bias"):
        whole, part = before[f"a.{tensor}"], after[f"a.{tensor}"]
        torch.testing.assert_close(part + after[f"branch0_conv_1.{tensor}"], whole, rtol=1e-15, atol=0)
        shares = part / whole
        assert bool((shares > 0.24).all()) and bool((shares < 0.76).all())
        assert len(torch.unique(shares)) == shares.numel()


def test_branches_of_a_sum_part_once_they_differ() -> None:
    child = Branch("add").apply(PARENT, ("a",))
    before = random_weights(PARENT, np.random.default_rng(0))
    weights = Branch("add").transfer(PARENT, child, ("a",), before, np.random.default_rng(0))

    def gap(architecture: Architecture, given: dict[str, torch.Tensor]) -> float:
        """How far the steps of the two kernels are apart, relative to one of them."""
        trained = train(architecture, given, 3)
        steps = [trained[f"{n}.weight"] - given[f"{n}.weight"] for n in ("a", "branch0_conv_1")]
        return float((steps[0] - steps[1]).norm() / steps[1].norm())

    assert gap(child, weights) < 1e-12
    grown = InsertActivation("silu").apply(child, ("a",))
    after = InsertActivation("silu").transfer(child, grown, ("a",), weights, np.random.default_rng(0))
    assert gap(grown, after) > 1e-5


@pytest.mark.parametrize(
    ("join", "site", "reason"),
    [
        ("concat", ("dw",), "each of its groups reads other channels"),
        ("concat", ("fc",), "nothing is inserted behind the network's output"),
        ("add", ("fc",), "nothing is inserted behind the network's output"),
        ("add", ("relu",), "activation is no layer that can be split"),
        ("add", ("nowhere",), "there is no such node"),
    ],
)
def test_refusals(join: str, site: Site, reason: str) -> None:
    with pytest.raises(MorphismError) as e:
        Branch(join).apply(PARENT, site)
    assert str(e.value) == f"{Branch(join)} cannot be applied at {site[0]!r}: {reason}."


def test_one_channel_has_no_halves() -> None:
    parent = graph(("x", Input((4,))), ("a", Linear(1)), ("act", Activation("tanh")), ("b", Linear(2)))
    assert Branch().refusal(parent, ("a",)) == "it has one channel"
    assert Branch("add").sites(parent) == (("a",),)


def test_grouped_convolutions_are_split_into_sums_only() -> None:
    assert ("grouped",) in Branch("add").sites(HAND_MADE["layouts"])
    assert ("grouped",) not in Branch().sites(HAND_MADE["layouts"])


def test_bad_joins() -> None:
    with pytest.raises(MorphismError, match=r"join must be one of \('concat', 'add'\) but got 'product'"):
        Branch("product")
