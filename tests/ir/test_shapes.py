"""Shapes, parameters and costs against PyTorch itself, on the meta device."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from optuna_nas_morph.ir import Architecture, TensorSpec
from optuna_nas_morph.ir.ops import OPS
from optuna_nas_morph.nets import Network
from tests.strategies import example_architectures, random_architecture

EXAMPLES = example_architectures()
N_CHUNKS, PER_CHUNK = 10, 60
ITEM_BYTES = {torch.float32: 4, torch.int64: 8}


def run_on_meta(architecture: Architecture) -> tuple[Network, dict[str, Tensor], int]:
    """The network, the output of every node for one sample, and what PyTorch counts as its flops."""
    with torch.device("meta"):
        network = Network(architecture).eval()
        outputs: dict[str, Tensor] = {}
        for name in architecture.inputs:
            spec = architecture.specs[name]
            outputs[name] = torch.empty((1, *spec.shape), dtype=getattr(torch, spec.dtype))
    for name, module in network.named_children():

        def keep(_module: nn.Module, _args: object, output: Tensor, name: str = name) -> None:
            outputs[name] = output

        module.register_forward_hook(keep)
    inputs = [outputs[name] for name in architecture.inputs]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*inputs)
    return network, outputs, counter.get_total_flops()


def check(architecture: Architecture) -> None:
    """Everything that an architecture claims about its network."""
    network, outputs, flops = run_on_meta(architecture)
    assert list(outputs) == [*architecture.inputs, *(n.name for n in architecture.nodes if n.inputs)]
    for name, output in outputs.items():
        spec = architecture.specs[name]
        assert tuple(output.shape[1:]) == spec.shape, name
        assert str(output.dtype) == f"torch.{spec.dtype}", name

    trained = {name: (tuple(p.shape), str(p.dtype)) for name, p in network.named_parameters()}
    buffers = {name: (tuple(b.shape), str(b.dtype)) for name, b in network.named_buffers()}
    ours = {name: (p.shape, f"torch.{p.dtype}") for name, p in architecture.params.items()}
    assert ours == trained | buffers
    assert {name for name, p in architecture.params.items() if p.buffer} == buffers.keys()
    assert list(architecture.params) == list(network.state_dict())
    assert all(len(p.axes) == len(p.shape) for p in architecture.params.values())

    assert architecture.n_parameters == sum(p.numel() for p in network.parameters())
    assert architecture.flops == flops
    assert architecture.activation_bytes == sum(t.numel() * ITEM_BYTES[t.dtype] for t in outputs.values())


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_agrees_with_pytorch(name: str) -> None:
    check(EXAMPLES[name])


@pytest.mark.parametrize("chunk", range(N_CHUNKS))
def test_random_architectures_agree_with_pytorch(chunk: int) -> None:
    for seed in range(chunk * PER_CHUNK, (chunk + 1) * PER_CHUNK):
        check(random_architecture(np.random.default_rng(seed)))


def test_examples_and_random_architectures_hold_every_operation() -> None:
    known = set(OPS) - {"opaque"}  # tests/translation has those: they take a module
    assert {node.op.op_name for a in EXAMPLES.values() for node in a.nodes} == known
    counts = Counter(
        node.op.op_name
        for seed in range(N_CHUNKS * PER_CHUNK)
        for node in random_architecture(np.random.default_rng(seed)).nodes
    )
    assert set(counts) == known
    assert min(counts.values()) >= 20


@pytest.mark.parametrize("name", EXAMPLES)
def test_axis_roles_are_channels(name: str) -> None:
    architecture = EXAMPLES[name]
    for node in architecture.nodes:
        inputs = architecture.input_specs(node.name)
        for key, param in node.op.params(inputs).items():
            for size, role in zip(param.shape, param.axes, strict=True):
                if role == "out":
                    assert size == architecture.specs[node.name].n_channels, key
                elif role == "in":
                    assert [size] == [x.n_channels for x in inputs], key


@pytest.mark.parametrize("name", EXAMPLES)
def test_init_is_the_one_of_pytorch(name: str) -> None:
    """Fresh networks drawn many times: constants equal, uniform entries fill their range."""
    architecture = EXAMPLES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        draws = [Network(architecture).state_dict() for _ in range(40)]
    for key, param in architecture.params.items():
        values = torch.stack([draw[key] for draw in draws]).double()
        match param.init.kind:
            case "constant":
                assert (values == np.float32(param.init.scale)).all(), key
            case "uniform":
                assert values.abs().max() <= param.init.scale * (1 + 1e-6), key
                assert values.abs().max() > 0.85 * param.init.scale, key
                assert abs(values.std().item() * math.sqrt(3) / param.init.scale - 1) < 0.35, key
            case "normal":
                assert abs(values.mean().item()) < 0.2 * param.init.scale, key
                assert abs(values.std().item() / param.init.scale - 1) < 0.2, key


def test_tensor_spec() -> None:
    spec = TensorSpec((2, 3, 4), channel_axis=1)
    assert (spec.n_channels, spec.spatial, spec.numel, spec.channels_last) == (3, (2, 4), 24, False)
    assert spec.with_channels(7) == TensorSpec((2, 7, 4), channel_axis=1)
    assert str(spec) == "2x3x4 float32"
    vector = TensorSpec((5,))
    assert (vector.n_channels, vector.spatial, vector.channels_last) == (5, (), True)
