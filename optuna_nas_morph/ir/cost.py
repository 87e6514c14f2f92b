"""What an architecture costs, without building it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from optuna_nas_morph.ir.ops.base import Op, Param, Saved
from optuna_nas_morph.ir.tensor import TensorSpec

if TYPE_CHECKING:
    from optuna_nas_morph.ir.architecture import Architecture

_BYTES = {"float32": 4, "int64": 8}


def params(architecture: Architecture) -> Mapping[str, Param]:
    """Every parameter and buffer by its name in the network."""
    return {
        f"{node.name}.{name}": param
        for node in architecture.nodes
        for name, param in node.op.params(architecture.input_specs(node.name)).items()
    }


def n_parameters(architecture: Architecture) -> int:
    """Trained parameters."""
    return sum(_n_parameters(node.op, architecture.input_specs(node.name)) for node in architecture.nodes)


def flops(architecture: Architecture) -> int:
    """Floating point operations of the matrix products for one sample."""
    return sum(_flops(node.op, architecture.input_specs(node.name)) for node in architecture.nodes)


def activation_bytes(architecture: Architecture) -> int:
    """Bytes of the outputs of all nodes for one sample."""
    return sum(spec.numel * _BYTES[spec.dtype] for spec in architecture.specs.values())


@dataclass(frozen=True)
class SavedTensors:
    """What PyTorch's autograd saves of a network for the backward pass, besides parameters and buffers.

    Args:
        nodes:
            Nodes whose output is saved, network inputs among them.
        floats:
            Floating point numbers per sample: those outputs, masks and intermediate results.
        integers:
            Integers of 8 bytes per sample: token ids, places of maxima.
        constants:
            Floating point numbers per batch: statistics of norms.
    """

    nodes: frozenset[str]
    floats: int
    integers: int
    constants: int


def saved_tensors(architecture: Architecture) -> SavedTensors:
    """What autograd saves in train mode; a tensor that several operations save counts once."""
    memory: dict[str, str] = {}  # of each node, the node whose memory holds its output
    needs_grad: dict[str, bool] = {}
    nodes: set[str] = set()
    counts = Counter[str]()
    for node in architecture.nodes:
        specs = architecture.input_specs(node.name)
        flags = tuple(needs_grad[name] for name in node.inputs)
        saved = _saved(node.op, specs, flags)
        memory[node.name] = memory[node.inputs[0]] if saved.is_view else node.name
        needs_grad[node.name] = any(flags) or _n_parameters(node.op, specs) > 0
        if needs_grad[node.name]:
            nodes.update(memory[node.inputs[i]] for i in saved.inputs)
            nodes.update([memory[node.name]] if saved.output else [])
            counts.update(float32=saved.floats, int64=saved.integers, constants=saved.constants)
    for name in nodes:
        counts[architecture.specs[name].dtype] += architecture.specs[name].numel
    return SavedTensors(frozenset(nodes), counts["float32"], counts["int64"], counts["constants"])


# A search meets the same operations on the same inputs over and over.


@lru_cache(maxsize=65_536)
def _n_parameters(op: Op, inputs: tuple[TensorSpec, ...]) -> int:
    return sum(math.prod(p.shape) for p in op.params(inputs).values() if not p.buffer)


@lru_cache(maxsize=65_536)
def _flops(op: Op, inputs: tuple[TensorSpec, ...]) -> int:
    return op.flops(inputs)


@lru_cache(maxsize=65_536)
def _saved(op: Op, inputs: tuple[TensorSpec, ...], need_grad: tuple[bool, ...]) -> Saved:
    return op.saved(inputs, need_grad)
