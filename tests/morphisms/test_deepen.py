"""Deepen: a layer that starts as the identity."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import (
    Activation,
    BatchNorm,
    Conv,
    Dropout,
    Flatten,
    GlobalPool,
    Input,
    LayerNorm,
    Linear,
    Op,
    Pool,
    TokenEmbedding,
)
from optuna_nas_morph.morphisms import Deepen, Site, Weights
from tests.morphisms.architectures import HAND_MADE, RELU, graph
from tests.morphisms.contract import MorphismContract
from tests.morphisms.same_function import difference, outputs, random_weights


class TestContract(MorphismContract):
    morphisms = (Deepen(), Deepen("linear", 5), Deepen("gelu", 1), Deepen("leaky_relu"))
    draws = False


VECTOR = graph(("x", Input((5,))), ("a", Linear(4)), ("relu", RELU), ("b", Linear(3)), ("c", Linear(2)))


def deepened(architecture: Architecture, site: Site, morphism: Deepen) -> tuple[Architecture, Weights, Weights]:
    child = morphism.apply(architecture, site)
    before = random_weights(architecture, np.random.default_rng(1))
    return child, before, morphism.transfer(architecture, child, site, before, np.random.default_rng(1))


def added(parent: Architecture, child: Architecture) -> list[tuple[str, Op]]:
    return [(node.name, node.op) for node in child.nodes if node.name not in parent.index]


def test_one_layer_and_a_relu_where_nothing_is_negative() -> None:
    child, _, after = deepened(VECTOR, ("relu",), Deepen())
    assert added(VECTOR, child) == [("linear_1", Linear(4)), ("relu_1", RELU)]
    assert torch.equal(after["linear_1.weight"], torch.eye(4, dtype=torch.float64))
    assert child["b"].inputs == ("relu_1",)


def test_a_pair_of_layers_anywhere_else() -> None:
    child, _, after = deepened(VECTOR, ("b",), Deepen())
    assert added(VECTOR, child) == [("linear_1", Linear(6)), ("relu_1", RELU), ("linear_out_1", Linear(3))]
    eye = torch.eye(3, dtype=torch.float64)
    assert torch.equal(after["linear_1.weight"], torch.cat([eye, -eye]))
    assert torch.equal(after["linear_out_1.weight"], torch.cat([eye, -eye], dim=1))
    assert torch.equal(after["linear_1.bias"], torch.zeros(6, dtype=torch.float64))


@pytest.mark.parametrize(
    ("op", "n_layers"),
    [
        (RELU, 1),
        (Activation("sigmoid"), 1),
        (Activation("softplus"), 1),
        (Activation("gelu"), 2),
        (Activation("leaky_relu"), 2),
        (Activation("tanh"), 2),
        (Linear(4), 2),
    ],
)
def test_relu_is_alone_only_behind_what_is_never_negative(op: Op, n_layers: int) -> None:
    parent = graph(("x", Input((5,))), ("a", Linear(4)), ("f", op), ("b", Linear(2)))
    child, before, after = deepened(parent, ("f",), Deepen())
    assert sum(isinstance(new, Linear) for _, new in added(parent, child)) == n_layers
    assert difference(parent, before, child, after, train=False) <= 1e-12


def test_idempotence_is_only_used_for_relu() -> None:
    child, _, _ = deepened(VECTOR, ("relu",), Deepen("gelu"))
    assert [op for _, op in added(VECTOR, child)] == [Linear(8), Activation("gelu"), Linear(4)]


def test_leaky_relu_is_scaled_back() -> None:
    _, _, after = deepened(VECTOR, ("b",), Deepen("leaky_relu"))
    eye = torch.eye(3, dtype=torch.float64) / 1.01
    torch.testing.assert_close(after["linear_out_1.weight"], torch.cat([eye, -eye], dim=1), rtol=1e-15, atol=0)


@pytest.mark.parametrize("function", ["relu", "leaky_relu", "gelu", "silu", "hardswish"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_every_function_passes_small_and_large_values(function: str, scale: float) -> None:
    before, parent, child, after = passing(function, scale)
    assert difference(parent, before, child, after, train=False) <= 1e-12


@pytest.mark.parametrize(("scale", "bound"), [(1.0, 1e-12), (15.0, 2.1e-9)])
def test_softplus_is_off_by_no_more_than_its_threshold(scale: float, bound: float) -> None:
    before, parent, child, after = passing("softplus", scale)
    x = (torch.linspace(-1, 1, 2001, dtype=torch.float64)[:, None] * torch.ones(3),)
    y, z = (outputs(a, w, x, train=False) for a, w in ((parent, before), (child, after)))
    moved = float((y - z).abs().max())
    assert moved <= bound
    assert (moved > 1e-10) == (scale > 10), "torch's threshold is at 20"


def passing(function: str, scale: float) -> tuple[Weights, Architecture, Architecture, Weights]:
    """A network that scales its inputs by up to 2 * scale before the inserted layer, and adds nothing."""
    parent = graph(("x", Input((3,))), ("a", Linear(3)), ("b", Linear(3, bias=False)))
    eye = torch.eye(3, dtype=torch.float64)
    before = {"a.weight": 2 * scale * eye, "a.bias": torch.zeros(3, dtype=torch.float64), "b.weight": eye}
    child = Deepen(function).apply(parent, ("a",))
    after = Deepen(function).transfer(parent, child, ("a",), before, np.random.default_rng(0))
    return before, parent, child, after


@pytest.mark.parametrize("function", ["tanh", "sigmoid", "hardsigmoid"])
def test_functions_without_a_linear_odd_part_are_refused(function: str) -> None:
    assert Deepen(function).sites(VECTOR) == ()
    with pytest.raises(MorphismError) as e:
        Deepen(function).apply(VECTOR, ("a",))
    assert (
        str(e.value)
        == f"deepen:{function} cannot be applied at 'a': {function}(h) - {function}(-h) is no multiple of h."
    )


# Where layers go; the same for every morphism that inserts one.


@pytest.mark.parametrize(
    ("site", "reason"),
    [
        (("x",), "nothing is inserted behind input"),
        (("a",), "only a norm or an activation follows, which belongs to this layer"),
        (("bn",), "only a norm or an activation follows, which belongs to this layer"),
        (("drop",), "nothing is inserted behind dropout"),
        (("fc",), "nothing is inserted behind the network's output"),
        (("nowhere",), "there is no node 'nowhere'"),
        (("relu", "fc"), "a site is one node"),
    ],
)
def test_refusals(site: Site, reason: str) -> None:
    parent = graph(
        ("x", Input((5,))),
        ("a", Linear(4)),
        ("bn", BatchNorm()),
        ("relu", RELU),
        ("drop", Dropout(0.1)),
        ("fc", Linear(2)),
    )
    assert Deepen().sites(parent) == (("relu",),)
    with pytest.raises(MorphismError) as e:
        Deepen().apply(parent, site)
    assert str(e.value) == f"deepen:relu cannot be applied at {' '.join(site)!r}: {reason}."


def test_token_ids_and_odd_layouts_are_refused() -> None:
    ids = graph(
        ("x", Input((4,), dtype="int64")), ("e", TokenEmbedding(5, 3)), ("pool", GlobalPool()), ("b", Linear(2))
    )
    assert Deepen().sites(ids) == (("e",), ("pool",))
    middle = graph(("x", Input((3, 4, 5), channel_axis=1)), ("r", RELU), ("pool", GlobalPool()), ("b", Linear(2)))
    assert Deepen().refusal(middle, ("r",)) == "channels are neither on the first nor on the last axis"
    four = HAND_MADE["odd"]
    assert Deepen().refusal(four, ("relu",)) == "there is no convolution over more than three axes"


def test_nothing_goes_at_the_end_of_a_branch() -> None:
    reason = "only a sum follows, which ends the branch"
    assert Deepen().refusal(HAND_MADE["residual"], ("a2_bn",)) == reason
    assert Deepen().refusal(HAND_MADE["residual"], ("b_proj",)) == reason
    assert Deepen().refusal(HAND_MADE["residual"], ("a_relu",)) is None


def test_a_layer_that_feeds_more_than_its_norm_may_be_followed() -> None:
    child, before, after = deepened(HAND_MADE["unscaled_norms"], ("b",), Deepen())
    assert child["add"].inputs[0] == child["bn"].inputs[0] == "conv_out_3"
    assert difference(HAND_MADE["unscaled_norms"], before, child, after, train=True) <= 1e-12


# Sizes.


def test_kernels_are_1_where_the_tensor_is() -> None:
    parent = graph(
        ("x", Input((2, 6, 1))),
        ("a", Conv.same(2, 3, 1)),
        ("p", Pool("max", (2, 1))),
        ("f", Flatten()),
        ("b", Linear(2)),
    )
    child, _, after = deepened(parent, ("a",), Deepen("linear", 5))
    assert child["conv_1"].op == Conv(3, (5, 1), padding=(2, 0))
    expected = torch.zeros(3, 3, 5, 1, dtype=torch.float64)
    expected[range(3), range(3), 2, 0] = 1
    assert torch.equal(after["conv_1.weight"], expected)


def test_the_layer_back_has_kernel_1() -> None:
    child = Deepen("silu", 5).apply(HAND_MADE["conv3d"], ("relu_a",))
    (first, _, back) = (child.nodes[child.index["relu_a"] + i].op for i in (1, 2, 3))
    assert first == Conv.same(3, 12, 5) and back == Conv(6, (1, 1, 1))


def test_tokens_get_linear_layers() -> None:
    parent = graph(
        ("x", Input((3, 4), channel_axis=1)),
        ("ln", LayerNorm()),
        ("a", Linear(4)),
        ("pool", GlobalPool()),
        ("b", Linear(2)),
    )
    child = Deepen("linear").apply(parent, ("a",))
    assert child["linear_1"].op == Linear(4)


@pytest.mark.parametrize("kernel_size", [0, 2, 4, -1])
def test_bad_kernel_sizes(kernel_size: int) -> None:
    with pytest.raises(MorphismError, match=f"kernel_size must be odd and positive but got {kernel_size}"):
        Deepen("relu", kernel_size)


def test_bad_activations() -> None:
    with pytest.raises(MorphismError, match=r"activation must be 'linear' or one of .* but got 'swoosh'"):
        Deepen("swoosh")
