"""What a graph kernel sees of an architecture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.ir.fingerprint import graph_fingerprint


@dataclass(frozen=True)
class LabelledGraph:
    """A directed multigraph with a label on every node.

    Args:
        labels:
            One label per node.
        edges:
            Directed edges ``(source, target)`` as indices into ``labels``. Repeats are parallel edges.

    Raises:
        ArchitectureError: If an edge names a node that does not exist.
    """

    labels: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        object.__setattr__(self, "edges", tuple((source, target) for source, target in self.edges))
        n_nodes = len(self.labels)
        for source, target in self.edges:
            if not (0 <= source < n_nodes and 0 <= target < n_nodes):
                raise ArchitectureError(f"edges must join nodes 0 to {n_nodes - 1}, but got ({source}, {target}).")

    @cached_property
    def fingerprint(self) -> str:
        """Hash that is the same for isomorphic graphs: 32 hexadecimal digits."""
        return graph_fingerprint(self)
