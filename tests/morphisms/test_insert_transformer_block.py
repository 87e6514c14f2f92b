"""InsertTransformerBlock: attention and feed-forward that start as 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import Activation, Add, LayerNorm, Linear, RMSNorm, SelfAttention
from optuna_nas_morph.morphisms import InsertTransformerBlock
from tests.morphisms.architectures import HAND_MADE
from tests.morphisms.contract import MorphismContract
from tests.morphisms.same_function import random_weights
from tests.morphisms.transformers import TRANSFORMERS, post_norm, pre_norm

PRE_NORM = pre_norm(RMSNorm)


class TestContract(MorphismContract):
    morphisms = (InsertTransformerBlock(2, 2), InsertTransformerBlock(activation="relu"))
    draws = True
    extra = TRANSFORMERS


def test_the_block() -> None:
    child = InsertTransformerBlock(2, 3, "silu").apply(PRE_NORM, ("add_b",))
    new = [node for node in child.nodes if node.name not in PRE_NORM.index]
    heads, feed_forward = SelfAttention(2, 3, 6), [Linear(18), Activation("silu"), Linear(6)]
    assert [node.op for node in new] == [RMSNorm(), heads, Add(), RMSNorm(), *feed_forward, Add()]
    by_stem = {node.name.rpartition("_")[0]: node for node in new}
    assert by_stem["add_a"].inputs == ("add_b", "attention_1")
    assert by_stem["norm_b"].inputs == ("add_a_1",)
    assert by_stem["add_b"].inputs == ("add_a_1", "down_1")
    assert child["norm"].inputs == ("add_b_1",)


def test_norms_are_like_the_one_that_reads_the_place() -> None:
    child = InsertTransformerBlock().apply(PRE_NORM, ("drop",))
    assert child["norm_a_1"].op == child["norm_b_1"].op == RMSNorm(1e-3)


def test_narrow_tokens_have_heads_of_one() -> None:
    assert InsertTransformerBlock(8).apply(PRE_NORM, ("add_b",))["attention_1"].op == SelfAttention(8, 1, 6)


def test_what_comes_last_in_a_branch_is_zero() -> None:
    child = InsertTransformerBlock().apply(PRE_NORM, ("add_b",))
    before = random_weights(PRE_NORM, np.random.default_rng(0))
    after = InsertTransformerBlock().transfer(PRE_NORM, child, ("add_b",), before, np.random.default_rng(0))
    zeros = {name for name, w in after.items() if name not in before and not w.any()}
    assert zeros == {"attention_1.out.weight", "attention_1.out.bias", "down_1.weight", "down_1.bias"}


def test_places_are_where_norms_read() -> None:
    assert InsertTransformerBlock().sites(PRE_NORM) == (("drop",), ("add_a",), ("add_b",))


@pytest.mark.parametrize(
    ("architecture", "name", "reason"),
    [
        (post_norm(LayerNorm), "add_a", "the norm that reads it ends a block: the network is post-norm"),
        (PRE_NORM, "up", "no norm reads it"),
        (HAND_MADE["mlp"], "c", "there are no tokens"),
        (HAND_MADE["unscaled_norms"], "a", "there are no tokens"),
        (PRE_NORM, "nowhere", "there is no such node"),
    ],
)
def test_refusals(architecture: Architecture, name: str, reason: str) -> None:
    assert InsertTransformerBlock().refusal(architecture, (name,)) == reason


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_heads": 0}, "n_heads must be a positive integer but got 0"),
        ({"expansion": 0}, "expansion must be a positive integer but got 0"),
        ({"activation": "swish"}, "activation must be one of .* but got 'swish'"),
    ],
)
def test_bad_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(MorphismError, match=message):
        InsertTransformerBlock(**fields)
