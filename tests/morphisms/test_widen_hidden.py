"""WidenHidden: widths that norms over channels read."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from optuna_nas_morph import presets
from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import (
    Activation,
    Add,
    Concat,
    Conv,
    DepthwiseConv,
    Flatten,
    GlobalPool,
    Input,
    LayerNorm,
    LayerScale,
    Linear,
    Multiply,
    PatchEmbedding,
    Pool,
    RMSNorm,
    Scale,
    ToTokens,
)
from optuna_nas_morph.morphisms import Widen, WidenHidden
from tests.morphisms.architectures import HAND_MADE, RELU, graph
from tests.morphisms.contract import MorphismContract
from tests.morphisms.same_function import random_weights
from tests.morphisms.transformers import TRANSFORMERS, post_norm, pre_norm

MAPS = graph(
    ("x", Input((3, 4, 4))),
    ("conv", Conv.same(2, 5, 3)),
    ("pooled", Pool("avg", (2, 2)), "conv"),
    ("halved", Scale(0.5), "pooled"),
    ("norm", LayerNorm()),
    ("relu", RELU),
    ("largest", Pool("max", (2, 2)), "relu"),
    ("tokens", ToTokens(), "largest"),
    ("flat", Flatten()),
    ("fc", Linear(3), "flat"),
    ("skipped", GlobalPool(), "halved"),
    ("fc_2", Linear(3), "skipped"),
    ("add", Add(), ("fc", "fc_2")),
)
"""Means that are pooled and read without a norm; zeros through all that keeps them."""


class TestContract(MorphismContract):
    morphisms = (WidenHidden(), WidenHidden(2.5))
    draws = True
    mixes = True
    extra = {**TRANSFORMERS, "maps": MAPS}


@pytest.mark.parametrize("norm", [LayerNorm, RMSNorm])
def test_all_that_is_tied_grows(norm: type[LayerNorm] | type[RMSNorm]) -> None:
    parent = pre_norm(norm)
    child = WidenHidden(2).apply(parent, ("embed",))
    assert {name for name in child.index if child.specs[name].n_channels == 12} == {
        name for name in parent.index if parent.specs[name].n_channels == 6
    }
    assert child["norm_a"].op == norm(5e-4)
    assert child["attention"].op.to_dict() == {**parent["attention"].op.to_dict(), "out_features": 12}
    assert Widen(2).refusal(parent, ("embed",)) is not None


def test_new_channels_hold_the_mean_under_layer_norm() -> None:
    parent, after = _transferred(pre_norm(LayerNorm))
    for key, axis in [("embed.weight", 1), ("position.weight", 1), ("attention.out.weight", 0), ("down.bias", 0)]:
        old, new = after[key].split([6, 3], axis)
        assert torch.equal(old, parent[key])
        assert torch.allclose(new, parent[key].mean(axis, keepdim=True).expand_as(new))
    assert torch.allclose(after["norm_a.weight"][:6], parent["norm_a.weight"] * math.sqrt(6 / 9))
    assert torch.equal(after["norm_a.bias"], torch.cat([parent["norm_a.bias"], torch.zeros(3).double()]))


def test_new_channels_hold_0_under_rms_norm() -> None:
    parent, after = _transferred(pre_norm(RMSNorm))
    for key, axis in [("embed.weight", 1), ("position.weight", 1), ("attention.out.weight", 0), ("down.bias", 0)]:
        old, new = after[key].split([6, 3], axis)
        assert torch.equal(old, parent[key])
        assert not new.any()
    assert after["up.weight"][:, 6:].abs().min() > 0  # what reads them behind the norm is drawn, so that they learn


def test_a_second_widening_starts_from_the_first() -> None:
    parent = pre_norm(LayerNorm)
    child = WidenHidden().apply(WidenHidden().apply(parent, ("embed",)), ("embed",))
    assert child["norm_a"].op.to_dict()["eps"] == pytest.approx(1e-3 * 6 / 14)


@pytest.mark.parametrize(
    ("architecture", "name", "reason"),
    [
        (post_norm(LayerNorm), "patches", "it passes add 'add_b'"),
        (HAND_MADE["residual"], "stem", "no norm over channels reads it"),
        (HAND_MADE["mlp"], "c", "'cat' holds other channels too"),
        (
            graph(("x", Input((3,))), ("norm", LayerNorm()), ("fc", Linear(2))),
            "x",
            "its width is tied to network input 'x'",
        ),
        (graph(("x", Input((3,))), ("fc", Linear(4)), ("norm", RMSNorm())), "fc", "tied to network output 'norm'"),
        (presets.convnext((3, 16, 16), 4).seed, "conv_4", "it passes depthwise_conv 'depthwise_conv_2'"),
        (pre_norm(LayerNorm), "gelu", "no channel group starts there"),
    ],
)
def test_refusals(architecture: Architecture, name: str, reason: str) -> None:
    assert reason in str(WidenHidden().refusal(architecture, (name,)))


BETWEEN = {
    "activation": (Activation("relu"),),
    "sigmoid": (Activation("sigmoid"),),
    "depthwise": (DepthwiseConv.same(1, 3),),
    "factors": (LayerScale(),),
    "max": (Pool("max", (2,)),),
    "mean": (Pool("avg", (2,)),),
    "norm": (LayerNorm(),),
}


@pytest.mark.parametrize("name", BETWEEN)
@pytest.mark.parametrize("side", ["before", "behind"])
def test_only_what_keeps_means_or_zeros_is_passed(name: str, side: str) -> None:
    first, last = ((*BETWEEN[name], LayerNorm()), (LayerNorm(), *BETWEEN[name]))
    ops = first if side == "before" else last
    rows = [(f"op_{i}", op) for i, op in enumerate(ops)]
    parent = graph(("x", Input((2, 6))), ("conv", Conv.same(1, 4, 1)), *rows, ("pool", GlobalPool()), ("fc", Linear(2)))
    passes = {"before": {"mean"}, "behind": {"activation", "factors", "max", "mean"}}[side]
    assert (WidenHidden().refusal(parent, ("conv",)) is None) == (name in passes)


def test_other_readers_are_refused() -> None:
    parent = graph(
        ("x", Input((2, 6))),
        ("patches", PatchEmbedding(4, (2,)), "x"),
        ("norm", LayerNorm(), "patches"),
        ("product", Multiply(), ("norm", "norm")),
        ("pool", GlobalPool(), "product"),
        ("fc", Linear(2), "pool"),
    )
    assert WidenHidden().refusal(parent, ("patches",)) == "it passes multiply 'product'"


def test_means_over_positions_too_are_refused() -> None:
    maps = (("x", Input((2, 3))), ("conv", Conv.same(1, 4, 1)), ("flat", Flatten()))
    normed = graph(*maps, ("norm", LayerNorm()), ("fc", Linear(2)))
    assert WidenHidden().refusal(normed, ("conv",)) == "'norm' holds it at several positions"
    mixed = (("mix", Linear(12)), ("add", Add(), ("flat", "mix")))
    tied = graph(*maps, *mixed, ("norm", RMSNorm()), ("fc", Linear(2)))
    assert WidenHidden().refusal(tied, ("conv",)) == "'mix' holds it at several positions"


def test_both_kinds_of_norm_are_refused() -> None:
    parent = graph(
        ("x", Input((3,))),
        ("a", Linear(4), "x"),
        ("layer", LayerNorm(), "a"),
        ("rms", RMSNorm(), "a"),
        ("b", Linear(2), "layer"),
        ("c", Linear(2), "rms"),
        ("cat", Concat(), ("b", "c")),
        ("fc", Linear(2), "cat"),
    )
    assert WidenHidden().refusal(parent, ("a",)) == "it passes rms_norm 'rms'"


def test_the_width_of_a_feed_forward_is_widened_as_any_other() -> None:
    parent = pre_norm(LayerNorm)
    assert Widen(2).apply(parent, ("up",))["up"].op == Linear(18)


@pytest.mark.parametrize("factor", [1, 0.5, 17, math.nan])
def test_factor(factor: float) -> None:
    with pytest.raises(MorphismError, match="factor must be above 1 and at most 16 but got"):
        WidenHidden(factor)


def _transferred(parent: Architecture) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    child = WidenHidden().apply(parent, ("embed",))
    before = random_weights(parent, np.random.default_rng(0))
    return before, WidenHidden().transfer(parent, child, ("embed",), before, np.random.default_rng(0))
