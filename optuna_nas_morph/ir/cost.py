"""What an architecture costs, without building it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from optuna_nas_morph.ir.ops.base import Op, Param
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


# A search meets the same operations on the same inputs over and over.


@lru_cache(maxsize=65_536)
def _n_parameters(op: Op, inputs: tuple[TensorSpec, ...]) -> int:
    return sum(math.prod(p.shape) for p in op.params(inputs).values() if not p.buffer)


@lru_cache(maxsize=65_536)
def _flops(op: Op, inputs: tuple[TensorSpec, ...]) -> int:
    return op.flops(inputs)
