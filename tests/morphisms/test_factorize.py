"""Factorize: a layer as the product of two."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir.ops import Conv, Linear
from optuna_nas_morph.morphisms import Factorize
from tests.morphisms.architectures import HAND_MADE
from tests.morphisms.contract import MorphismContract
from tests.morphisms.same_function import random_weights

BRANCHES = HAND_MADE["branches"]


class TestContract(MorphismContract):
    morphisms = (Factorize(), Factorize(3))
    draws = True
    mixes = True


def test_only_the_layer_reads_the_new_one() -> None:
    child = Factorize(2).apply(BRANCHES, ("strided",))
    assert child["factor_1"].op == Conv(8, (1, 1), bias=False)
    assert child["factor_1"].inputs == ("stem_relu",)
    assert child["strided"].inputs == ("factor_1",)
    assert child["strided"].op == BRANCHES["strided"].op
    assert child["pooled"].inputs == ("stem_relu",)
    assert Factorize().apply(HAND_MADE["mlp"], ("fc",))["factor_1"].op == Linear(18, bias=False)


def test_weights_are_a_product_with_an_orthonormal_factor() -> None:
    child = Factorize(2).apply(BRANCHES, ("strided",))
    before = random_weights(BRANCHES, np.random.default_rng(0))
    after = Factorize(2).transfer(BRANCHES, child, ("strided",), before, np.random.default_rng(0))
    factor = after["factor_1.weight"].flatten(1)
    assert torch.allclose(factor.T @ factor, torch.eye(4).double())
    for i, j in np.ndindex(*before["strided.weight"].shape[2:]):
        product = after["strided.weight"][:, :, i, j] @ factor
        assert torch.allclose(product, before["strided.weight"][:, :, i, j])
    assert after["strided.bias"] is before["strided.bias"]


@pytest.mark.parametrize(
    ("name", "site", "reason"),
    [
        ("layouts", "grouped", "each of its groups reads other channels"),
        ("layouts", "attention", "self_attention is no layer that can be split"),
        ("layouts", "nowhere", "there is no such node"),
    ],
)
def test_refusals(name: str, site: str, reason: str) -> None:
    assert Factorize().refusal(HAND_MADE[name], (site,)) == reason


def test_expansion() -> None:
    with pytest.raises(MorphismError, match="expansion must be a positive integer but got 0"):
        Factorize(0)
