"""What every space is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

import numpy as np

from optuna_nas_morph.ir import LabelledGraph


class Candidate(Protocol):
    """A member of a space, and how it is reached there."""

    @property
    def graph(self) -> LabelledGraph:
        """What a graph kernel sees of it."""
        ...

    @property
    def fingerprint(self) -> str:
        """Equal for members that compute the same: those are not trained twice."""
        ...


C = TypeVar("C", bound=Candidate)


class Space(Protocol[C]):
    """Architectures that a study may propose, and how to move among them.

    How a member is written as Optuna parameters is `optuna_nas_morph.encoding`'s business.
    """

    @property
    def digest(self) -> str:
        """Hash of what the space is: a study has one space."""
        ...

    @property
    def size(self) -> int | None:
        """How many combinations of parameters there are; :obj:`None` if nobody can tell."""
        ...

    @property
    def feature_is_categorical(self) -> tuple[bool, ...]:
        """Per entry of `features`, whether it is an index of a choice."""
        ...

    def features(self, candidate: C) -> tuple[float, ...]:
        """What the surrogate sees of a member besides its graph: numbers from 0 to 1, or indices of choices."""
        ...

    def first(self, rng: np.random.Generator) -> C:
        """The member that a search starts with."""
        ...

    def random(self, rng: np.random.Generator) -> C:
        """A member drawn from the whole space."""
        ...

    def random_lineage(self, rng: np.random.Generator) -> list[C]:
        """A random member, and before it all those on the way to it that are as cheap to have."""
        ...

    def random_child(self, parent: C, rng: np.random.Generator) -> C | None:
        """A member one edit away; :obj:`None` if the draw leads nowhere."""
        ...

    def random_sibling(self, member: C, rng: np.random.Generator) -> C | None:
        """A member that comes of taking an edit back; :obj:`None` if there is none to take back."""
        ...

    def is_leaf(self, member: C) -> bool:
        """Whether a search need not go on from here: `children` is empty."""
        ...

    def children(self, parent: C) -> Iterator[C]:
        """Every member one edit away."""
        ...

    def members(self) -> Iterator[C]:
        """Every member, in a fixed order; endless where `size` is :obj:`None`."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """A versioned description."""
        ...

    def difference(self, stored: dict[str, Any]) -> str:
        """What differs from a description, for people."""
        ...
