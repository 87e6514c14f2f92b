"""What an architecture costs, without building it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from optuna_nas_morph.ir.ops.base import Param

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
    return sum(math.prod(p.shape) for p in architecture.params.values() if not p.buffer)


def flops(architecture: Architecture) -> int:
    """Floating point operations of the matrix products for one sample."""
    return sum(node.op.flops(architecture.input_specs(node.name)) for node in architecture.nodes)


def activation_bytes(architecture: Architecture) -> int:
    """Bytes of the outputs of all nodes for one sample."""
    return sum(spec.numel * _BYTES[spec.dtype] for spec in architecture.specs.values())
