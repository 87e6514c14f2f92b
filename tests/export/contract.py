"""What an exported file must be: the same function, from a file that needs PyTorch and safetensors alone."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from optuna_nas_morph import Architecture, export_source
from optuna_nas_morph.ir.ops import Dropout
from optuna_nas_morph.nets import Network
from tests.strategies import example_inputs, random_network

_numbers = itertools.count()


def load_module(path: Path) -> ModuleType:
    """A file as a module, without the bytecode that would outlive a file written anew within the second."""
    cache = Path(importlib.util.cache_from_source(str(path)))
    cache.unlink(missing_ok=True)
    spec = importlib.util.spec_from_file_location(f"exported_{next(_numbers)}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def without_dropout(architecture: Architecture) -> Architecture:
    """The same architecture, but for layers that draw."""
    return architecture.replace({n.name: Dropout(0.0) for n in architecture.nodes if isinstance(n.op, Dropout)})


def exported(network: Network, path: Path) -> nn.Module:
    """What the exported file makes of a network."""
    export_source(network.architecture, path, weights=network)
    module: nn.Module = load_module(path).load()
    return module


def check_export(architecture: Architecture, path: Path, seed: int = 0) -> str:
    """Compare outputs in float64, in eval mode and in train mode, and the statistics that training leaves behind.

    Returns:
        The text of the file.
    """
    architecture = without_dropout(architecture)
    network = random_network(architecture, seed)
    theirs = exported(network, path)
    assert not theirs.training
    assert sum(p.numel() for p in theirs.parameters()) == architecture.n_parameters
    inputs = [x.double() if x.is_floating_point() else x for x in example_inputs(architecture, 3, seed)]
    network.double()
    theirs.double()
    for train in (False, True, False):  # the last time with new statistics
        network.train(train)
        theirs.train(train)
        with torch.no_grad():
            torch.testing.assert_close(theirs(*inputs), network(*inputs), rtol=1e-12, atol=1e-12)
    return path.read_text()
