"""Networks as ONNX files, against onnxruntime."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from optuna_nas_morph import Architecture, Network, export_onnx
from tests.export.test_source import grown
from tests.morphisms.chains import seeds
from tests.strategies import example_architectures, example_inputs, random_architecture, random_network

EXAMPLES = example_architectures()


def check_onnx(network: Network, exported: nn.Module | Architecture, path: Path) -> None:
    """Compare outputs for several batch sizes; the file was traced with another one."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    export_onnx(exported, path)
    session = runtime.InferenceSession(path)
    architecture = network.architecture
    assert [i.name for i in session.get_inputs()] == list(architecture.inputs)
    assert [o.name for o in session.get_outputs()] == [architecture.output]
    for n in (1, 2, 5):
        inputs = example_inputs(architecture, n)
        feed = {name: x.numpy() for name, x in zip(architecture.inputs, inputs, strict=True)}
        (theirs,) = session.run(None, feed)
        with torch.no_grad():
            ours = network.eval()(*inputs)
        torch.testing.assert_close(torch.from_numpy(theirs), ours, rtol=1e-4, atol=1e-4)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


# The exporter warns of its own parts.
internal_warnings = pytest.mark.filterwarnings(
    "ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning",
    "ignore:# The axis name:UserWarning",
    "ignore::DeprecationWarning",
)


@internal_warnings
@pytest.mark.parametrize("name", ["gate", "two_inputs", "self_attention", "adaptive_pool2d"])
def test_some_operations(name: str, tmp_path: Path) -> None:
    network = random_network(EXAMPLES[name])
    check_onnx(network, network, tmp_path / "model.onnx")


@internal_warnings
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXAMPLES if not name.startswith("input")])
def test_every_operation(name: str, tmp_path: Path) -> None:
    network = random_network(EXAMPLES[name])
    check_onnx(network, network, tmp_path / "model.onnx")


@internal_warnings
@pytest.mark.slow
@pytest.mark.parametrize("preset", seeds())
@pytest.mark.parametrize("n_steps", [0, 10])
def test_presets(preset: str, n_steps: int, tmp_path: Path) -> None:
    network = random_network(grown(preset, 0, n_steps) if n_steps else seeds()[preset])
    check_onnx(network, network, tmp_path / "model.onnx")


@internal_warnings
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_random_architectures(seed: int, tmp_path: Path) -> None:
    network = random_network(random_architecture(np.random.default_rng(seed)))
    check_onnx(network, network, tmp_path / "model.onnx")


@internal_warnings
def test_a_wrapped_network_stays_as_it_is(tmp_path: Path) -> None:
    network = random_network(EXAMPLES["batch_norm2d"]).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    check_onnx(random_network(EXAMPLES["batch_norm2d"]), nn.DataParallel(network), tmp_path / "model.onnx")
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@internal_warnings
@pytest.mark.slow
def test_an_architecture_has_the_same_weights_each_time(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    for name in ("a.onnx", "b.onnx"):
        torch.rand(1)
        export_onnx(EXAMPLES["linear"], tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_without_the_extra_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without_onnx(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] in ("onnx", "onnxscript"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return original(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_onnx)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("onnx", "onnxscript")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"needs 'onnxscript', .* run `pip install optuna-nas-morph\[onnx\]`"):
        export_onnx(EXAMPLES["linear"], tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_network_without_operations_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    with pytest.raises(ValueError, match="network must have an operation but is the input"):
        export_onnx(EXAMPLES["input"], tmp_path / "model.onnx")


def test_other_modules_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    with pytest.raises(TypeError, match="network must be a Network, wrapped or not, but got Linear"):
        export_onnx(nn.Linear(2, 2), tmp_path / "model.onnx")
