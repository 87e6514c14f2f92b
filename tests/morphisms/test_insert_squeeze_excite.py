"""InsertSqueezeExcite: a gate per channel that starts as 1."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import Activation, AdaptivePool, Conv, Multiply, Scale
from optuna_nas_morph.morphisms import InsertSqueezeExcite
from tests.morphisms.architectures import HAND_MADE
from tests.morphisms.contract import MorphismContract
from tests.morphisms.same_function import outputs, random_weights
from tests.strategies import example_inputs


class TestContract(MorphismContract):
    morphisms = (InsertSqueezeExcite(), InsertSqueezeExcite(2, "hardsigmoid"))
    draws = True


def test_what_is_inserted() -> None:
    parent = HAND_MADE["conv2d"]
    child = InsertSqueezeExcite(2).apply(parent, ("relu_a",))
    point = (1, 1)
    assert [n.op for n in child.nodes if n.name not in parent.index] == [
        AdaptivePool(point),
        Conv(3, point),
        Activation("silu"),
        Conv(6, point),
        Activation("sigmoid"),
        Scale(2.0),
        Multiply(),
    ]
    assert child["conv_b"].inputs == ("excite_1",)
    assert child["excite_1"].inputs == ("relu_a", "gate_scale_1")
    label = child.kernel_graph().labels[child.kernel_graph().labels.index("multiply") - 1]
    assert label == "conv1x1.w2+sigmoid+scale2"


def test_it_computes_what_hu_et_al_do() -> None:
    parent = HAND_MADE["conv2d"]
    morphism = InsertSqueezeExcite(2)
    child = morphism.apply(parent, ("relu_a",))
    weights = random_weights(child, np.random.default_rng(0))  # not those that start as the identity
    inputs = example_inputs(parent, 4)
    cut = child.index["excite_1"] + 1
    gated = Architecture(child.nodes[:cut])
    plain = Architecture(parent.nodes[: parent.index["relu_a"] + 1])
    x = outputs(plain, {n: weights[n] for n in plain.params}, inputs, train=False)
    s = x.mean((2, 3)) @ weights["reduce_1.weight"].flatten(1).T + weights["reduce_1.bias"]
    s = (s * torch.sigmoid(s)) @ weights["expand_1.weight"].flatten(1).T + weights["expand_1.bias"]
    expected = x * (2 * torch.sigmoid(s))[:, :, None, None]
    ours = outputs(gated, {n: weights[n] for n in gated.params}, inputs, train=False)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_only_the_last_layer_is_zero() -> None:
    parent = HAND_MADE["conv1d"]
    child = InsertSqueezeExcite().apply(parent, ("relu_a",))
    before = random_weights(parent, np.random.default_rng(0))
    after = InsertSqueezeExcite().transfer(parent, child, ("relu_a",), before, np.random.default_rng(0))
    assert not after["expand_1.weight"].any() and not after["expand_1.bias"].any()
    assert bool(after["reduce_1.weight"].all())
    assert all(after[name] is w for name, w in before.items())


@pytest.mark.parametrize(
    ("name", "site", "reason"),
    [
        ("mlp", "a_relu", "there are no maps to take means of"),
        ("tokens", "add", "there are no maps to take means of"),
        ("gate", "gated", "it is a product already"),
        ("conv2d", "conv_a", "only a norm or an activation follows, which belongs to this layer"),
    ],
)
def test_refusals(name: str, site: str, reason: str) -> None:
    assert InsertSqueezeExcite().refusal(HAND_MADE[name], (site,)) == reason


def test_bad_arguments() -> None:
    with pytest.raises(MorphismError, match="reduction must be a positive integer but got 0"):
        InsertSqueezeExcite(0)
    with pytest.raises(MorphismError, match=r"gate must be one of .* but got 'tanh'"):
        InsertSqueezeExcite(4, "tanh")
