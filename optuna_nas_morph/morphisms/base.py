"""The interface of a morphism: a change of an architecture that keeps the function of its network, or nearly so."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, get_type_hints

import numpy as np
from torch import Tensor

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture

Site = tuple[str, ...]
"""Where a morphism applies: names of nodes, and what else it takes to say where."""

Weights = Mapping[str, Tensor]
"""A network's state dict: ``<node>.<parameter>`` to tensor."""

MORPHISMS: dict[str, type[Morphism]] = {}
"""Every morphism by its name."""


@dataclass(frozen=True)
class Morphism(ABC):
    """A function-preserving change. Subclasses are frozen dataclasses; their fields are numbers and strings.

    The contract, checked for every subclass by ``tests/morphisms/contract.py``: the network of ``apply(a, site)`` with
    the weights from `transfer` computes what the network of ``a`` computed, in eval mode always and in train mode
    (batch norm on batch statistics, no dropout) where `exact_train` says so; nothing passed in is changed; the same
    seed gives the same bytes.
    """

    morphism_name: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "morphism_name" in cls.__dict__:
            MORPHISMS[cls.morphism_name] = cls

    @property
    def exact(self) -> bool:
        """Whether the function is kept in eval mode, whatever the weights."""
        return True

    @property
    def exact_train(self) -> bool:
        """Whether the function is kept in train mode too."""
        return self.exact

    def settled(self, parent: Architecture, site: Site, weights: Weights) -> Morphism:
        """This morphism with all that it takes from the values of weights settled; by default there is nothing.

        Which channels are the smallest, say. The settled morphism does to any weights what this one does to these, so
        that optimizers' moments go the same way as the weights.
        """
        return self

    def uncalibrated(self, parent: Architecture, child: Architecture) -> tuple[str, ...]:
        """Batch norms of the child that wait for the statistics of data, if there is any; by default none."""
        return ()

    @abstractmethod
    def candidates(self, architecture: Architecture) -> Iterable[Site]:
        """Sites to consider, in an order that follows the topological order of the nodes; part of the format."""

    @abstractmethod
    def refusal(self, architecture: Architecture, site: Site) -> str | None:
        """Why the morphism cannot be applied at a site, or :obj:`None` if it can."""

    @abstractmethod
    def _apply(self, architecture: Architecture, site: Site) -> Architecture:
        """`apply` at a site that was not refused."""

    @abstractmethod
    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        """Weights with which the child computes what the parent computed.

        Args:
            parent:
                Architecture that ``weights`` belong to.
            child:
                ``apply(parent, site)``.
            site:
                Where it was applied.
            weights:
                One tensor for each of ``parent.params``; not changed.
            rng:
                Source of everything that is drawn.

        Returns:
            One tensor for each of ``child.params``. Tensors that did not change are those of ``weights``, not copies.
            Every entry is a multiple of one entry of ``weights``, plus a constant, or a linear combination of several,
            which counts as new where moments are handed on; neither they nor what is drawn depend on the values of
            ``weights``, once `settled` (`find_origins` relies on it).
        """

    def sites(self, architecture: Architecture) -> tuple[Site, ...]:
        """Where the morphism can be applied, in a deterministic order."""
        return tuple(s for s in self.candidates(architecture) if self.refusal(architecture, s) is None)

    def apply(self, architecture: Architecture, site: Site) -> Architecture:
        """The changed architecture.

        Raises:
            MorphismError: If the morphism cannot be applied there; the message says why.
        """
        reason = self.refusal(architecture, site)
        if reason is not None:
            raise MorphismError(f"{self} cannot be applied at {' '.join(map(str, site))!r}: {reason}.")
        return self._apply(architecture, site)

    def __str__(self) -> str:
        """Name and fields up to the last that differs from its default: ``widen:1.5``, ``deepen:relu,5``."""
        values: list[str] = []
        shown = 0
        for f in fields(self):
            value = getattr(self, f.name)
            # Two morphisms that differ must not share a text: the shortest that reads back as the same number.
            text = repr(value).removesuffix(".0") if isinstance(value, float) else str(value).lower()
            values.append(text)
            if f.default is MISSING or value != f.default:
                shown = len(values)
        # The first field always shows: it is what tells a widening by 1.5 from one by 2.
        shown = max(shown, min(1, len(values)))
        return self.morphism_name + (f":{','.join(values[:shown])}" if shown else "")


def parse_morphism(text: str) -> Morphism:
    """Inverse of ``str(morphism)``.

    Raises:
        MorphismError: If the text names no morphism or its fields do not fit.
    """
    name, _, arguments = str(text).partition(":")
    if name not in MORPHISMS:
        raise MorphismError(f"morphism must be one of {sorted(MORPHISMS)} but got {text!r}.")
    cls = MORPHISMS[name]
    types = get_type_hints(cls)
    names = [f.name for f in fields(cls)]
    values = arguments.split(",") if arguments else []
    if len(values) > len(names):
        raise MorphismError(f"{name} has the fields {names} but got {text!r}.")
    try:
        return cls(**{n: _parse_field(types[n], v) for n, v in zip(names, values, strict=False)})
    except ValueError as e:
        raise MorphismError(f"fields of {text!r} do not fit {name}: {e}") from e


def _parse_field(kind: type, text: str) -> Any:
    if kind is bool:
        if text not in ("true", "false"):
            raise ValueError(f"{text!r} is neither true nor false")
        return text == "true"
    return kind(text)
