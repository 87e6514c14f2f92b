"""Open spaces: everything that morphisms reach from a seed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from optuna_nas_morph.errors import MorphismError, SpaceMismatchError, WeightsCorruptError
from optuna_nas_morph.ir import Architecture, LabelledGraph
from optuna_nas_morph.morphisms import (
    AddHead,
    AddSkip,
    ConcatSkip,
    Deepen,
    GrowKernel,
    InsertResidualBlock,
    InsertTransformerBlock,
    Morphism,
    Site,
    Widen,
    WidenHead,
    WidenHidden,
    parse_morphism,
)
from optuna_nas_morph.spaces.growth import Growth, growth_of
from optuna_nas_morph.spaces.seed_weights import SeedWeights
from optuna_nas_morph.translation import Example, Module, translate

FORMAT = "optuna-nas-morph/morph-space"
VERSION = 1

MOST_RANDOM_STEPS = 12
"""Steps at most of a random walk from the seed, however long chains may be: what is long is to be grown by a search."""

DEFAULT_MORPHISMS: tuple[Morphism, ...] = (
    Widen(1.5),
    Widen(2.0),
    Deepen("relu", 3),
    InsertResidualBlock(3),
    GrowKernel(2),
    AddSkip(),
    ConcatSkip(),
)
TRANSFORMER_MORPHISMS: tuple[Morphism, ...] = (WidenHidden(1.5), AddHead(), WidenHead(1.5), InsertTransformerBlock())


def default_morphisms(seed: Architecture) -> tuple[Morphism, ...]:
    """`DEFAULT_MORPHISMS`, and those of `TRANSFORMER_MORPHISMS` that can be applied to the seed."""
    return *DEFAULT_MORPHISMS, *(m for m in TRANSFORMER_MORPHISMS if m.sites(seed))


@dataclass(frozen=True)
class Step:
    """One morphism at one site.

    Args:
        morphism:
            What changes.
        site:
            Where.
    """

    morphism: Morphism
    site: Site

    def __str__(self) -> str:
        return f"{self.morphism} at {' -> '.join(self.site)}"


@dataclass(frozen=True)
class Descendant:
    """An architecture together with how it descends from the seed of its space.

    Args:
        steps:
            Every step from the seed.
        architecture:
            Where they lead.
    """

    steps: tuple[Step, ...]
    architecture: Architecture

    @cached_property
    def graph(self) -> LabelledGraph:
        """What a graph kernel sees of the architecture."""
        return self.architecture.kernel_graph()

    @property
    def fingerprint(self) -> str:
        """That of the architecture."""
        return self.architecture.fingerprint


@dataclass(frozen=True)
class MorphSpace:
    """Everything that morphisms reach from a seed architecture within limits.

    Args:
        seed:
            Where every lineage starts.
        morphisms:
            What may be applied, in an order that is part of the encoding.
        max_morphisms:
            Longest chain of morphisms from the seed. What is drawn at random has at most `MOST_RANDOM_STEPS`.
        max_parameters:
            Most trained parameters of an architecture.
        max_flops:
            Most floating point operations of the matrix products for one sample.
        max_nodes:
            Most nodes.
        max_activation_bytes:
            Most bytes of the outputs of all nodes for one sample; :obj:`None` for any number.
        weights:
            Trained weights of the seed, from which every network starts that inherits from no other trial, morphisms
            replayed on them; :obj:`None` for fresh ones.

    Raises:
        ValueError: If an argument is out of range, a morphism appears twice, the seed exceeds a limit or the weights
            are not the seed's.
    """

    seed: Architecture
    morphisms: Sequence[Morphism] = DEFAULT_MORPHISMS
    max_morphisms: int = 30
    max_parameters: int = 10_000_000
    max_flops: int = 10_000_000_000
    max_nodes: int = 200
    max_activation_bytes: int | None = None
    weights: SeedWeights | None = None
    _sites: dict[tuple[Architecture, Morphism], tuple[Site, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _steps: dict[tuple[Architecture, Morphism, int], tuple[Step, Architecture] | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if isinstance(self.morphisms, Morphism):
            raise TypeError(f"morphisms must be a sequence of morphisms but got the morphism {self.morphisms}.")
        object.__setattr__(self, "morphisms", tuple(self.morphisms))
        for name in ("max_morphisms", "max_parameters", "max_flops", "max_nodes", "max_activation_bytes"):
            value = getattr(self, name)
            if (type(value) is not int or value < 1) and (name, value) != ("max_activation_bytes", None):
                raise ValueError(f"{name} must be a positive integer but got {value!r}.")
        if not isinstance(self.seed, Architecture):
            raise TypeError(f"seed must be an Architecture but got {type(self.seed).__name__}.")
        if not self.morphisms or not all(isinstance(m, Morphism) for m in self.morphisms):
            raise ValueError(f"morphisms must be a non-empty sequence of morphisms but got {self.morphisms!r}.")
        names = [str(m) for m in self.morphisms]
        if len(set(names)) < len(names):
            raise ValueError(f"morphisms must differ from each other but got {names}.")
        reason = self.violation(self.seed)
        if reason is not None:
            raise ValueError(f"the seed must keep to the limits of the space but {reason}.")
        if self.weights is not None and self.weights.tensors is not None:
            found = {name: tuple(tensor.shape) for name, tensor in self.weights.tensors.items()}
            if found != {name: param.shape for name, param in self.seed.params.items()}:
                raise ValueError("weights must have the names and shapes of the seed's parameters but have not.")

    @staticmethod
    def from_module(
        module: Module,
        example_input: Example,
        *,
        morphisms: Sequence[Morphism] | None = None,
        max_morphisms: int = 30,
        max_parameters: int | None = None,
        max_flops: int | None = None,
        max_nodes: int | None = None,
        max_activation_bytes: int | None = None,
        opaque: Sequence[type[Module]] = (),
    ) -> MorphSpace:
        """Networks grown from a user's own, with the weights that it has.

        The module is traced by torch.fx. The network of the first trial computes the same as it does, in train and in
        eval mode, and its nodes are named as in the module. In a space that has weights "from scratch" means from
        these: so start trials that inherit from no other, controls and the finals of `finalize`. Processes that share a
        study must call this with the same weights: load a checkpoint, or fix the seed.

        What no operation of an architecture computes (an LSTM, an attention, an upsampling) becomes an opaque node, as
        small as possible: it is trained and inherited with the rest, nothing morphs through it, and its inputs and its
        output keep their widths. `growth` says which they are. Its code is stored nowhere: a network with opaque nodes
        is built from the space that this returned, in every process.

        Args:
            module:
                The network; it is not changed.
            example_input:
                What it takes: a tensor of float32 or int64 with the batch on its first axis, or several. The sizes of
                the other axes are those that all networks of the space take.
            morphisms:
                What the search may apply; by default what `default_morphisms` says of the network.
            max_morphisms:
                Longest chain of morphisms.
            max_parameters:
                Most trained parameters; by default 4 times the module's, at least 1 million.
            max_flops:
                Most FLOPs of the matrix products for one sample; by default 4 times the module's, at least 100 million.
            max_nodes:
                Most nodes; by default twice the module's, at least 200.
            max_activation_bytes:
                Most bytes of the outputs of all nodes for one sample; by default any number.
            opaque:
                Classes of modules that are not looked into: each of these modules is one opaque node, whatever its code
                does.

        Raises:
            TranslationError: If it cannot be traced or translated; the message says where, and what to do.
            ValueError: If another argument is out of range.
        """
        translation = translate(module, example_input, opaque)
        seed = translation.architecture
        return MorphSpace(
            seed,
            default_morphisms(seed) if morphisms is None else morphisms,
            max_morphisms,
            max(1_000_000, 4 * seed.n_parameters) if max_parameters is None else max_parameters,
            max(100_000_000, 4 * seed.flops) if max_flops is None else max_flops,
            max(200, 2 * len(seed.nodes)) if max_nodes is None else max_nodes,
            max_activation_bytes,
            SeedWeights.of(translation.weights),
        )

    @property
    def is_whole(self) -> bool:
        """Whether weights and modules that a description does not hold are here, if it has any."""
        return self.weights is None or self.weights.tensors is not None

    @cached_property
    def growth(self) -> Growth:
        """What of the seed can grow, and why the rest cannot: ``print(space.growth)``."""
        return growth_of(self.seed)

    # Limits.

    def violation(self, architecture: Architecture) -> str | None:
        """Which limit an architecture exceeds, or :obj:`None`."""
        for name, value, limit in (
            ("nodes", len(architecture.nodes), self.max_nodes),
            ("parameters", architecture.n_parameters, self.max_parameters),
            ("flops", architecture.flops, self.max_flops),
            ("activation_bytes", architecture.activation_bytes, self.max_activation_bytes),
        ):
            if limit is not None and value > limit:
                return f"it has {value} {name.replace('_', ' ')}, more than max_{name}={limit}"
        return None

    # Steps.

    def apply(self, architecture: Architecture, step: Step) -> Architecture:
        """The architecture after one step.

        Raises:
            MorphismError: If the morphism is not one of the space's, is refused there, or a limit would be exceeded.
        """
        if step.morphism not in self.morphisms:
            known = ", ".join(map(str, self.morphisms))
            raise MorphismError(f"{step.morphism} is not a morphism of this space, which has {known}.")
        child = step.morphism.apply(architecture, step.site)
        reason = self.violation(child)
        if reason is not None:
            raise MorphismError(f"{step} leaves the space: {reason}.")
        return child

    def replay(self, steps: Sequence[Step]) -> Architecture:
        """The architecture after a chain of steps from the seed.

        Raises:
            MorphismError: As `apply`, or if the chain is longer than ``max_morphisms``.
        """
        return self.trace(steps)[-1]

    def trace(self, steps: Sequence[Step]) -> list[Architecture]:
        """Every architecture on the way, from the seed to the end of a chain of steps; one more than there are steps.

        Raises:
            MorphismError: As `replay`.
        """
        if len(steps) > self.max_morphisms:
            raise MorphismError(f"a chain must have at most {self.max_morphisms} steps but has {len(steps)}.")
        way = [self.seed]
        for step in steps:
            way.append(self.apply(way[-1], step))
        return way

    def sites(self, architecture: Architecture, morphism: Morphism) -> tuple[Site, ...]:
        """`Morphism.sites`, remembered."""
        key = (architecture, morphism)
        found = self._sites.get(key)
        if found is None:
            found = morphism.sites(architecture)
            if len(self._sites) >= _CACHE_SIZE:
                self._sites.clear()
            self._sites[key] = found
        return found

    def nearest(self, architecture: Architecture, morphism: Morphism, at: float) -> tuple[Step, Architecture] | None:
        """The step that a coordinate ``at`` in [0, 1] stands for, and its result.

        The sites of the morphism divide [0, 1] evenly. Where the site at that place would exceed a limit, the next one
        that does not is taken, going round.

        Returns:
            The step and the architecture after it; :obj:`None` if the morphism fits nowhere.
        """
        sites = self.sites(architecture, morphism)
        first = min(int(at * len(sites)), len(sites) - 1)
        for i in range(len(sites)):
            found = self._try((architecture, morphism, (first + i) % len(sites)), sites)
            if found is not None:
                return found
        return None

    def steps_from(self, architecture: Architecture) -> Iterator[tuple[Step, Architecture]]:
        """Every step that can be taken from an architecture, with its result."""
        for morphism in self.morphisms:
            sites = self.sites(architecture, morphism)
            for i in range(len(sites)):
                found = self._try((architecture, morphism, i), sites)
                if found is not None:
                    yield found

    def _try(self, key: tuple[Architecture, Morphism, int], sites: Sequence[Site]) -> tuple[Step, Architecture] | None:
        """`apply` remembered; :obj:`None` where a limit would be exceeded."""
        steps = self._steps
        try:
            return steps[key]
        except KeyError:
            pass
        architecture, morphism, i = key
        child = morphism.apply(architecture, sites[i])
        found = (Step(morphism, sites[i]), child) if self.violation(child) is None else None
        if len(steps) >= _CACHE_SIZE:
            steps.clear()
        steps[key] = found
        return found

    # Members, and how to move among them.

    @property
    def size(self) -> None:
        """Nobody can tell how many architectures there are."""
        return None

    @property
    def feature_is_categorical(self) -> tuple[bool, ...]:
        """All `features` are numbers."""
        return (False, False, False)

    def features(self, candidate: Descendant) -> tuple[float, ...]:
        """Logarithms of parameters, operations and nodes relative to the seed and the limits of the space.

        0 to 1, and below 0 where a shrink has made an architecture smaller than the seed.
        """

        def scale(value: int, low: int, high: int) -> float:
            return math.log(max(1, value) / max(1, low)) / math.log(2 * max(1, high) / max(1, low))

        architecture, seed = candidate.architecture, self.seed
        return (
            scale(architecture.n_parameters, seed.n_parameters, self.max_parameters),
            scale(architecture.flops, seed.flops, self.max_flops),
            scale(len(architecture.nodes), len(seed.nodes), self.max_nodes),
        )

    def first(self, rng: np.random.Generator | None = None) -> Descendant:
        """The seed."""
        return Descendant((), self.seed)

    def random(self, rng: np.random.Generator) -> Descendant:
        """The end of a random walk of any length from the seed, at most `MOST_RANDOM_STEPS`."""
        return self.random_lineage(rng)[-1]

    def random_lineage(self, rng: np.random.Generator) -> list[Descendant]:
        """The same walk as in `random`: every architecture on it, the seed first."""
        way = [self.first()]
        for _ in range(int(rng.integers(1, min(self.max_morphisms, MOST_RANDOM_STEPS) + 1))):
            child = self.random_child(way[-1], rng)
            if child is not None:
                way.append(child)
        return way

    def without(self, member: Descendant, i: int) -> Descendant:
        """A member with step ``i`` taken back, and those after it that can no longer be taken."""
        steps, architecture = list(member.steps[:i]), self.seed
        for step in steps:
            architecture = self._taken(architecture, step) or architecture
        for step in member.steps[i + 1 :]:
            child = self._taken(architecture, step)
            if child is not None:
                steps.append(step)
                architecture = child
        return Descendant(tuple(steps), architecture)

    def _taken(self, architecture: Architecture, step: Step) -> Architecture | None:
        """The architecture after a step; :obj:`None` where it cannot be taken."""
        sites = self.sites(architecture, step.morphism)
        if step.site not in sites:
            return None
        found = self._try((architecture, step.morphism, sites.index(step.site)), sites)
        return None if found is None else found[1]

    def random_sibling(self, member: Descendant, rng: np.random.Generator) -> Descendant | None:
        """A random step of the chain taken back, with all that was built on it; half of the time another one instead.

        So a search is not bound to what ancestors once did. It costs the training that is inherited through that step.
        """
        if not member.steps:
            return None
        shorter = self.without(member, int(rng.integers(len(member.steps))))
        if rng.random() < 0.5:
            return shorter
        other = self.random_child(shorter, rng)
        return None if other is None or other.steps == member.steps else other

    def random_child(self, parent: Descendant, rng: np.random.Generator) -> Descendant | None:
        """One random step: a morphism of the space, then a place, both uniform; :obj:`None` where it leads nowhere."""
        if self.is_leaf(parent):
            return None
        morphism = self.morphisms[int(rng.integers(len(self.morphisms)))]
        found = self.nearest(parent.architecture, morphism, rng.random())
        return None if found is None else Descendant((*parent.steps, found[0]), found[1])

    def is_leaf(self, member: Descendant) -> bool:
        """Whether the longest chain is reached."""
        return len(member.steps) >= self.max_morphisms

    def children(self, parent: Descendant) -> Iterator[Descendant]:
        """Every architecture one step further."""
        if not self.is_leaf(parent):
            for step, architecture in self.steps_from(parent.architecture):
                yield Descendant((*parent.steps, step), architecture)

    def members(self) -> Iterator[Descendant]:
        """Every architecture, those with fewer steps first, each fingerprint once."""
        layer, known = [self.first()], {self.seed.fingerprint}
        while layer:
            yield from layer
            following = []
            for parent in layer:
                for child in self.children(parent):
                    if child.fingerprint not in known:
                        known.add(child.fingerprint)
                        following.append(child)
            layer = following

    # Identity.

    def to_dict(self) -> dict[str, Any]:
        """A versioned description, enough to make the space again."""
        optional: dict[str, Any] = {}
        if self.max_activation_bytes is not None:
            optional["max_activation_bytes"] = self.max_activation_bytes
        if self.weights is not None:
            optional["weights"] = self.weights.digest
        return {
            "format": FORMAT,
            "version": VERSION,
            "seed": json.loads(self.seed.to_json()),
            "morphisms": [str(m) for m in self.morphisms],
            "max_morphisms": self.max_morphisms,
            "max_parameters": self.max_parameters,
            "max_flops": self.max_flops,
            "max_nodes": self.max_nodes,
            **optional,
        }

    @staticmethod
    def from_dict(data: dict[str, Any]) -> MorphSpace:
        """Inverse of `to_dict`, but for the seed's weights, of which it knows only the digest.

        Raises:
            SpaceMismatchError: If the description is of another version or describes no space.
        """
        if data.get("format") != FORMAT or data.get("version") != VERSION:
            raise SpaceMismatchError(
                f"space must be of format {FORMAT!r} and version {VERSION} but is {data.get('format')!r}, version "
                f"{data.get('version')!r}: the study was written by another version of optuna-nas-morph."
            )
        try:
            limits = {name: data[name] for name in ("max_morphisms", "max_parameters", "max_flops", "max_nodes")}
            limits["max_activation_bytes"] = data.get("max_activation_bytes")
            seed = Architecture.from_json(json.dumps(data["seed"]))
            weights = SeedWeights(data["weights"]) if "weights" in data else None
            return MorphSpace(seed, tuple(parse_morphism(m) for m in data["morphisms"]), **limits, weights=weights)
        except (KeyError, TypeError, ValueError, WeightsCorruptError) as e:
            raise SpaceMismatchError(f"the stored description of the space cannot be read: {e}") from e

    @cached_property
    def digest(self) -> str:
        """Hash of the description: 32 hexadecimal digits."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def difference(self, stored: dict[str, Any]) -> str:
        """What a stored space has otherwise, for people.

        Raises:
            SpaceMismatchError: If it is of another version or describes no space.
        """
        if stored.get("format") not in (FORMAT, None):
            return f"format is {stored['format']!r}, not {FORMAT!r}"
        other = MorphSpace.from_dict(stored)
        mine, theirs = self.to_dict(), other.to_dict()
        parts = [
            f"{name} is {theirs.get(name)!r}, not {mine.get(name)!r}"
            for name in mine | theirs
            if name not in ("seed", "weights") and mine.get(name) != theirs.get(name)
        ]
        if self.weights != other.weights:
            parts.append("the seed starts from other weights")
        if self.seed.fingerprint != other.seed.fingerprint:
            parts.insert(0, f"the seed has fingerprint {other.seed.fingerprint}, not {self.seed.fingerprint}")
        elif mine["seed"] != theirs["seed"]:
            parts.insert(0, "the seed has its nodes under other names or in another order")
        return "; ".join(parts)


_CACHE_SIZE = 20_000
