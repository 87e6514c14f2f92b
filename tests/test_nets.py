"""Networks: numerics against ``torch.nn.functional``, memory, names, copies."""

from __future__ import annotations

import copy
import functools
import io
import pickle
import shutil
import weakref
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn
from torch.nn import functional as F

from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.ir import Architecture, Node
from optuna_nas_morph.ir.ops import (
    Activation,
    AdaptivePool,
    Add,
    BatchNorm,
    ColumnEmbedding,
    Concat,
    Conv,
    DepthwiseConv,
    Dropout,
    Flatten,
    GlobalPool,
    Input,
    LayerNorm,
    LayerScale,
    Linear,
    Multiply,
    ParametricActivation,
    PatchEmbedding,
    Pool,
    PositionEmbedding,
    RMSNorm,
    Scale,
    SelfAttention,
    TokenEmbedding,
    ToTokens,
)
from optuna_nas_morph.nets import Network, build_layer, unwrapped
from tests.strategies import (
    architectures,
    example_architectures,
    example_inputs,
    random_architecture,
    random_network,
    sequence,
)

EXAMPLES = example_architectures()
CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVG_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
ADAPTIVE = {
    ("max", 1): F.adaptive_max_pool1d,
    ("max", 2): F.adaptive_max_pool2d,
    ("max", 3): F.adaptive_max_pool3d,
    ("avg", 1): F.adaptive_avg_pool1d,
    ("avg", 2): F.adaptive_avg_pool2d,
    ("avg", 3): F.adaptive_avg_pool3d,
}


def reference(architecture: Architecture, node: Node, inputs: list[Tensor], state: Mapping[str, Tensor]) -> Tensor:
    """One operation in eval mode, from its fields and the state dict, by functions alone."""

    def p(name: str) -> Tensor | None:
        return state.get(f"{node.name}.{name}")

    x, channel_axis = inputs[0], architecture.input_specs(node.name)[0].channel_axis + 1
    match node.op:
        case Conv() as op:
            w = op.window
            weight = p("weight")
            assert weight is not None
            return CONV[len(w.kernel_size)](x, weight, p("bias"), w.stride, w.padding, w.dilation, op.groups)
        case DepthwiseConv() as op:
            w, weight, bias = op.window, p("weight"), p("bias")
            assert weight is not None
            n = op.multiplier
            parts = [
                CONV[len(w.kernel_size)](
                    x[:, i : i + 1],
                    weight[n * i : n * i + n],
                    None if bias is None else bias[n * i : n * i + n],
                    w.stride,
                    w.padding,
                    w.dilation,
                )
                for i in range(x.shape[1])
            ]
            return torch.cat(parts, 1)
        case Linear():
            weight = p("weight")
            assert weight is not None
            return F.linear(x, weight, p("bias"))
        case BatchNorm() as op:
            return F.batch_norm(x, p("running_mean"), p("running_var"), p("weight"), p("bias"), eps=op.eps)
        case LayerNorm() as op:
            weight, bias = p("weight"), p("bias")
            assert weight is not None and bias is not None
            y = x.movedim(channel_axis, -1)
            y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, keepdim=True, correction=0) + op.eps).sqrt()
            return (y * weight + bias).movedim(-1, channel_axis)
        case RMSNorm() as op:
            weight = p("weight")
            assert weight is not None
            return x * weight / (x.square().mean(-1, keepdim=True) + op.eps).sqrt()
        case Activation() as op:
            if op.function == "leaky_relu":
                return F.leaky_relu(x, op.negative_slope)
            result: Tensor = getattr(torch if op.function == "tanh" else F, op.function)(x)
            return result
        case ParametricActivation() as op:
            weight = p("weight")
            assert weight is not None
            y = getattr(torch if op.function == "tanh" else F, op.function)(x).movedim(channel_axis, -1)
            return ((1 - weight) * x.movedim(channel_axis, -1) + weight * y).movedim(-1, channel_axis)
        case LayerScale():
            weight = p("weight")
            assert weight is not None
            return (weight * x.movedim(channel_axis, -1)).movedim(-1, channel_axis)
        case Scale() as op:
            return torch.mul(x, op.factor)
        case Pool() as op:
            kinds = MAX_POOL if op.kind == "max" else AVG_POOL
            return kinds[len(op.kernel_size)](x, op.window.kernel_size, op.window.stride, op.window.padding)
        case AdaptivePool() as op:
            return ADAPTIVE[op.kind, len(op.output_size)](x, op.output_size)  # type: ignore[no-any-return, operator]
        case GlobalPool() as op:
            flat = x.movedim(channel_axis, 1).flatten(2)
            return flat.mean(2) if op.kind == "avg" else flat.max(2).values
        case Flatten():
            return x.reshape(x.shape[0], -1)
        case Dropout():
            return x
        case Add():
            return torch.stack(inputs).sum(0)
        case Multiply():
            return functools.reduce(torch.mul, inputs)
        case Concat():
            return torch.cat(inputs, channel_axis)
        case ToTokens():
            return torch.stack([x.flatten(2)[:, :, i] for i in range(x[0, 0].numel())], 1)
        case TokenEmbedding():
            weight = p("weight")
            assert weight is not None
            return weight[x]
        case ColumnEmbedding() as op:
            weight = p("weight")
            assert weight is not None
            return torch.stack([weight[row[op.column]] for row in x])
        case PositionEmbedding():
            weight = p("weight")
            assert weight is not None
            return x + weight
        case PatchEmbedding() as op:
            weight, bias = p("weight"), p("bias")
            assert weight is not None and bias is not None
            patches = x.unsqueeze(2)
            for axis, size in enumerate(op.patch_size):
                patches = patches.unfold(3 + axis, size, size)  # (N, C, 1, *positions, *patch)
            patches = patches.squeeze(2).movedim(1, 1 + len(op.patch_size)).flatten(1, len(op.patch_size))
            return patches.flatten(2) @ weight.flatten(1).T + bias
        case SelfAttention() as op:
            q, k, v = (
                F.linear(x, state[f"{node.name}.{name}.weight"], state[f"{node.name}.{name}.bias"])
                for name in ("query", "key", "value")
            )
            heads = []
            for h in range(op.n_heads):
                part = slice(h * op.head_dim, (h + 1) * op.head_dim)
                scores = torch.softmax(q[..., part] @ k[..., part].transpose(1, 2) / op.head_dim**0.5, -1)
                heads.append(scores @ v[..., part])
            return F.linear(torch.cat(heads, -1), state[f"{node.name}.out.weight"], state[f"{node.name}.out.bias"])
    raise AssertionError(node.op)


def check_forward(architecture: Architecture, seed: int) -> None:
    """Compare in float64, where no tolerance hides a mistake."""
    network = random_network(architecture, seed).double()
    inputs = tuple(x.double() if x.is_floating_point() else x for x in example_inputs(architecture, 3, seed))
    values = dict(zip(architecture.inputs, inputs, strict=True))
    state = network.state_dict()
    with torch.no_grad():
        output = network(*inputs)
        for node in architecture.nodes:
            if node.inputs:
                values[node.name] = reference(architecture, node, [values[name] for name in node.inputs], state)
    torch.testing.assert_close(output, values[architecture.output], rtol=1e-9, atol=1e-9)
    assert tuple(output.shape[1:]) == architecture.specs[architecture.output].shape


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_against_functional(name: str) -> None:
    check_forward(EXAMPLES[name], 0)


@pytest.mark.parametrize("chunk", range(5))
def test_random_architectures_against_functional(chunk: int) -> None:
    for seed in range(40 * chunk, 40 * (chunk + 1)):
        check_forward(random_architecture(np.random.default_rng(seed)), seed)


@settings(max_examples=30, deadline=None)
@given(architectures())
def test_architectures_against_functional(architecture: Architecture) -> None:
    check_forward(architecture, 0)


@pytest.mark.parametrize("n_heads", [1, 2, 3])
def test_attention_is_pytorch_multihead_attention(n_heads: int) -> None:
    features = 6
    architecture = sequence(Input((5, features), channel_axis=1), SelfAttention(n_heads, features // n_heads, features))
    network = random_network(architecture)
    (ours,) = network.children()
    theirs = nn.MultiheadAttention(features, n_heads, batch_first=True).eval()
    own = ours.state_dict()
    with torch.no_grad():
        theirs.load_state_dict(
            {
                "in_proj_weight": torch.cat([own[f"{name}.weight"] for name in ("query", "key", "value")]),
                "in_proj_bias": torch.cat([own[f"{name}.bias"] for name in ("query", "key", "value")]),
                "out_proj.weight": own["out.weight"],
                "out_proj.bias": own["out.bias"],
            }
        )
        (x,) = example_inputs(architecture, 4)
        torch.testing.assert_close(network(x), theirs(x, x, x, need_weights=False)[0])


def test_layer_norm_of_the_first_axis_is_that_of_the_last() -> None:
    first = random_network(sequence(Input((3, 4, 5)), LayerNorm(1e-3)))
    last = random_network(sequence(Input((4, 5, 3), channel_axis=2), LayerNorm(1e-3)))
    (x,) = example_inputs(first.architecture)
    with torch.no_grad():
        torch.testing.assert_close(first(x).permute(0, 2, 3, 1), last(x.permute(0, 2, 3, 1)))


def test_train_mode_updates_running_statistics_and_drops() -> None:
    network = Network(sequence(Input((2, 8, 8)), BatchNorm(), Dropout(0.5)))
    (x,) = example_inputs(network.architecture, 8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        output = network(x)
    assert (output == 0).float().mean() > 0.4
    state = network.state_dict()
    assert state["batch_norm_1.num_batches_tracked"] == 1
    torch.testing.assert_close(state["batch_norm_1.running_mean"], 0.1 * x.mean((0, 2, 3)))


# Gradients.


@pytest.mark.parametrize("name", EXAMPLES)
def test_gradients_reach_every_parameter_of_examples(name: str) -> None:
    check_gradients(EXAMPLES[name])


@pytest.mark.parametrize("chunk", range(2))
def test_gradients_reach_every_parameter(chunk: int) -> None:
    for seed in range(40 * chunk, 40 * (chunk + 1)):
        check_gradients(random_architecture(np.random.default_rng(seed)))


def check_gradients(architecture: Architecture) -> None:
    network = random_network(architecture).train()
    output = network(*example_inputs(architecture, 4))
    if not list(network.parameters()):
        return
    (output * torch.randn(output.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_gradients_do_not_vanish_without_dead_units() -> None:
    architecture = Architecture(
        (
            Node("x", Input((3, 8, 8))),
            Node("a", Conv.same(2, 4, 3), ("x",)),
            Node("bn", BatchNorm(), ("a",)),
            Node("act", Activation("gelu"), ("bn",)),
            Node("b", DepthwiseConv.same(2, 3), ("act",)),
            Node("sum", Add(), ("act", "b")),
            Node("patches", PatchEmbedding(6, (2, 2)), ("sum",)),
            Node("places", PositionEmbedding(), ("patches",)),
            Node("ln", LayerNorm(), ("places",)),
            Node("attention", SelfAttention(2, 3, 6), ("ln",)),
            Node("residual", Add(), ("attention", "places")),
            Node("mean", GlobalPool(), ("residual",)),
            Node("out", Linear(3), ("mean",)),
        )
    )
    network = random_network(architecture)
    F.cross_entropy(network(*example_inputs(architecture, 16)), torch.arange(16) % 3).backward()  # type: ignore[no-untyped-call]
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        if name != "attention.key.bias":  # softmax does not see it
            assert parameter.grad.abs().max() > 1e-6, name


# Memory.


def test_values_are_freed_after_their_last_reader() -> None:
    """A chain with one long skip: never more than the skip, a layer's input and its output alive."""
    n_layers = 6
    nodes = [Node("x", Input((4,))), Node("skip", Linear(4), ("x",))]
    for i in range(n_layers):
        nodes.append(Node(f"layer_{i}", Linear(4), (nodes[-1].name,)))
    nodes.append(Node("sum", Add(), (nodes[-1].name, "skip", "skip")))
    nodes.append(Node("out", Linear(4), ("sum",)))
    network = Network(Architecture(tuple(nodes)))
    alive: dict[str, weakref.ref[Tensor]] = {}
    seen: dict[str, set[str]] = {}
    for name, module in network.named_children():

        def keep(_module: nn.Module, _args: object, output: Tensor, name: str = name) -> None:
            seen[name] = {other for other, ref in alive.items() if ref() is not None}
            alive[name] = weakref.ref(output)

        module.register_forward_hook(keep)
    with torch.no_grad():
        output = network(torch.randn(2, 4))
    assert seen["layer_0"] == {"skip"}
    for i in range(1, n_layers):
        assert seen[f"layer_{i}"] == {"skip", f"layer_{i - 1}"}
    assert seen["sum"] == {"skip", f"layer_{n_layers - 1}"}
    assert seen["out"] == {"sum"}
    assert {name for name, ref in alive.items() if ref() is not None} == {"out"}
    assert output.shape == (2, 4)


def test_input_may_be_the_output() -> None:
    (x,) = example_inputs(EXAMPLES["input"])
    assert Network(EXAMPLES["input"])(x) is x


# Inputs and names.


def test_inputs_in_the_order_of_their_nodes() -> None:
    network = random_network(EXAMPLES["two_inputs"])
    image, vector = example_inputs(network.architecture)
    torch.testing.assert_close(network(image, vector), torch.cat([image.mean((2, 3)), vector], 1))


@pytest.mark.parametrize("n_inputs", [0, 1, 3])
def test_wrong_number_of_inputs(n_inputs: int) -> None:
    network = Network(EXAMPLES["two_inputs"])
    with pytest.raises(TypeError, match=f"takes 2 inputs, x, y, but got {n_inputs}"):
        network(*[torch.zeros(1, 2, 5, 4)] * n_inputs)


@pytest.mark.parametrize(
    "name",
    ["train", "training", "forward", "eval", "half", "parameters", "T_destination", "architecture", "add_module"],
)
@pytest.mark.parametrize("of_input", [False, True])
def test_name_of_an_attribute_of_module_is_refused(name: str, of_input: bool) -> None:
    names = (name, "last") if of_input else ("x", name)
    architecture = Architecture((Node(names[0], Input((4,))), Node(names[1], Linear(2), (names[0],))))
    with pytest.raises(ArchitectureError, match=f"node '{name}': the name is an attribute of torch.nn.Module"):
        Network(architecture)


@pytest.mark.parametrize("name", ["weight", "bias", "input", "output", "add", "linear", "nodes", "layer"])
def test_other_names_are_fine(name: str) -> None:
    network = Network(Architecture((Node("x", Input((4,))), Node(name, Linear(2), ("x",)))))
    assert list(network.state_dict()) == [f"{name}.weight", f"{name}.bias"]
    assert network(torch.zeros(3, 4)).shape == (3, 2)


def test_layers_are_those_of_torch() -> None:
    architecture = sequence(Input((2, 8, 8)), Conv.same(2, 4, 3, stride=2), BatchNorm(), Activation("relu"))
    assert [type(m) for m in Network(architecture).children()] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert isinstance(build_layer(Linear(3).layer(sequence(Input((2,)), Linear(3)).input_specs("linear_1"))), nn.Linear)


def test_representation_names_what_our_layers_hold() -> None:
    text = "\n".join(repr(Network(a)) for name, a in EXAMPLES.items())
    for part in ("dim=1", "dim=2", "max, dims=(2,)", "avg, dims=(2, 3)", "n_heads=2"):
        assert part in text


# Copies.


def check_twin(network: nn.Module, twin: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    assert isinstance(network, Network) and isinstance(twin, Network)
    assert twin.architecture == network.architecture
    with torch.no_grad():
        expected = network(*inputs)
        assert torch.equal(twin(*inputs), expected)
        for parameter in twin.parameters():
            parameter.add_(1.0)
        assert torch.equal(network(*inputs), expected)


@pytest.mark.parametrize("seed", range(5))
def test_deepcopy_and_pickle(seed: int) -> None:
    network = random_network(random_architecture(np.random.default_rng(seed)))
    inputs = example_inputs(network.architecture)
    check_twin(network, copy.deepcopy(network), inputs)
    check_twin(network, pickle.loads(pickle.dumps(network)), inputs)


def test_state_dict_moves_between_networks() -> None:
    architecture = random_architecture(np.random.default_rng(3))
    first, second = random_network(architecture, 1), random_network(architecture, 2)
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    second.load_state_dict(torch.load(buffer, weights_only=True))
    check_twin(first, second, example_inputs(architecture))


def test_random_network_is_seeded() -> None:
    architecture = random_architecture(np.random.default_rng(3))
    before = torch.get_rng_state()
    first, second = random_network(architecture, 1), random_network(architecture, 1)
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])


@pytest.mark.parametrize("name", ["gate", "two_inputs", "self_attention", "layer_norm_first"])
def test_torch_export(name: str) -> None:
    network = random_network(EXAMPLES[name])
    inputs = example_inputs(network.architecture)
    program = torch.export.export(network, inputs)
    torch.testing.assert_close(program.module()(*inputs), network(*inputs))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "input"])
def test_torch_export_takes_batches_of_any_size(name: str) -> None:
    network = random_network(EXAMPLES[name])
    batch = torch.export.Dim("batch")
    inputs = example_inputs(network.architecture, 3)
    program = torch.export.export(network, inputs, dynamic_shapes=(tuple({0: batch} for _ in inputs),))
    for n in (2, 7):
        inputs = example_inputs(network.architecture, n)
        torch.testing.assert_close(program.module()(*inputs), network(*inputs))


def check_compiled(network: Network, backend: str) -> None:
    """Outputs in both modes, and gradients."""
    twin = copy.deepcopy(network)
    torch.compiler.reset()
    compiled = torch.compile(twin, backend=backend, fullgraph=True)
    inputs = example_inputs(network.architecture, 3)
    for train in (False, True):
        expected, found = network.train(train)(*inputs), compiled.train(train)(*inputs)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        if expected.requires_grad:
            expected.square().sum().backward()
            found.square().sum().backward()
    for (name, ours), theirs in zip(network.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(theirs.grad, ours.grad, rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # it warns of its own parts
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("name", ["gate", "two_inputs", "self_attention", "batch_norm2d"])
def test_torch_compile(name: str, backend: str) -> None:
    check_compiled(random_network(EXAMPLES[name]), backend)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["gate", "two_inputs", "self_attention", "batch_norm2d"])
def test_torch_compile_with_a_compiler(name: str) -> None:
    check_compiled(random_network(EXAMPLES[name]), "inductor")


@pytest.mark.parametrize("name", EXAMPLES)
def test_autocast(name: str) -> None:
    """bfloat16 has 8 bits; every operation must take what autocast makes of the one before."""
    network = random_network(EXAMPLES[name])
    inputs = example_inputs(network.architecture, 3)
    with torch.no_grad():
        expected = network(*inputs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = network(*inputs)
    torch.testing.assert_close(found.float(), expected.float(), rtol=0.1, atol=0.1)


def test_what_is_within_a_wrapper() -> None:
    network = random_network(EXAMPLES["gate"])
    assert unwrapped(network) is network
    assert unwrapped(nn.DataParallel(nn.DataParallel(network))) is network
    with pytest.raises(TypeError, match="network must be a Network, wrapped or not, but got DataParallel"):
        unwrapped(nn.DataParallel(nn.Linear(2, 2)))
