"""The cells of NAS-Bench-201 (Dong and Yang, ICLR 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna_nas_morph.ir import LabelledGraph
from optuna_nas_morph.spaces import CellSpace
from optuna_nas_morph.spaces.cells import graph_of_edge_operations

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
N_STATES = 4
_EDGES = [(source, target) for target in range(1, N_STATES) for source in range(target)]


def nas_bench_201() -> CellSpace:
    """The 15,625 cells with four states and one of five operations on each of the six edges.

    Choices are named ``"0-1"``, ``"0-2"``, ``"1-2"``, ``"0-3"``, ``"1-3"``, ``"2-3"``, by the states that they join.
    """
    return CellSpace({_name(*edge): OPERATIONS for edge in _EDGES}, to_graph)


def to_graph(choices: Mapping[str, Any]) -> LabelledGraph:
    """The graph of what a cell computes."""
    return graph_of_edge_operations({edge: choices[_name(*edge)] for edge in _EDGES}, N_STATES)


def to_string(choices: Mapping[str, Any]) -> str:
    """A cell as the tables of NAS-Bench-201 name it: ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``."""
    states = [
        "".join(f"|{choices[_name(source, target)]}~{source}" for source in range(target)) + "|"
        for target in range(1, N_STATES)
    ]
    return "+".join(states)


def _name(source: int, target: int) -> str:
    return f"{source}-{target}"
