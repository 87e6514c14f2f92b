"""Which parts of a traced module are opaque: what no operation computes, as small as one tensor in between allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from torch import fx

from optuna_nas_morph.errors import TranslationError
from optuna_nas_morph.ir.ops import Dropout, Scale
from optuna_nas_morph.translation.rules import Match
from optuna_nas_morph.translation.tracing import Trace, whereabouts


@dataclass(frozen=True)
class Region:
    """Nodes of the graph that become one opaque part.

    Args:
        nodes:
            All of them, in order; the constants that they read among them.
        inputs:
            The nodes outside that feed them.
        exit:
            The only one that is used outside.
    """

    nodes: tuple[fx.Node, ...]
    inputs: tuple[fx.Node, ...]
    exit: fx.Node


def partition(traced: Trace, matches: Mapping[fx.Node, Match], tensors: Set[fx.Node]) -> list[fx.Node | Region]:
    """What the output is made of, in order: nodes that an operation computes, and regions for the rest.

    What enters and leaves a region are tensors of the architecture. Where a value is none (a tuple, a tensor with the
    batch elsewhere), all that depends on it belongs to one region, up to the first tensor through which all of that
    goes. Functions in a row are one region. Constants, and what is computed from constants and sizes alone, belong to
    the regions that read them.

    Args:
        traced:
            The module.
        matches:
            The operation of every node that has one.
        tensors:
            The nodes whose value can flow along an edge of an architecture, inputs among them.

    Raises:
        TranslationError: If no such tensor follows.
    """
    return _Partition(traced, matches, tensors).result()


class _Partition:
    def __init__(self, traced: Trace, matches: Mapping[fx.Node, Match], tensors: Set[fx.Node]) -> None:
        self.traced, self.matches = traced, matches
        self.position = {node: i for i, node in enumerate((*traced.inputs, *traced.nodes))}
        self.constants: set[fx.Node] = set()
        for node in traced.nodes:
            if self.constants.issuperset(self.sources(node)):
                self.constants.add(node)
        self.tensors = tensors - self.constants
        self.users: dict[fx.Node, list[fx.Node]] = {node: [] for node in self.position}
        read = {traced.output}
        for node in reversed(traced.nodes):
            if node in read:
                read.update(self.sources(node))
                for source in self.sources(node):
                    self.users[source].append(node)

    def sources(self, node: fx.Node) -> list[fx.Node]:
        """What a node is computed from, but for sizes, which are known."""
        return [x for x in node.all_input_nodes if x not in self.traced.sizes]

    def result(self) -> list[fx.Node | Region]:
        groups: list[set[fx.Node]] = []
        while True:
            parts, stray = self.parts(groups)
            seeds = self.chained(parts) if stray is None else {stray}
            if not seeds:
                return parts
            group = self.closure(seeds)
            while overlapping := next((g for g in groups if g & group), None):
                groups.remove(overlapping)
                group = self.closure(group | overlapping)
            groups.append(group)

    def parts(self, groups: Sequence[Set[fx.Node]]) -> tuple[list[fx.Node | Region], fx.Node | None]:
        """The partition with regions for these groups, and the last value that cannot stand between its parts."""
        group_of = {node: group for group in groups for node in group}
        exits = {max(group, key=self.position.__getitem__) for group in groups}
        inside = group_of.keys() - exits
        needed, parts = {self.traced.output}, list[fx.Node | Region]()
        for node in reversed(self.traced.nodes):
            if node not in needed:
                continue
            inputs = () if node in group_of or node not in self.matches else self.matches[node].inputs
            if inputs and self.tensors >= set(inputs) and inside.isdisjoint(inputs):
                parts.append(node)
                needed.update(inputs)
            elif node not in self.tensors:
                return [], node
            else:
                region = self.region(group_of.get(node, {node}), node)
                parts.append(region)
                needed.update(region.inputs)
        return parts[::-1], None

    def chained(self, parts: Sequence[fx.Node | Region]) -> set[fx.Node]:
        """Two regions of functions alone, of which the second is all that the first feeds; empty if there are none.

        A scaling or a dropout may be between them.
        """
        regions = [part for part in parts if isinstance(part, Region)]
        read = [x for part in parts for x in (part if isinstance(part, Region) else self.matches[part]).inputs]
        plain = {r.exit: r for r in regions if not any(has_weights(self.traced, node) for node in r.nodes)}
        exits = {region.exit for region in regions}
        for region in plain.values():
            for x in region.inputs:
                while read.count(x) == 1 and x not in exits and self.is_plumbing(x):
                    (x,) = self.matches[x].inputs
                if x in plain and read.count(x) == 1:
                    return {*plain[x].nodes, *region.nodes} - self.constants
        return set()

    def is_plumbing(self, node: fx.Node) -> bool:
        return node in self.matches and isinstance(self.matches[node].op, Scale | Dropout | None)

    def closure(self, group: Set[fx.Node]) -> set[fx.Node]:
        """A group with all that depends on it, up to the first tensor through which all of that goes."""
        members, last = set(group), max(self.position[node] for node in group)
        for node in self.traced.nodes:
            if node not in members and members.isdisjoint(self.sources(node)):
                continue
            members.add(node)
            if node in self.tensors and last <= self.position[node]:
                return members
            last = max([last, *(self.position[user] for user in self.users[node])])
        first = min(group, key=self.position.__getitem__)
        raise TranslationError(
            f"nothing that depends on {first.format_node()}{whereabouts(first)} is one tensor of float32 or int64 with "
            "the batch on its first axis and at least one more."
        )

    def region(self, group: Set[fx.Node], end: fx.Node) -> Region:
        nodes = sorted({*group, *self.constants_of(group)}, key=self.position.__getitem__)
        inputs = dict.fromkeys(x for node in nodes for x in self.sources(node) if x not in nodes)
        return Region(tuple(nodes), tuple(inputs), end)

    def constants_of(self, nodes: Set[fx.Node]) -> set[fx.Node]:
        """The constants that nodes read, and those that these are computed from."""
        found = {x for node in nodes for x in self.sources(node) if x in self.constants}
        return found | self.constants_of(found) if found else found


def has_weights(traced: Trace, node: fx.Node) -> bool:
    """Whether a node is a module with parameters or buffers."""
    return node.op == "call_module" and bool(traced.module.get_submodule(str(node.target)).state_dict())
