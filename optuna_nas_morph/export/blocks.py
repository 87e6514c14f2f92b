"""From a graph to what a person would write: layers in runs, runs in blocks, and blocks that are used several times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from optuna_nas_morph.export.layers import Layer, layers_of
from optuna_nas_morph.export.parameters import n_parameters
from optuna_nas_morph.export.regions import Key, Outline, Region, shared_regions
from optuna_nas_morph.ir import Architecture, TensorSpec


@dataclass(frozen=True)
class Step:
    """What one line computes: a layer or block with any number of inputs, or several with one each, one after another.

    Args:
        parts:
            What is applied.
        inputs:
            Names of the nodes whose outputs enter the first.
        output:
            Name of the node whose output leaves the last.
    """

    parts: tuple[Part, ...]
    inputs: tuple[str, ...]
    output: str

    @property
    def is_module(self) -> bool:
        """Whether it is written as a module or several of them, rather than as an expression."""
        part = self.parts[0]
        return len(self.parts) > 1 or isinstance(part, Block) or part.expression(part.node.inputs) is None

    @property
    def folds(self) -> bool:
        """Whether it is one norm or one activation."""
        part = self.parts[0]
        return len(self.parts) == 1 and isinstance(part, Layer) and part.node.op.folds

    @property
    def commutes(self) -> bool:
        """Whether the order of the inputs has no meaning."""
        part = self.parts[0]
        return isinstance(part, Layer) and part.node.op.commutative

    def expression(self, values: Sequence[str]) -> str:
        """What is written for a step that is no module."""
        (part,) = self.parts
        assert isinstance(part, Layer)
        return part.expression(values) or ""

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """All layers in it, also those in blocks."""
        result: list[Layer] = []
        for part in self.parts:
            result += [part] if isinstance(part, Layer) else part.layers
        return tuple(result)


@dataclass(frozen=True)
class Block:
    """One use of a class of the file.

    Args:
        key:
            Equal for uses of the same class.
        entries:
            Names of the nodes whose outputs enter.
        steps:
            What it computes.
        input:
            What enters first.
        output:
            What leaves.
    """

    key: Key
    entries: tuple[str, ...]
    steps: tuple[Step, ...]
    input: TensorSpec
    output: TensorSpec

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """All layers in it."""
        return tuple(layer for step in self.steps for layer in step.layers)

    @cached_property
    def has_merges(self) -> bool:
        """Whether it is more than one chain of layers."""
        return any(len(layer.inputs) > 1 for layer in self.layers)

    @property
    def is_sequence(self) -> bool:
        """Whether it is nothing but layers and blocks one after another."""
        return len(self.steps) == 1 and self.steps[0].is_module


Part = Layer | Block
NETWORK: Key = "network"
"""Key of the block that is the whole network."""


def network_block(architecture: Architecture) -> Block:
    """The whole network as a block of blocks."""
    layers = layers_of(architecture)
    outline = Outline(architecture, {name: layer.kind for name, layer in layers.items()})

    def count(regions: Sequence[Region]) -> int:
        return n_parameters([[layers[name] for name in region.nodes] for region in regions])

    shared = [region for group in shared_regions(outline, count).values() for region in group]
    plain = _Planner(outline, layers, shared, frozenset()).network()
    counts = Counter(tuple(layer.kind for layer in segment) for segment in _segments_written(plain, outline, set()))
    repeated = frozenset(kinds for kinds, n in counts.items() if (n - 1) * (len(kinds) - 1) > 1)
    return _Planner(outline, layers, shared, repeated).network()


@dataclass(frozen=True)
class _Planner:
    outline: Outline
    layers: dict[str, Layer]
    shared: Sequence[Region]
    repeated: frozenset[tuple[Hashable, ...]]

    def network(self) -> Block:
        architecture = self.outline.architecture
        steps = self.steps(self.outline.arranged(architecture.output, self.layers))
        first, last = architecture.specs[architecture.inputs[0]], architecture.specs[architecture.output]
        return Block(NETWORK, architecture.inputs, _ends_apart(steps), first, last)

    def steps(self, nodes: Sequence[str]) -> tuple[Step, ...]:
        result: list[Step] = []
        for chain in self.outline.chains(nodes, self.shared):
            run: list[Region] = []
            for region in chain:
                layer = self.layers[region.exit]
                behind_merge = bool(not run and result and not result[-1].is_module)
                if len(region.nodes) == 1 and layer.stands_alone(behind_merge=behind_merge):
                    result += self.run(run)
                    result.append(Step((layer,), self.outline.operands[region.exit], region.exit))
                    run = []
                else:
                    run.append(region)
            result += self.run(run)
        return tuple(result)

    def run(self, regions: Sequence[Region]) -> list[Step]:
        """One step for regions one after another, if there are any; segments that repeat elsewhere are blocks."""
        if not regions:
            return []
        parts: list[Part] = []
        for segment in _segments([self.part(region) for region in regions], self.outline):
            layers = [part for part in segment if isinstance(part, Layer)]
            kinds = tuple(layer.kind for layer in layers)
            if kinds in self.repeated:
                entries = layers[0].node.inputs
                step = Step(tuple(segment), entries, layers[-1].node.name)
                parts.append(Block(kinds, entries, (step,), layers[0].inputs[0], layers[-1].output))
            else:
                parts += segment
        return [Step(tuple(parts), (regions[0].entry,), regions[-1].exit)]

    def part(self, region: Region) -> Part:
        if len(region.nodes) == 1:
            return self.layers[region.exit]
        specs = self.outline.architecture.specs
        steps = self.steps(region.nodes)
        return Block(self.outline.key(region), (region.entry,), steps, specs[region.entry], specs[region.exit])


def _segments(parts: Sequence[Part], outline: Outline) -> Iterator[list[Part]]:
    """A layer with weights together with the norms and activations behind it; every other part alone."""
    segment: list[Part] = []
    for part in parts:
        if segment and isinstance(part, Layer) and outline.follows(part.node.name):
            segment.append(part)
            continue
        if segment:
            yield segment
        segment = [part]
        if isinstance(part, Block) or part.node.op.folds or not part.has_weights:
            yield segment
            segment = []
    if segment:
        yield segment


def _segments_written(block: Block, outline: Outline, done: set[Key]) -> Iterator[list[Layer]]:
    """Segments wherever they are written: those of a class once, however often it is used."""
    if block.key in done:
        return
    done.add(block.key)
    for step in block.steps:
        for segment in _segments(step.parts, outline):
            layers = [part for part in segment if isinstance(part, Layer)]
            if layers:
                yield layers
        for part in step.parts:
            if isinstance(part, Block):
                yield from _segments_written(part, outline, done)


def _ends_apart(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """What comes before the first block, and the last layer with weights, as steps of their own: stem and head."""
    if steps and steps[0].is_module:
        parts = steps[0].parts
        n_stem = next((i for i, part in enumerate(parts) if isinstance(part, Block) and part.has_merges), 0)
        steps = (*_split(steps[0], n_stem), *steps[1:])
    if steps and steps[-1].is_module:
        parts = steps[-1].parts
        last = max((i for i, part in enumerate(parts) if isinstance(part, Block) or part.has_weights), default=0)
        steps = (*steps[:-1], *_split(steps[-1], last if isinstance(parts[last], Layer) else 0))
    return steps


def _split(step: Step, at: int) -> tuple[Step, ...]:
    if at <= 0:
        return (step,)
    last = step.parts[at - 1]
    between = last.node.name if isinstance(last, Layer) else last.steps[-1].output
    return Step(step.parts[:at], step.inputs, between), Step(step.parts[at:], (between,), step.output)
