"""InsertResidualBlock: x + f(x) with f = 0 at first."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import Activation, Add, BatchNorm, Conv, Input, LayerNorm, Linear, Op
from optuna_nas_morph.morphisms import InsertResidualBlock
from tests.morphisms.architectures import HAND_MADE, RELU, graph
from tests.morphisms.contract import MorphismContract
from tests.morphisms.same_function import difference, random_weights


class TestContract(MorphismContract):
    morphisms = (InsertResidualBlock(), InsertResidualBlock(1, "gelu"), InsertResidualBlock(norm=False))
    draws = True


def added(parent: Architecture, child: Architecture) -> list[Op]:
    return [node.op for node in child.nodes if node.name not in parent.index]


CONV = graph(
    ("x", Input((2, 6))), ("a", Conv.same(1, 4, 3)), ("relu", RELU), ("b", Conv.same(1, 3, 3)), ("c", Conv(2, (1,)))
)


def test_a_relu_follows_the_sum_where_nothing_is_negative() -> None:
    child = InsertResidualBlock().apply(CONV, ("relu",))
    layer = Conv.same(1, 4, 3)
    assert added(CONV, child) == [layer, BatchNorm(), RELU, layer, BatchNorm(), Add(), RELU]
    assert child["add_1"].inputs == ("relu", "norm_b_1")
    assert child["b"].inputs == ("relu_out_1",)


def test_no_relu_follows_the_sum_anywhere_else() -> None:
    child = InsertResidualBlock().apply(CONV, ("b",))
    assert added(CONV, child)[-1] == Add()
    assert child["c"].inputs == ("add_1",)


def test_other_activations_never_follow_the_sum() -> None:
    child = InsertResidualBlock(3, "gelu").apply(CONV, ("relu",))
    assert added(CONV, child)[2] == Activation("gelu")
    assert added(CONV, child)[-1] == Add()


@pytest.mark.parametrize("function", ["tanh", "sigmoid", "softplus", "hardsigmoid", "silu"])
def test_every_activation_will_do(function: str) -> None:
    parent = HAND_MADE["conv1d"]
    morphism = InsertResidualBlock(3, function)
    child = morphism.apply(parent, ("relu_a",))
    before = random_weights(parent, np.random.default_rng(0))
    after = morphism.transfer(parent, child, ("relu_a",), before, np.random.default_rng(0))
    for train in (False, True):
        assert difference(parent, before, child, after, train=train) <= 1e-12


def test_only_the_last_norm_is_zero() -> None:
    child = InsertResidualBlock().apply(CONV, ("b",))
    before = random_weights(CONV, np.random.default_rng(0))
    after = InsertResidualBlock().transfer(CONV, child, ("b",), before, np.random.default_rng(0))
    zero = {name for name, w in after.items() if name.startswith(("conv_", "norm_")) and not w.any()}
    counters = {"norm_a_1.num_batches_tracked", "norm_b_1.num_batches_tracked"}
    fresh_norms = {"norm_a_1.bias", "norm_a_1.running_mean", "norm_b_1.running_mean"}
    assert zero == {"norm_b_1.weight", "norm_b_1.bias"} | fresh_norms | counters
    assert torch.equal(after["norm_b_1.running_var"], torch.ones(3, dtype=torch.float64))
    assert torch.equal(after["norm_a_1.weight"], torch.ones(3, dtype=torch.float64))
    assert all(after[name] is w for name, w in before.items())


def test_without_norms_the_last_layer_is_zero() -> None:
    morphism = InsertResidualBlock(norm=False)
    child = morphism.apply(CONV, ("b",))
    assert added(CONV, child) == [Conv.same(1, 3, 3), RELU, Conv.same(1, 3, 3), Add()]
    before = random_weights(CONV, np.random.default_rng(0))
    after = morphism.transfer(CONV, child, ("b",), before, np.random.default_rng(0))
    assert not after["conv_b_1.weight"].any() and not after["conv_b_1.bias"].any()
    assert bool(after["conv_a_1.weight"].all())


def test_tokens_get_linear_layers_and_layer_norms() -> None:
    parent = HAND_MADE["transformer"]
    child = InsertResidualBlock().apply(parent, ("add",))
    assert added(parent, child) == [Linear(8), LayerNorm(), RELU, Linear(8), LayerNorm(), Add()]


def test_refused_before_a_norm() -> None:
    with pytest.raises(MorphismError) as e:
        InsertResidualBlock().apply(HAND_MADE["conv2d"], ("conv_a",))
    reason = "only a norm or an activation follows, which belongs to this layer"
    assert str(e.value) == f"insert_residual_block:3 cannot be applied at 'conv_a': {reason}."


@pytest.mark.parametrize("kernel_size", [0, 2, -3])
def test_bad_kernel_sizes(kernel_size: int) -> None:
    with pytest.raises(MorphismError, match=f"kernel_size must be odd and positive but got {kernel_size}"):
        InsertResidualBlock(kernel_size)


def test_bad_activations() -> None:
    with pytest.raises(MorphismError, match=r"activation must be one of .* but got 'linear'"):
        InsertResidualBlock(3, "linear")
