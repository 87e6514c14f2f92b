"""WidenHead: the same scores from wider queries and keys."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir.ops import SelfAttention
from optuna_nas_morph.morphisms import WidenHead
from tests.morphisms.architectures import HAND_MADE
from tests.morphisms.contract import MorphismContract
from tests.morphisms.same_function import random_weights
from tests.morphisms.transformers import TRANSFORMERS

TOKENS = HAND_MADE["tokens"]


class TestContract(MorphismContract):
    morphisms = (WidenHead(), WidenHead(2.5))
    draws = True
    extra = TRANSFORMERS


@pytest.mark.parametrize(("factor", "width"), [(1.01, 4), (1.5, 4), (2, 6), (2.5, 8)])
def test_width(factor: float, width: int) -> None:
    assert WidenHead(factor).apply(TOKENS, ("attention",))["attention"].op == SelfAttention(2, width, 6)


def test_every_head_has_its_units_first() -> None:
    child = WidenHead(2).apply(TOKENS, ("attention",))
    before = random_weights(TOKENS, np.random.default_rng(0))
    after = WidenHead(2).transfer(TOKENS, child, ("attention",), before, np.random.default_rng(0))

    def halves(name: str, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
        heads = after[f"attention.{name}"].unflatten(axis, (2, 6))
        return heads.narrow(axis + 1, 0, 3).flatten(axis, axis + 1), heads.narrow(axis + 1, 3, 3)

    for name, axis, scale, is_new_zero in [
        ("query.weight", 0, math.sqrt(2), False),
        ("query.bias", 0, math.sqrt(2), False),
        ("key.weight", 0, 1, True),
        ("key.bias", 0, 1, True),
        ("value.weight", 0, 1, False),
        ("out.weight", 1, 1, True),
    ]:
        old, new = halves(name, axis)
        assert torch.allclose(old, scale * before[f"attention.{name}"])
        assert bool((new == 0).all()) == is_new_zero
        assert bool((new == 0).any()) == is_new_zero


def test_only_attention_has_heads() -> None:
    assert WidenHead().sites(TOKENS) == (("attention",),)
    assert WidenHead().refusal(TOKENS, ("up",)) == "linear has no heads"


@pytest.mark.parametrize("factor", [1, 0.5, 17, math.nan])
def test_factor(factor: float) -> None:
    with pytest.raises(MorphismError, match="factor must be above 1 and at most 16 but got"):
        WidenHead(factor)
