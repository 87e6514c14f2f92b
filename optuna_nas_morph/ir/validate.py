"""What makes a sequence of nodes an architecture: unique names, known inputs, shapes that fit, one output."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.ir.ops.base import Op
from optuna_nas_morph.ir.tensor import TensorSpec

if TYPE_CHECKING:
    from optuna_nas_morph.ir.architecture import Node

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def infer_specs(nodes: Sequence[Node]) -> dict[str, TensorSpec]:
    """Shapes of every node's output.

    Raises:
        ArchitectureError: Naming the first node that is not valid.
    """
    if not nodes:
        raise ArchitectureError("nodes must hold at least one node but is empty.")
    specs: dict[str, TensorSpec] = {}
    unused: dict[str, None] = {}
    for node in nodes:
        name, op = node.name, node.op
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ArchitectureError(
                f"node names must be letters, digits and underscores, starting with a letter, but got {name!r}."
            )
        if not isinstance(op, Op):
            raise ArchitectureError(f"node {name!r}: op must be an operation but got {op!r}.")
        if not isinstance(node.inputs, tuple) or not all(isinstance(source, str) for source in node.inputs):
            raise ArchitectureError(f"node {name!r}: inputs must be a tuple of names but got {node.inputs!r}.")
        if name in specs:
            raise ArchitectureError(f"node {name!r}: the name is used twice.")
        n_inputs = len(node.inputs)
        if n_inputs < op.min_inputs or (op.max_inputs is not None and n_inputs > op.max_inputs):
            at_most = "more" if op.max_inputs is None else op.max_inputs
            raise ArchitectureError(
                f"node {name!r}: {op.op_name} takes {op.min_inputs} to {at_most} inputs but got {n_inputs}."
            )
        inputs: list[TensorSpec] = []
        for source in node.inputs:
            if source not in specs:
                raise ArchitectureError(f"node {name!r}: its input {source!r} is not a node before it.")
            inputs.append(specs[source])
            unused.pop(source, None)
        try:
            specs[name] = _infer(op, tuple(inputs))
        except ArchitectureError as e:
            raise ArchitectureError(f"node {name!r}: {e}") from None
        unused[name] = None
    if len(unused) != 1 or nodes[-1].name not in unused:
        dead = [name for name in unused if name != nodes[-1].name]
        raise ArchitectureError(f"nodes {dead} do not reach the output {nodes[-1].name!r}.")
    return specs


@lru_cache(maxsize=65_536)
def _infer(op: Op, inputs: tuple[TensorSpec, ...]) -> TensorSpec:
    """`Op.infer`, remembered: a search meets the same operations on the same inputs over and over."""
    return op.infer(inputs)
