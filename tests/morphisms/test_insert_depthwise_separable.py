"""InsertDepthwiseSeparable: a delta, then the identity."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir.ops import Activation, Conv, DepthwiseConv, Op
from optuna_nas_morph.morphisms import InsertDepthwiseSeparable
from tests.morphisms.architectures import HAND_MADE, RELU
from tests.morphisms.contract import MorphismContract
from tests.morphisms.same_function import random_weights


class TestContract(MorphismContract):
    morphisms = (
        InsertDepthwiseSeparable(),
        InsertDepthwiseSeparable("linear", 5),
        InsertDepthwiseSeparable("hardswish"),
        InsertDepthwiseSeparable("leaky_relu", 1),
    )
    draws = False


PAIR = (DepthwiseConv((3, 3), padding=(1, 1)), Conv(4, (1, 1)))
TWICE = DepthwiseConv((3, 3), padding=(1, 1), multiplier=2)


@pytest.mark.parametrize(
    ("activation", "site", "added"),
    [
        ("linear", "stem_relu", [*PAIR]),
        ("relu", "stem_relu", [*PAIR, RELU]),
        ("relu", "dilated", [TWICE, RELU, Conv(4, (1, 1))]),
        ("gelu", "stem_relu", [TWICE, Activation("gelu"), Conv(4, (1, 1))]),
    ],
)
def test_what_is_inserted(activation: str, site: str, added: list[Op]) -> None:
    parent = HAND_MADE["branches"]
    child = InsertDepthwiseSeparable(activation).apply(parent, (site,))
    assert [n.op for n in child.nodes if n.name not in parent.index] == added


def test_both_signs_of_every_channel() -> None:
    parent = HAND_MADE["branches"]
    morphism = InsertDepthwiseSeparable("leaky_relu")
    child = morphism.apply(parent, ("dilated",))
    before = random_weights(parent, np.random.default_rng(0))
    after = morphism.transfer(parent, child, ("dilated",), before, np.random.default_rng(0))
    delta = after["depthwise_1.weight"][:, 0, 1, 1]
    assert torch.equal(delta, torch.tensor([1.0, -1.0] * 4, dtype=torch.float64))
    assert float(after["depthwise_1.weight"].abs().sum()) == 8
    expected = torch.tensor([[1.0, -1.0]], dtype=torch.float64) / 1.01
    for i in range(4):
        torch.testing.assert_close(after["pointwise_1.weight"][i, 2 * i : 2 * i + 2].flatten(), expected[0])


@pytest.mark.parametrize(
    ("activation", "name", "site", "reason"),
    [
        ("relu", "mlp", "a_relu", "there are no maps to convolve"),
        ("relu", "tokens", "add", "there are no maps to convolve"),
        ("tanh", "conv2d", "relu_a", "tanh(h) - tanh(-h) is no multiple of h"),
        ("relu", "conv2d", "conv_a", "only a norm or an activation follows, which belongs to this layer"),
    ],
)
def test_refusals(activation: str, name: str, site: str, reason: str) -> None:
    assert InsertDepthwiseSeparable(activation).refusal(HAND_MADE[name], (site,)) == reason


@pytest.mark.parametrize("kernel_size", [0, 2, -3])
def test_bad_kernel_sizes(kernel_size: int) -> None:
    with pytest.raises(MorphismError, match=f"kernel_size must be odd and positive but got {kernel_size}"):
        InsertDepthwiseSeparable("relu", kernel_size)


def test_bad_activations() -> None:
    with pytest.raises(MorphismError, match=r"activation must be 'linear' or one of .* but got 'elu'"):
        InsertDepthwiseSeparable("elu")
