"""Closed spaces: a fixed number of choices, such as the operations on the edges of a cell."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.ir import LabelledGraph

FORMAT = "optuna-nas-morph/cell-space"
VERSION = 1

Choice = None | bool | int | float | str

_N_DRAWS = 10_000
_CACHE_SIZE = 100_000


@dataclass(frozen=True)
class Cell:
    """A member of a `CellSpace`.

    Args:
        indices:
            Per choice of the space, the index of what was chosen.
        graph:
            What they stand for.
    """

    indices: tuple[int, ...]
    graph: LabelledGraph

    @property
    def fingerprint(self) -> str:
        """That of the graph: cells that are the same up to names and dead parts have the same."""
        return self.graph.fingerprint


@dataclass(frozen=True, eq=False)
class CellSpace:
    """Every combination of a fixed number of choices.

    In a study, choice ``name`` is the categorical parameter ``arch/<name>``.

    Args:
        choices:
            What can be chosen, by name: for each the alternatives, which Optuna must be able to store.
        to_graph:
            From the choices made, by name, to the graph that the surrogate compares. It should leave out what does
            nothing: see :func:`~optuna_nas_morph.spaces.cells.graph_of_edge_operations`. It raises
            :class:`~optuna_nas_morph.ArchitectureError` for a combination that is not allowed, which is then never
            proposed.

    Raises:
        TypeError: If ``to_graph`` is not callable.
        ValueError: If there is no choice, or one with no alternative or with two equal ones.
    """

    choices: Mapping[str, Sequence[Choice]]
    to_graph: Callable[[dict[str, Any]], LabelledGraph]
    _cells: dict[tuple[int, ...], Cell | None] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.choices, Mapping) or not self.choices:
            raise ValueError(f"choices must be a non-empty mapping of names to alternatives but got {self.choices!r}.")
        for name, alternatives in self.choices.items():
            if not isinstance(name, str) or not name:
                raise ValueError(f"choices must be named by non-empty strings but got {name!r}.")
            if isinstance(alternatives, str) or not isinstance(alternatives, Sequence) or not alternatives:
                raise ValueError(f"choices[{name!r}] must be a non-empty sequence but got {alternatives!r}.")
            for alternative in alternatives:
                if alternative is not None and not isinstance(alternative, bool | int | float | str):
                    raise ValueError(
                        f"choices[{name!r}] must hold None, bools, ints, floats and strings but got {alternative!r}."
                    )
            if any(_index(alternatives, value) != i for i, value in enumerate(alternatives)):
                raise ValueError(f"choices[{name!r}] must differ from each other but got {alternatives!r}.")
        if not callable(self.to_graph):
            raise TypeError(f"to_graph must be a function of a dict of choices but got {self.to_graph!r}.")
        object.__setattr__(self, "choices", {name: tuple(values) for name, values in self.choices.items()})

    def cell(self, choices: Mapping[str, Any]) -> Cell:
        """The member that choices stand for.

        Raises:
            ArchitectureError: If the space does not allow this combination.
            ValueError: If a choice is missing or is not one of the alternatives.
        """
        indices = []
        for name, alternatives in self.choices.items():
            if name not in choices:
                raise ValueError(f"choices must have {name!r} but have only {sorted(choices)}.")
            index = _index(alternatives, choices[name])
            if index is None:
                raise ValueError(f"{name!r} must be one of {alternatives} but got {choices[name]!r}.")
            indices.append(index)
        found = self._at(tuple(indices))
        if found is None:
            self.to_graph(self._named(tuple(indices)))  # Raises again, with its reason.
            raise ArchitectureError(f"to_graph must be a pure function but refused {dict(choices)} once, not twice.")
        return found

    def choices_of(self, cell: Cell) -> dict[str, Any]:
        """The choices that make a member, by name."""
        return self._named(cell.indices)

    @cached_property
    def size(self) -> int:
        """How many combinations there are, allowed or not."""
        return math.prod(len(alternatives) for alternatives in self.choices.values())

    @property
    def feature_is_categorical(self) -> tuple[bool, ...]:
        """Every feature is the index of a choice."""
        return (True,) * len(self.choices)

    def features(self, candidate: Cell) -> tuple[float, ...]:
        """The choices."""
        return tuple(map(float, candidate.indices))

    def first(self, rng: np.random.Generator) -> Cell:
        """Any member: no one comes first."""
        return self.random(rng)

    def random(self, rng: np.random.Generator) -> Cell:
        """A member drawn uniformly.

        Raises:
            ArchitectureError: If draw after draw is not allowed, and the space is too large to look for what is.
        """
        sizes = [len(alternatives) for alternatives in self.choices.values()]
        for _ in range(_N_DRAWS):
            found = self._at(tuple(int(rng.integers(n)) for n in sizes))
            if found is not None:
                return found
        allowed = list(self.members()) if self.size <= _CACHE_SIZE else []
        if allowed:
            return allowed[int(rng.integers(len(allowed)))]
        raise ArchitectureError(f"to_graph must allow some combinations of choices but refused {_N_DRAWS} random ones.")

    def random_lineage(self, rng: np.random.Generator) -> list[Cell]:
        """One member drawn uniformly: no other is on the way to it."""
        return [self.random(rng)]

    def random_child(self, parent: Cell, rng: np.random.Generator) -> Cell | None:
        """One choice made differently, which and how uniform."""
        free = [i for i, alternatives in enumerate(self.choices.values()) if len(alternatives) > 1]
        if not free:
            return None
        i = free[int(rng.integers(len(free)))]
        n = len(tuple(self.choices.values())[i])
        other = (parent.indices[i] + 1 + int(rng.integers(n - 1))) % n
        return self._at((*parent.indices[:i], other, *parent.indices[i + 1 :]))

    def random_sibling(self, member: Cell, rng: np.random.Generator) -> Cell | None:
        """As `random_child`: every edit takes back another."""
        return self.random_child(member, rng)

    def is_leaf(self, member: Cell) -> bool:
        """Whether there is nothing to choose."""
        return self.size == 1

    def children(self, parent: Cell) -> Iterator[Cell]:
        """Every member with one choice made differently."""
        for i, alternatives in enumerate(self.choices.values()):
            for other in range(len(alternatives)):
                if other != parent.indices[i]:
                    found = self._at((*parent.indices[:i], other, *parent.indices[i + 1 :]))
                    if found is not None:
                        yield found

    def members(self) -> Iterator[Cell]:
        """Every member, the last choice changing fastest."""
        for indices in product(*(range(len(alternatives)) for alternatives in self.choices.values())):
            found = self._at(indices)
            if found is not None:
                yield found

    def _at(self, indices: tuple[int, ...]) -> Cell | None:
        """The member at indices, remembered; :obj:`None` where it is not allowed."""
        try:
            return self._cells[indices]
        except KeyError:
            pass
        try:
            graph = self.to_graph(self._named(indices))
        except ArchitectureError:
            found = None
        else:
            if not isinstance(graph, LabelledGraph):
                raise TypeError(f"to_graph must return a LabelledGraph but returned {type(graph).__name__}.")
            found = Cell(indices, graph)
        if len(self._cells) >= _CACHE_SIZE:
            self._cells.clear()
        self._cells[indices] = found
        return found

    def _named(self, indices: tuple[int, ...]) -> dict[str, Any]:
        return {name: values[i] for (name, values), i in zip(self.choices.items(), indices, strict=True)}

    # Identity.

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CellSpace) and (self.digest, self.to_graph) == (other.digest, other.to_graph)

    def __hash__(self) -> int:
        return hash(self.digest)

    def to_dict(self) -> dict[str, Any]:
        """A versioned description. A Python function cannot be made again from it: only its name is there."""
        name = getattr(self.to_graph, "__qualname__", type(self.to_graph).__qualname__)
        module = getattr(self.to_graph, "__module__", type(self.to_graph).__module__)
        return {
            "format": FORMAT,
            "version": VERSION,
            "choices": {name: list(alternatives) for name, alternatives in self.choices.items()},
            "to_graph": name if module == "__main__" else f"{module}.{name}",
        }

    @cached_property
    def digest(self) -> str:
        """Hash of the description: 32 hexadecimal digits."""
        # Floats that JSON does not know are written as Python writes them, here and when they are read.
        text = json.dumps(self.to_dict(), separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def difference(self, stored: dict[str, Any]) -> str:
        """What a stored space has otherwise, for people."""
        mine = self.to_dict()
        return "; ".join(
            f"{name} is {stored.get(name)!r}, not {value!r}"
            for name, value in mine.items()
            if json.dumps(value) != json.dumps(stored.get(name))  # Not ==: 1 is not True, and NaN is NaN.
        )


def _index(alternatives: Sequence[Any], value: Any) -> int | None:
    """Where a value is among alternatives, by Optuna's rule: equal, or both NaN."""
    for i, alternative in enumerate(alternatives):
        if alternative == value or (alternative != alternative and value != value):
            return i
    return None
