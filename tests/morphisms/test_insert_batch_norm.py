"""InsertBatchNorm: the identity in eval mode; in train mode once it is calibrated."""

from __future__ import annotations

import pytest

from optuna_nas_morph.ir.ops import BatchNorm
from optuna_nas_morph.morphisms import InsertBatchNorm
from tests.morphisms.architectures import HAND_MADE
from tests.morphisms.contract import MorphismContract


class TestContract(MorphismContract):
    morphisms = (InsertBatchNorm(),)
    draws = False


def test_it_goes_between_a_layer_and_all_that_follows() -> None:
    parent = HAND_MADE["residual"]
    child = InsertBatchNorm().apply(parent, ("b_proj",))
    assert child["bn_1"].op == BatchNorm()
    assert child["bn_1"].inputs == ("b_proj",)
    assert child.consumers["b_proj"] == ("bn_1",)
    assert child.consumers["bn_1"] == parent.consumers["b_proj"]
    assert InsertBatchNorm().uncalibrated(parent, child) == ("bn_1",)


@pytest.mark.parametrize(
    ("architecture", "site", "reason"),
    [
        ("residual", ("a2",), "a norm follows already"),
        ("residual", ("b_add",), "there is no convolution or linear layer"),
        ("residual", ("fc",), "nothing is inserted behind the network's output"),
        ("residual", ("nowhere",), "a site is one node"),
        ("residual", ("b2", "b_proj"), "a site is one node"),
    ],
)
def test_refusals(architecture: str, site: tuple[str, ...], reason: str) -> None:
    assert InsertBatchNorm().refusal(HAND_MADE[architecture], site) == reason
