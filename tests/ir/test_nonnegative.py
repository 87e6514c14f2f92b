"""Nodes that never give a negative output, against forward passes; slopes of activations, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from optuna_nas_morph.ir import Architecture, Node
from optuna_nas_morph.ir.ops import (
    ACTIVATIONS,
    Activation,
    AdaptivePool,
    Add,
    BatchNorm,
    Concat,
    Conv,
    Dropout,
    Flatten,
    GlobalPool,
    Input,
    LayerNorm,
    LayerScale,
    Linear,
    Multiply,
    Op,
    ParametricActivation,
    Pool,
    PositionEmbedding,
    Scale,
    ToTokens,
)
from optuna_nas_morph.nets import build_layer
from tests.strategies import example_architectures, example_inputs, random_architecture, random_network, sequence


def smallest_outputs(architecture: Architecture, n_networks: int, train: bool = False) -> dict[str, float]:
    """Smallest output of every layer over random weights and inputs."""
    smallest: dict[str, float] = {}
    for seed in range(n_networks):
        network = random_network(architecture, seed)
        network.train(train)
        for name, module in network.named_children():

            def keep(_module: nn.Module, _args: object, output: Tensor, name: str = name) -> None:
                smallest[name] = min(smallest.get(name, np.inf), output.min().item())

            module.register_forward_hook(keep)
        with torch.no_grad():
            network(*example_inputs(architecture, batch_size=4, seed=seed))
    return smallest


@pytest.mark.parametrize("chunk", range(4))
def test_random_networks_never_contradict(chunk: int) -> None:
    n_claims = 0
    for seed in range(50 * chunk, 50 * (chunk + 1)):
        architecture = random_architecture(np.random.default_rng(seed))
        smallest = smallest_outputs(architecture, n_networks=3, train=bool(seed % 2))
        for name in architecture.nonnegative:
            n_claims += 1
            assert smallest[name] >= 0, (name, str(architecture))
    assert n_claims > 20


@pytest.mark.parametrize("name", example_architectures())
def test_single_operations_never_contradict(name: str) -> None:
    architecture = example_architectures()[name]
    smallest = smallest_outputs(architecture, n_networks=5)
    assert all(smallest[node] >= 0 for node in architecture.nonnegative)


# What keeps the sign: nodes behind a ReLU that a later morphism may rely on.


@pytest.mark.parametrize(
    ("op", "keeps"),
    [
        (Pool("max", (2, 2)), True),
        (Pool("avg", (2, 2), padding=(1, 1)), True),
        (AdaptivePool((1, 1)), True),
        (GlobalPool(), True),
        (Flatten(), True),
        (ToTokens(), True),
        (Dropout(), True),
        *((Activation(name), True) for name in ACTIVATIONS),
        (Activation("leaky_relu", -0.5), True),
        (Scale(2.0), True),
        (Scale(-2.0), False),
        (ParametricActivation("relu"), False),
        (BatchNorm(), False),
        (LayerNorm(), False),
        (LayerScale(0.5), False),
        (Conv(2, (1, 1)), False),
    ],
)
def test_behind_relu(op: Op, keeps: bool) -> None:
    architecture = sequence(Input((2, 4, 4)), Activation("relu"), op)
    assert (architecture.output in architecture.nonnegative) == keeps
    assert architecture.nodes[1].name in architecture.nonnegative


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_of_anything(name: str) -> None:
    architecture = sequence(Input((2, 4, 4)), Activation(name))
    assert bool(architecture.nonnegative) == (name in ("relu", "relu6", "softplus", "sigmoid", "hardsigmoid"))


@pytest.mark.parametrize("join", [Add(), Multiply(), Concat()])
@pytest.mark.parametrize("signed", [False, True])
def test_joins_need_all_inputs(join: Op, signed: bool) -> None:
    architecture = Architecture(
        (
            Node("x", Input((4,))),
            Node("a", Activation("relu"), ("x",)),
            Node("b", Activation("tanh" if signed else "sigmoid"), ("x",)),
            Node("join", join, ("a", "b")),
        )
    )
    assert ("join" in architecture.nonnegative) == (not signed)


def test_position_embedding_may_be_negative() -> None:
    tokens = Input((3, 4), channel_axis=1)
    architecture = sequence(tokens, Activation("relu"), PositionEmbedding(), Linear(2))
    assert architecture.nonnegative == {architecture.nodes[1].name}


# f(h) - f(-h) == s * h


@pytest.mark.parametrize(
    "activation", [*map(Activation, ACTIVATIONS), *(Activation("leaky_relu", s) for s in (0.3, -0.5, 2.0))]
)
def test_odd_slope(activation: Activation) -> None:
    h = torch.linspace(-15, 15, 1001, dtype=torch.float64)
    layer = build_layer(activation.layer(sequence(Input((3,)), activation).input_specs("activation_1")))
    odd = layer(h) - layer(-h)
    if activation.odd_slope is None:
        assert (odd - (odd @ h) / (h @ h) * h).abs().max() > 0.1
    else:
        torch.testing.assert_close(odd, activation.odd_slope * h, rtol=0, atol=1e-12)
