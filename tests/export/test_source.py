"""Exported source: the same function, readable, formatted, and free of whatever an architecture's author wrote."""

from __future__ import annotations

import ast
import os
import random
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from optuna_nas_morph import Architecture, MorphSpace, Network, Node, export_source, presets
from optuna_nas_morph.errors import ArchitectureError, WeightsMismatchError
from optuna_nas_morph.ir.ops import (
    OPS,
    Activation,
    Add,
    Dropout,
    Input,
    Layer,
    LayerNorm,
    Linear,
    Opaque,
    SelfAttention,
)
from optuna_nas_morph.ir.tensor import TensorSpec
from tests.export.contract import check_export, exported, load_module
from tests.morphisms.chains import MORPHISMS, seeds
from tests.strategies import (
    architectures,
    example_architectures,
    example_inputs,
    random_architecture,
    random_network,
    sequence,
)

EXAMPLES = example_architectures()


def grown(preset: str, seed: int, n_steps: int = 10) -> Architecture:
    """The end of a random chain of morphisms."""
    rng = np.random.default_rng(seed)
    start = seeds()[preset]
    limits = {"max_parameters": 8 * start.n_parameters + 50_000, "max_flops": 8 * start.flops + 5_000_000}
    space = MorphSpace(start, MORPHISMS, max_morphisms=n_steps, **limits)
    member = space.first()
    for _ in range(n_steps):
        member = space.random_child(member, rng) or member
    return member.architecture


# The same function.


def test_examples_have_every_operation() -> None:
    """A new operation that is in no example is not exported by any test either."""
    assert {type(n.op) for a in EXAMPLES.values() for n in a.nodes} == set(OPS.values()) - {Opaque}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_operation(name: str, tmp_path: Path) -> None:
    check_export(EXAMPLES[name], tmp_path / "model.py")


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "input"])
def test_every_operation_among_others(name: str, tmp_path: Path) -> None:
    """In a run of layers, where an operation is written as a module even if it could be an expression."""
    architecture = EXAMPLES[name]
    last = architecture.output
    if architecture.specs[last].dtype == "float32":
        more = (Node("first_more", Activation("relu"), (last,)), Node("more", Activation("tanh"), ("first_more",)))
        check_export(Architecture((*architecture.nodes, *more)), tmp_path / "model.py")


@pytest.mark.parametrize("preset", seeds())
def test_presets(preset: str, tmp_path: Path) -> None:
    check_export(seeds()[preset], tmp_path / "model.py")


@pytest.mark.parametrize("preset", seeds())
@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(i, marks=pytest.mark.slow) for i in range(3, 40))])
def test_chains_of_morphisms(preset: str, seed: int, tmp_path: Path) -> None:
    check_export(grown(preset, seed), tmp_path / "model.py")


@pytest.mark.parametrize("chunk", [*range(2), *(pytest.param(i, marks=pytest.mark.slow) for i in range(2, 20))])
def test_random_architectures(chunk: int, tmp_path: Path) -> None:
    for seed in range(20 * chunk, 20 * (chunk + 1)):
        check_export(random_architecture(np.random.default_rng(seed)), tmp_path / "model.py")


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(architectures())
def test_drawn_architectures(tmp_path: Path, architecture: Architecture) -> None:
    check_export(architecture, tmp_path / "model.py")


def test_dropout_drops_in_the_exported_network(tmp_path: Path) -> None:
    network = random_network(sequence(Input((400,)), Dropout(0.25)))
    x = torch.ones(1, 400)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expected = network.train()(x)
        torch.manual_seed(0)
        assert torch.equal(exported(network, tmp_path / "model.py").train()(x), expected)
    assert 0 < (expected == 0).sum() < 400


def test_gradients_are_the_same(tmp_path: Path) -> None:
    architecture = grown("resnet", 0)
    network = random_network(architecture).train()
    theirs = exported(network, tmp_path / "model.py").train()
    x = example_inputs(architecture, 4)
    for module in (network, theirs):
        module(*x).square().sum().backward()
    ours = sorted(float(p.grad.square().sum()) for p in network.parameters() if p.grad is not None)
    assert ours == sorted(float(p.grad.square().sum()) for p in theirs.parameters() if p.grad is not None)
    assert len(ours) == len(list(network.parameters()))


# Readable.


def transformer(n_blocks: int) -> Architecture:
    nodes = [Node("tokens", Input((7, 8), channel_axis=1))]

    def add(op: Any, *inputs: str) -> str:
        nodes.append(Node(f"n{len(nodes)}", op, inputs or (nodes[-1].name,)))
        return nodes[-1].name

    last = "tokens"
    for _ in range(n_blocks):
        add(LayerNorm(), last)
        last = add(Add(), last, add(SelfAttention(2, 4, 8)))
        add(LayerNorm(), last)
        add(Linear(32))
        add(Activation("gelu"))
        last = add(Add(), last, add(Linear(8)))
    return Architecture(tuple(nodes))


def test_blocks_and_loops_are_found(tmp_path: Path) -> None:
    text = check_export(transformer(4), tmp_path / "model.py")
    assert text[text.index("class Block") :] == dedent('''\
        class Block(nn.Module):
            """Block with 1 self attention and 2 linear layers."""

            def __init__(self, features: int) -> None:
                super().__init__()
                self.body_1 = nn.Sequential(
                    nn.LayerNorm(features),
                    SelfAttention(features, n_heads=2, head_dim=4, out_features=features),
                )
                self.body_2 = nn.Sequential(
                    nn.LayerNorm(features),
                    nn.Linear(features, 32),
                    nn.GELU(),
                    nn.Linear(32, features),
                )

            def forward(self, x: Tensor) -> Tensor:
                x = x + self.body_1(x)
                return x + self.body_2(x)


        class Network(nn.Module):
            """From (N, 7, 8) to (N, 7, 8): 4 self attentions and 8 linear layers."""

            def __init__(self) -> None:
                super().__init__()
                self.blocks = nn.Sequential(*(Block(8) for _ in range(4)))

            def forward(self, x: Tensor) -> Tensor:
                return self.blocks(x)


        def load(path: str | Path = WEIGHTS) -> Network:
            """Make the network with its trained weights, in eval mode."""
            network = Network()
            network.load_state_dict(load_file(path))
            return network.eval()
        ''')


def test_a_residual_network_reads_as_one(tmp_path: Path) -> None:
    text = check_export(presets.resnet((3, 8, 8), 10, depth=3, n_stages=2).seed, tmp_path / "model.py")
    network = text[text.index("class ResidualBlock") : text.index("def load")]
    assert network == dedent('''\
        class ResidualBlock(nn.Module):
            """Residual block with 2 convolutions."""

            def __init__(self, channels: int) -> None:
                super().__init__()
                self.body = nn.Sequential(
                    ConvNormReLU(channels, channels),
                    ConvNorm(channels, channels),
                )

            def forward(self, x: Tensor) -> Tensor:
                return F.relu(x + self.body(x))


        class Network(nn.Module):
            """From (N, 3, 8, 8) to (N, 10): 14 convolutions and 1 linear layer."""

            def __init__(self) -> None:
                super().__init__()
                self.stem = ConvNormReLU(3, 16)
                self.blocks_1 = nn.Sequential(*(ResidualBlock(16) for _ in range(3)))
                self.body = nn.Sequential(ConvNormReLU(16, 32, stride=2), ConvNorm(32, 32))
                self.shortcut = ConvNorm(16, 32, kernel_size=1, stride=2)
                self.blocks_2 = nn.Sequential(ResidualBlock(32), ResidualBlock(32))
                self.head = nn.Linear(32, 10)

            def forward(self, x: Tensor) -> Tensor:
                x = self.stem(x)
                x = self.blocks_1(x)
                x = F.relu(self.shortcut(x) + self.body(x))
                x = self.blocks_2(x)
                x = x.mean((2, 3))
                return self.head(x)


        ''')


def test_widths_that_count_up_are_a_loop(tmp_path: Path) -> None:
    text = check_export(presets.densenet((3, 8, 8), 10, depth=4).seed, tmp_path / "model.py")
    assert "*(DenseLayer(width) for width in range(24, 72, 12))," in text


def test_there_is_no_dead_code() -> None:
    """Every class but the last is used, every attribute read, every import needed."""
    for seed in range(30):
        text = export_source(random_architecture(np.random.default_rng(seed)))
        classes = [node.name for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
        for name in classes[:-1]:
            assert len(re.findall(rf"\b{name}\(", text)) > 1, (name, text)
        for name in set(re.findall(r"self\.(\w+) = ", text)):
            assert len(re.findall(rf"self\.{name}\b", text)) > 1, (name, text)


@pytest.mark.skipif(shutil.which("ruff") is None, reason="needs ruff")
@pytest.mark.parametrize("n_files", [60, pytest.param(600, marks=pytest.mark.slow)])
def test_a_formatter_has_nothing_to_do(n_files: int, tmp_path: Path) -> None:
    files = {f"example_{name}": a for name, a in EXAMPLES.items()}
    files |= {f"{preset}_{i}": grown(preset, i) for preset in seeds() for i in range(n_files // 20)}
    files |= {f"random_{i}": random_architecture(np.random.default_rng(i)) for i in range(n_files)}
    files |= {f"large_{i}": random_architecture(np.random.default_rng(i), 60) for i in range(n_files // 20)}
    for name, architecture in files.items():
        export_source(architecture, tmp_path / f"{name}.py", weights=random_network(architecture))
    ruff = ["ruff", "format", "--isolated", "--line-length", "120", "--diff", str(tmp_path)]
    done = subprocess.run(ruff, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    rules = ["--select", "ARG,B,C4,E,F,I,N,PIE,RET,RUF,SIM,UP,W", "--ignore", "N812"]
    ruff = ["ruff", "check", "--isolated", "--line-length", "120", *rules, str(tmp_path)]
    done = subprocess.run(ruff, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# Nothing but this package's own words.


def test_names_of_nodes_do_not_matter() -> None:
    """Keywords, builtins, what the file imports: an architecture from a storage may hold any of them."""
    hostile = [
        "class",
        "None",
        "self",
        "super",
        "nn",
        "F",
        "torch",
        "forward",
        "Network",
        "x",
        "load",
    ]
    for seed in range(20):
        architecture = random_architecture(np.random.default_rng(seed))
        names = {n.name: f"{random.Random(i).choice(hostile)}{i}" for i, n in enumerate(architecture.nodes)}
        names.update(zip(names, hostile, strict=False))
        renamed = [replace(n, name=names[n.name], inputs=tuple(names[i] for i in n.inputs)) for n in architecture.nodes]
        assert export_source(Architecture(tuple(renamed))) == export_source(architecture)


@pytest.mark.parametrize("name", ["", "1x", "a b", "Net()", "x\nimport os", "class", "nn", "load", "SelfAttention"])
def test_bad_class_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="class_name must be the name of a class"):
        export_source(EXAMPLES["linear"], class_name=name)


@pytest.mark.parametrize("name", ["Digits", "ResidualBlock", "ConvNormReLU"])
def test_class_names(name: str, tmp_path: Path) -> None:
    """Also one that a block would have had."""
    path = tmp_path / "model.py"
    architecture = presets.resnet((3, 8, 8), 10, depth=3).seed
    export_source(architecture, path, class_name=name)
    assert load_module(path).__dict__[name]()(*example_inputs(architecture)).shape == (2, 10)


class Mystery(Dropout):
    """Has a layer that nobody has."""

    def layer(self, inputs: Any) -> Layer:
        return Layer("Mystery")


class Unwritable(Dropout):
    """Has an argument that cannot be written down."""

    def layer(self, inputs: Any) -> Layer:
        return Layer("Dropout", {"p": torch.tensor(0.5)})


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (Mystery(), "'b': dropout cannot be exported, since neither torch.nn nor .* has a layer 'Mystery'"),
        (Unwritable(), r"'b': p=tensor\(0.5000\) cannot be written"),
    ],
)
def test_what_cannot_be_exported_is_named(op: Any, message: str) -> None:
    architecture = Architecture((Node("a", Input((3,))), Node("b", op, ("a",)), Node("c", Linear(2), ("b",))))
    with pytest.raises(ArchitectureError, match=f"node {message}"):
        export_source(architecture)


class Double(Dropout):
    """Says its source as an expression, with the value in front."""

    def layer(self, inputs: Any) -> Layer:
        return Layer("Identity")

    def expression(self, inputs: Any, values: Any) -> str:
        return f"{values[0]}.mul(2)"


def test_an_expression_is_not_put_in_front_of_a_sum() -> None:
    architecture = Architecture(
        (
            Node("a", Input((3,))),
            Node("b", Add(), ("a", "a")),
            Node("c", Double(), ("b",)),
            Node("d", Add(), ("c", "a")),
        )
    )
    text = export_source(architecture)
    scope: dict[str, Any] = {}
    exec(text, scope)
    assert torch.equal(scope["Network"]()(torch.ones(1, 3)), torch.full((1, 3), 5.0))


# Weights.


def test_without_weights_safetensors_is_not_needed(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    text = export_source(EXAMPLES["linear"], path)
    assert path.read_text() == text
    assert [p.name for p in tmp_path.iterdir()] == ["model.py"]
    assert "safetensors" not in text and "def load" not in text


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, lambda n: nn.DataParallel(nn.DataParallel(n)), lambda n: n.state_dict()]
)
def test_wrapped_networks_and_state_dicts(wrap: Callable[[nn.Module], Any], tmp_path: Path) -> None:
    network = random_network(EXAMPLES["gate"])
    export_source(network.architecture, tmp_path / "model.py", weights=wrap(network))
    (x,) = example_inputs(network.architecture)
    with torch.no_grad():
        assert torch.equal(load_module(tmp_path / "model.py").load()(x), network(x))


def test_keys_are_those_of_the_module(tmp_path: Path) -> None:
    network = random_network(grown("resnet", 1))
    export_source(network.architecture, tmp_path / "wide_net.py", weights=network)
    module = load_module(tmp_path / "wide_net.py")
    state = load_file(tmp_path / "wide_net.safetensors")
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in module.Network().state_dict().items()}


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsMismatchError, match=r"weights must hold 'linear_1.weight'"):
        export_source(EXAMPLES["linear"], tmp_path / "model.py", weights=random_network(EXAMPLES["gate"]))
    assert not list(tmp_path.iterdir())


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="path must be given where weights are"):
        export_source(EXAMPLES["linear"], weights={})
    with pytest.raises(TypeError, match="architecture must be an Architecture but got Network"):
        export_source(Network(EXAMPLES["linear"]))  # type: ignore[arg-type]


# Taken away: another process, which has PyTorch and safetensors alone.

SCRIPT = """
import sys

{block}
sys.path.insert(0, sys.argv[1])
import model
import torch
from safetensors.torch import load_file

data = load_file(sys.argv[1] + "/data.safetensors")
torch.set_num_threads(1)
with torch.no_grad():
    logits = model.load()(data["x"])
print(float((logits.argmax(1) == data["y"]).double().mean()))
torch.save(logits, sys.argv[1] + "/logits.pt")
assert not {{"optuna_nas_morph", "optuna", "sklearn"}} & set(sys.modules)
"""
BLOCK = """
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"grakel", "numpy", "optuna", "optuna_nas_morph", "scipy", "sklearn", "tests"}:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
"""


def train_and_export(directory: Path) -> tuple[float, torch.Tensor]:
    """A grown network trained on handwritten digits, exported: its test accuracy and outputs."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    x = torch.as_tensor(images[order] / 16.0, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.as_tensor(labels[order])
    space = presets.cnn((1, 8, 8), 10, width=8)
    member, rng = space.first(), np.random.default_rng(1)
    for _ in range(3):
        member = space.random_child(member, rng) or member
    network = random_network(member.architecture).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
    for batch in torch.randperm(1297, generator=torch.Generator().manual_seed(0)).repeat(3).split(50):
        optimizer.zero_grad()
        F.cross_entropy(network(x[batch]), y[batch]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    network.eval()
    with torch.no_grad():
        logits = network(x[1297:])
    export_source(network.architecture, directory / "model.py", weights=network)
    save_file({"x": x[1297:].clone(), "y": y[1297:].clone()}, directory / "data.safetensors")
    return float((logits.argmax(1) == y[1297:]).double().mean()), logits


def run_elsewhere(python: Path | str, directory: Path, block: str) -> tuple[float, torch.Tensor]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python, "-c", SCRIPT.format(block=block), str(directory)],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout), torch.load(directory / "logits.pt", weights_only=True)


def test_accuracy_survives_in_a_process_without_this_package(tmp_path: Path) -> None:
    accuracy, logits = train_and_export(tmp_path)
    assert accuracy > 0.5  # it has learned
    theirs, their_logits = run_elsewhere(sys.executable, tmp_path, BLOCK)
    assert theirs == accuracy
    assert torch.equal(their_logits, logits)


@pytest.mark.slow
@pytest.mark.skipif("NASMORPH_TEST_NEW_VENV" not in os.environ, reason="installs PyTorch: set NASMORPH_TEST_NEW_VENV=1")
def test_accuracy_survives_in_a_new_environment(tmp_path: Path) -> None:
    accuracy, logits = train_and_export(tmp_path)
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", f"torch=={torch.__version__}", "safetensors"]
    subprocess.run(install, check=True, capture_output=True)
    installed = subprocess.run([python, "-m", "pip", "list"], check=True, capture_output=True, text=True).stdout
    assert "optuna" not in installed and "scikit-learn" not in installed
    theirs, their_logits = run_elsewhere(python, tmp_path, "")
    assert theirs == accuracy
    torch.testing.assert_close(their_logits, logits, rtol=1e-6, atol=1e-6)


# Costs of a specification that are shown.


def test_the_header_says_what_goes_in_and_out() -> None:
    text = export_source(EXAMPLES["two_inputs"])
    assert "y = network(x1, x2)" in text
    assert "x1 is of shape (N, 2, 5, 4) and type float32, x2 is of shape (N, 5) and type float32" in text
    spec: TensorSpec = EXAMPLES["two_inputs"].specs["out"]
    assert f"y of shape (N, {spec.shape[0]})" in text
