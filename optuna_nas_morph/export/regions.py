"""Parts of a graph that are functions of one value, and which of them repeat.

The nodes between a merge and its immediate dominator (the last node that all paths to it pass) are such a part, unless
a node outside reads one of them. Two of these parts are disjoint or nested, so they form a forest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

from optuna_nas_morph.ir import Architecture

Key = Hashable
MAX_PARAMETERS = 6
"""Regions that differ in more values are not written as one class."""
MAX_PARAMETERS_OF_SERIES = 3
"""Likewise where a region is a series of others, which reads well without a class of its own."""


@dataclass(frozen=True)
class Region:
    """A part of a graph that one value enters and one leaves.

    Args:
        entry:
            Name of the node whose output enters; empty for a node with several inputs or none.
        nodes:
            Names, each after those that it reads; the last is what leaves.
    """

    entry: str
    nodes: tuple[str, ...]

    @property
    def exit(self) -> str:
        """Name of the node whose output leaves."""
        return self.nodes[-1]

    @cached_property
    def members(self) -> frozenset[str]:
        """Its nodes as a set."""
        return frozenset(self.nodes)


@dataclass(frozen=True)
class Outline:
    """A graph as far as its parts are compared.

    Args:
        architecture:
            The graph.
        kinds:
            Per node, what two nodes have in common that one line of code can stand for.
    """

    architecture: Architecture
    kinds: Mapping[str, Hashable]

    @cached_property
    def dominators(self) -> Mapping[str, str | None]:
        """Per node, the last one before it that every path to it passes; :obj:`None` where there is none."""
        result: dict[str, str | None] = {}
        depth: dict[str | None, int] = {None: 0}
        for node in self.architecture.nodes:
            common: str | None = node.inputs[0] if node.inputs else None
            for name in node.inputs[1:]:
                other: str | None = name
                while common != other:
                    if depth[common] >= depth[other]:
                        common = result[common] if common is not None else None
                    else:
                        other = result[other] if other is not None else None
            result[node.name] = common
            depth[node.name] = depth[common] + 1
        return result

    @cached_property
    def operands(self) -> Mapping[str, tuple[str, ...]]:
        """Inputs of every node; of two summands or factors, whose order has no effect, the longer branch last."""
        result = {}
        for node in self.architecture.nodes:
            operands = node.inputs
            if node.op.commutative and len(operands) == 2:
                start = self.dominators[node.name]
                operands = tuple(sorted(operands, key=lambda name: self._n_nodes_between(start, name)))
            result[node.name] = operands
        return result

    def _n_nodes_between(self, start: str | None, end: str) -> int:
        ancestors, index = self.architecture.ancestors, self.architecture.index
        until = ancestors[end] | 1 << index[end]
        return (until & ~(0 if start is None else ancestors[start] | 1 << index[start])).bit_count()

    def arranged(self, last: str, inside: Collection[str]) -> tuple[str, ...]:
        """Nodes that lead to ``last``, each after its operands, in an order that is the same wherever they repeat."""
        done: dict[str, None] = {}
        stack = [(last, False)] if last in inside else []
        while stack:
            name, ready = stack.pop()
            if ready:
                done[name] = None
            elif name not in done:
                stack.append((name, True))
                operands = self.operands[name]
                if not self.architecture[name].op.commutative:
                    operands = operands[::-1]  # else the longest branch comes first
                stack.extend((i, False) for i in operands if i in inside and i not in done)
        return tuple(done)

    def key(self, region: Region) -> Key:
        """Equal for regions that one class can stand for."""
        place = {name: i for i, name in enumerate(region.nodes)}
        return tuple((self.kinds[n], tuple(place.get(i, -1) for i in self.operands[n])) for n in region.nodes)

    def by_key(self, regions: Sequence[Region]) -> dict[Key, list[Region]]:
        """Regions grouped by what they have in common."""
        result: dict[Key, list[Region]] = {}
        for region in regions:
            result.setdefault(self.key(region), []).append(region)
        return result

    # Regions.

    @cached_property
    def merges(self) -> tuple[Region, ...]:
        """Regions that end in a merge, and in the norms and activations behind it that all of one kind share."""
        found = [
            region
            for node in self.architecture.nodes
            if len(node.inputs) > 1 and (region := self._merge(node.name)) is not None
        ]
        result = []
        for group in self.by_key(found).values():
            tails = [self._tail(region.exit) for region in group]
            kinds = zip(*([self.kinds[n] for n in tail] for tail in tails), strict=False)
            n_shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, kinds))
            result += [Region(r.entry, r.nodes + tail[:n_shared]) for r, tail in zip(group, tails, strict=True)]
        return tuple(result)

    def _merge(self, last: str) -> Region | None:
        architecture, start = self.architecture, self.dominators[last]
        if start is None:
            return None
        after, until = 1 << architecture.index[start], architecture.ancestors[last]
        inner = {
            node.name
            for i, node in enumerate(architecture.nodes)
            if until >> i & 1 and architecture.ancestors[node.name] & after
        }
        members = inner | {last}
        leaks = any(consumer not in members for name in inner for consumer in architecture.consumers[name])
        return Region(start, self.arranged(last, members)) if inner and not leaks else None

    def _tail(self, name: str) -> tuple[str, ...]:
        """Norms and activations behind a node that nothing else reads."""
        architecture, result = self.architecture, []
        while len(architecture.consumers[name]) == 1:
            (follower,) = architecture.consumers[name]
            if not self.follows(follower):
                break
            result.append(follower)
            name = follower
        return tuple(result)

    def follows(self, name: str) -> bool:
        """Whether a node belongs to the one before it, as a norm or an activation does."""
        node = self.architecture[name]
        return (
            node.op.folds
            and len(node.inputs) == 1
            and self.architecture.specs[name] == self.architecture.specs[node.inputs[0]]
        )

    # Chains.

    def chains(self, nodes: Sequence[str], parts: Collection[Region]) -> Iterator[list[Region]]:
        """Nodes in runs in which each part is all that reads the one before it.

        Args:
            nodes:
                As from `arranged`.
            parts:
                Regions to be taken as one part each; the largest ones count.
        """
        inside = set(nodes)
        whole: dict[str, Region] = {}
        for region in sorted(parts, key=lambda r: len(r.nodes)):
            if region.members < inside:
                whole.update(dict.fromkeys(region.nodes, region))
        chain: list[Region] = []
        for name in nodes:
            if name in whole and name != whole[name].exit:
                continue
            operands = self.operands[name]
            part = whole.get(name) or Region(operands[0] if len(operands) == 1 else "", (name,))
            linked = bool(chain) and part.entry == chain[-1].exit
            if not linked or not part.members.issuperset(self.architecture.consumers[part.entry]):
                if chain:
                    yield chain
                chain = []
            chain.append(part)
        if chain:
            yield chain

    def repeats(self, nodes: Sequence[str]) -> Iterator[Region]:
        """Runs of several parts, a merge among them, that come more than once in a row: a block of two regions, say."""
        for chain in self.chains(nodes, self.merges):
            yield from self._repeats(chain, [self.key(part) for part in chain])

    def _repeats(self, chain: list[Region], keys: list[Key]) -> Iterator[Region]:
        best, period, start = 0, 0, 0
        for n in range(2, len(chain) // 2 + 1):
            for i in range(len(chain) - 2 * n + 1):
                if len(set(keys[i : i + n])) == 1 or all(len(part.nodes) == 1 for part in chain[i : i + n]):
                    continue
                same = sum(1 for _ in takewhile(lambda j, n=n: keys[j] == keys[j + n], range(i, len(chain) - n)))  # type: ignore[misc]
                length = same // n * n + n
                # The shortest period, and of these the last: blocks follow the one that changes the size.
                if length >= 2 * n and (length > best or (length, n) == (best, period)):
                    best, period, start = length, n, i
        if best:
            yield from self._repeats(chain[:start], keys[:start])
            for i in range(start, start + best, period):
                block = chain[i : i + period]
                yield Region(block[0].entry, tuple(name for part in block for name in part.nodes))
            yield from self._repeats(chain[start + best :], keys[start + best :])


def shared_regions(outline: Outline, n_parameters: Callable[[Sequence[Region]], int]) -> dict[Key, list[Region]]:
    """Regions that are written once and used several times, large ones first.

    Args:
        outline:
            The graph.
        n_parameters:
            Parameters of a class that would stand for all of these.
    """
    nodes = outline.arranged(outline.architecture.output, outline.kinds)
    scopes = [nodes, *(region.nodes for region in outline.merges if len(region.nodes) < len(nodes))]
    series = {region for scope in scopes for region in outline.repeats(scope)}
    groups = outline.by_key([*outline.merges, *series])
    shared: dict[Key, list[Region]] = {}
    copies: list[Region] = []  # what the first of its kind stands for
    for key in sorted(groups, key=lambda key: -len(groups[key][0].nodes)):
        written = [r for r in groups[key] if not any(r.members < copy.members for copy in copies)]
        limit = MAX_PARAMETERS_OF_SERIES if groups[key][0] in series else MAX_PARAMETERS
        if len(written) > 1 and n_parameters(groups[key]) <= limit:
            shared[key] = groups[key]
            copies += written[1:]
    return shared
