"""AddHead: heads that nothing listens to yet."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir.ops import SelfAttention
from optuna_nas_morph.morphisms import AddHead
from tests.morphisms.architectures import HAND_MADE
from tests.morphisms.contract import MorphismContract
from tests.morphisms.same_function import random_weights
from tests.morphisms.transformers import TRANSFORMERS

TOKENS = HAND_MADE["tokens"]


class TestContract(MorphismContract):
    morphisms = (AddHead(), AddHead(3))
    draws = True
    extra = TRANSFORMERS


def test_heads_keep_their_width() -> None:
    assert AddHead(2).apply(TOKENS, ("attention",))["attention"].op == SelfAttention(4, 3, 6)


def test_old_heads_are_as_they_were_and_new_ones_ignored() -> None:
    child = AddHead().apply(TOKENS, ("attention",))
    before = random_weights(TOKENS, np.random.default_rng(0))
    after = AddHead().transfer(TOKENS, child, ("attention",), before, np.random.default_rng(0))
    for name in ("query", "key", "value"):
        assert torch.equal(after[f"attention.{name}.weight"][:6], before[f"attention.{name}.weight"])
        assert after[f"attention.{name}.weight"][6:].abs().min() > 0
    assert torch.equal(after["attention.out.weight"][:, :6], before["attention.out.weight"])
    assert not after["attention.out.weight"][:, 6:].any()


@pytest.mark.parametrize(
    ("site", "reason"), [(("up",), "linear has no heads"), (("nowhere",), "there is no such node"), ((), "there is no")]
)
def test_only_attention_has_heads(site: tuple[str, ...], reason: str) -> None:
    assert AddHead().sites(TOKENS) == (("attention",),)
    assert AddHead().sites(HAND_MADE["residual"]) == ()
    assert str(AddHead().refusal(TOKENS, site)).startswith(reason)


def test_at_least_one() -> None:
    with pytest.raises(MorphismError, match="n must be a positive integer but got 0"):
        AddHead(0)
