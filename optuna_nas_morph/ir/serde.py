"""Architectures as JSON.

``{"format": "optuna-nas-morph/architecture", "version": 1, "nodes": [...]}``; a node is
``{"name": ..., "inputs": [...], "op": <operation>, <field>: <value>, ...}``, fields at their default left out.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.ir.ops.base import op_from_dict

if TYPE_CHECKING:
    from optuna_nas_morph.ir.architecture import Architecture

FORMAT = "optuna-nas-morph/architecture"
VERSION = 1


def to_json(architecture: Architecture) -> str:
    """Compact JSON."""
    nodes = [{"name": n.name, "inputs": n.inputs, **n.op.to_dict()} for n in architecture.nodes]
    return json.dumps({"format": FORMAT, "version": VERSION, "nodes": nodes}, separators=(",", ":"))


def from_json(text: str) -> Architecture:
    """Inverse of `to_json`.

    Raises:
        ArchitectureError: If the text is not JSON, of another version, or describes no valid architecture.
    """
    from optuna_nas_morph.ir.architecture import Architecture, Node

    try:
        data = json.loads(text)
    except (TypeError, ValueError, RecursionError) as e:
        raise ArchitectureError(f"text must be the JSON of an architecture but is no JSON: {e}") from e
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ArchitectureError(f'text must be JSON with "format": "{FORMAT}".')
    if type(data.get("version")) is not int or data["version"] != VERSION:
        raise ArchitectureError(
            f"version must be {VERSION} but got {data.get('version')!r}: "
            "written by another version of optuna-nas-morph."
        )
    entries = data.get("nodes")
    if not isinstance(entries, list):
        raise ArchitectureError(f"nodes must be a list but got {type(entries).__name__}.")
    nodes: list[Node] = []
    for entry in entries:
        name, inputs, fields = _entry(entry)
        try:
            nodes.append(Node(name, op_from_dict(fields), inputs))
        except ArchitectureError as e:
            raise ArchitectureError(f"node {name!r}: {e}") from None
    return Architecture(tuple(nodes))


def _entry(entry: Any) -> tuple[str, tuple[str, ...], dict[str, Any]]:
    """Split a node's entry into name, inputs and the fields of its operation."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise ArchitectureError(f"every node must be an object with a name but got {entry!r}.")
    inputs = entry.get("inputs")
    if not isinstance(inputs, list) or not all(isinstance(i, str) for i in inputs):
        raise ArchitectureError(f"node {entry['name']!r}: inputs must be a list of node names but got {inputs!r}.")
    return entry["name"], tuple(inputs), {k: v for k, v in entry.items() if k not in ("name", "inputs")}
