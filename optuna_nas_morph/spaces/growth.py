"""What of an architecture can grow, and why the rest cannot."""

from __future__ import annotations

import math
from dataclasses import dataclass

from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import SelfAttention
from optuna_nas_morph.morphisms import WidenHidden
from optuna_nas_morph.morphisms.blocks import block_ends


@dataclass(frozen=True)
class NodeGrowth:
    """Whether a node with parameters can be made wider.

    Args:
        name:
            Its name.
        kind:
            What it is, as a graph kernel sees it.
        n_parameters:
            Trained parameters.
        reasons:
            What its widths are tied to that must not change; empty if at least one of them is free.
    """

    name: str
    kind: str
    n_parameters: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Growth:
    """What of an architecture can grow.

    Args:
        nodes:
            Every node with parameters.
        places:
            Nodes behind which a layer or a block can be inserted.
    """

    nodes: tuple[NodeGrowth, ...]
    places: tuple[str, ...]

    @property
    def share(self) -> float:
        """Share of the parameters that are in nodes which can be made wider; 0 to 1."""
        total = sum(node.n_parameters for node in self.nodes)
        return sum(node.n_parameters for node in self.nodes if not node.reasons) / total if total else 0.0

    def __str__(self) -> str:
        n_parameters = sum(node.n_parameters for node in self.nodes)
        summary = f"{self.share:.0%} of {n_parameters:,} parameters are in layers that can be made wider"
        lines = [f"{summary}; new ones can be inserted at {len(self.places)} places."]
        fixed = [node for node in self.nodes if node.reasons]
        if fixed:
            lines.append("Of fixed width are:")
        lines += [f"  {n.name} ({n.kind}, {n.n_parameters:,} parameters): {', '.join(n.reasons)}" for n in fixed]
        return "\n".join(lines)


def growth_of(architecture: Architecture) -> Growth:
    """What of an architecture can grow, by `Widen`, `WidenHidden` or `AddHead`."""
    groups = architecture.groups
    blockers_of = [
        () if WidenHidden().refusal(architecture, site) is None else groups.blockers[group]
        for group, site in enumerate(WidenHidden().candidates(architecture))
    ]
    found = []
    for node in architecture.nodes:
        specs = architecture.input_specs(node.name)
        params = [p for p in node.op.params(specs).values() if not p.buffer]
        if not params:
            continue
        axes = {axis for param in params for axis in param.axes}
        widths = (groups.tensors[node.name] if "out" in axes else ()) + (
            groups.tensors[node.inputs[0]] if "in" in axes else ()
        )
        blockers = [blockers_of[ref.group] for ref in widths]
        reasons = dict.fromkeys(text for texts in blockers for text in texts) or {node.op.op_name: None}
        is_free = any(not texts for texts in blockers) or isinstance(node.op, SelfAttention)
        n_parameters = sum(math.prod(p.shape) for p in params)
        kind = node.op.label(specs)
        found.append(NodeGrowth(node.name, kind, n_parameters, () if is_free else tuple(reasons)))
    return Growth(tuple(found), tuple(block_ends(architecture)))
