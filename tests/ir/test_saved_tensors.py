"""What autograd saves, as told without a network, against what it does save."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import Tensor, nn

from optuna_nas_morph import presets
from optuna_nas_morph.ir import Architecture, Node
from optuna_nas_morph.ir.ops import Conv, Input, Linear, Op, ToTokens
from optuna_nas_morph.nets import Network
from tests.strategies import architectures, example_architectures, example_inputs, random_architecture, sequence

EXAMPLES = example_architectures()
BATCH_SIZES = (1, 8)
N_CHUNKS, PER_CHUNK = 6, 40
SPACES = {
    "mlp": presets.mlp((3, 4), 10),
    "table": presets.mlp((4,), 10, n_categories=(3, 12)),
    "cnn": presets.cnn((3, 8, 8), 10),
    "resnet": presets.resnet((3, 8, 8), 10),
    "densenet": presets.densenet((3, 8, 8), 10),
    "conv1d": presets.conv1d((2, 24), 10),
    "mobilenet": presets.mobilenet((3, 8, 8), 10, width=8),
    "convnext": presets.convnext((3, 8, 8), 10, width=8),
    "vit": presets.vit((3, 8, 8), 10, width=8),
    "text_layer": presets.text_transformer((6,), 10, n_tokens=20, width=8),
    "text_rms": presets.text_transformer((6,), 10, n_tokens=20, width=8, norm="rms"),
}


def saved_by_autograd(network: nn.Module, inputs: tuple[Tensor, ...]) -> dict[int, int]:
    """Bytes of every piece of memory that a forward pass saves, by address; parameters and buffers left out."""
    weights = {p.untyped_storage().data_ptr() for p in (*network.parameters(), *network.buffers())}
    found: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        alive.append(tensor)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        alive.append(network(*inputs))
    return found


def check(architecture: Architecture, batch_size: int) -> None:
    network, inputs = Network(architecture).train(), example_inputs(architecture, batch_size)
    try:
        found = saved_by_autograd(network, inputs)
    except ValueError as e:
        if "more than 1 value per channel" in str(e):  # batch norm in a batch of one
            return
        raise
    saved = architecture.saved_tensors
    assert batch_size * (4 * saved.floats + 8 * saved.integers) + 4 * saved.constants == sum(found.values())
    is_saved = {name: x.data_ptr() in found for name, x in zip(architecture.inputs, inputs, strict=True)}
    assert {name for name in architecture.inputs if is_saved[name]} == saved.nodes & set(architecture.inputs)


@pytest.mark.parametrize("batch_size", BATCH_SIZES)
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_operation(name: str, batch_size: int) -> None:
    check(EXAMPLES[name], batch_size)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_operation_behind_a_layer_with_weights(name: str) -> None:
    """With a gradient to its input, that is: on the network's input alone many operations have nothing to save."""
    example = EXAMPLES[name]
    nodes = list(example.nodes)
    entry, spec = nodes[0].name, example.specs[nodes[0].name]
    if spec.dtype == "int64":
        pytest.skip("there is no gradient to token ids")
    layer: Op = Linear(spec.n_channels) if spec.channels_last else Conv(spec.n_channels, (1,) * (len(spec.shape) - 1))
    for i in range(1, len(nodes)):
        sources = tuple("layer" if source == entry else source for source in nodes[i].inputs)
        nodes[i] = Node(nodes[i].name, nodes[i].op, sources)
    check(Architecture((nodes[0], Node("layer", layer, (entry,)), *nodes[1:])), 2)


@pytest.mark.parametrize("shape", [(1, 4), (4, 1), (1, 1), (1, 2, 3), (2, 3)])
def test_tokens_are_copies_where_elements_change_places(shape: tuple[int, ...]) -> None:
    for batch_size in BATCH_SIZES:
        check(sequence(Input(shape), ToTokens(), Linear(2)), batch_size)


@pytest.mark.parametrize("name", SPACES)
def test_presets(name: str) -> None:
    rng = np.random.default_rng(0)
    space = SPACES[name]
    for architecture in [space.seed, *(space.random(rng).architecture for _ in range(6))]:
        for batch_size in BATCH_SIZES:
            check(architecture, batch_size)


@pytest.mark.parametrize("chunk", range(N_CHUNKS))
def test_random_architectures(chunk: int) -> None:
    for seed in range(chunk * PER_CHUNK, (chunk + 1) * PER_CHUNK):
        architecture = random_architecture(np.random.default_rng(seed))
        for batch_size in BATCH_SIZES:
            check(architecture, batch_size)


@given(architectures())
def test_any_architecture(architecture: Architecture) -> None:
    check(architecture, 2)


def test_float64_takes_twice_as_much() -> None:
    architecture = SPACES["densenet"].seed
    saved = architecture.saved_tensors
    inputs = tuple(x.double() for x in example_inputs(architecture, 3))
    found = sum(saved_by_autograd(Network(architecture).double(), inputs).values())
    assert 3 * (8 * saved.floats + 8 * saved.integers) + 8 * saved.constants == found
