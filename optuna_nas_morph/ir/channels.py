"""Channel groups: which widths of an architecture change together.

A sum ties the channels of its inputs, a norm or a depthwise convolution those of its input and output, a concatenation
places groups side by side, flattening repeats each channel once per position. All of it is one union-find over
segments, where a segment may also be split: ``add(concat(a, b), c)`` splits ``c`` into a part tied to ``a`` and a part
tied to ``b``. The channels of every tensor are then a sequence of references to groups.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from optuna_nas_morph.ir.architecture import Architecture


class Ref(NamedTuple):
    """All units of a group, each repeated: unit ``u`` takes positions ``u * repeat`` to ``(u + 1) * repeat - 1``."""

    group: int
    repeat: int = 1

    def repeated(self, times: int) -> Ref:
        """Each position repeated in place."""
        return Ref(self.group, self.repeat * times)


Channels = tuple[Ref, ...]
"""The channels of a tensor, in order."""


class GroupBuilder:
    """Union-find over segments that can be merged (also with a repeat) and split."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._forward: list[Channels | None] = []
        self._blockers: list[list[str]] = []
        self.node = ""
        """Node that is being processed; named in blockers."""

    def new(self, size: int) -> Channels:
        """Fresh channels, tied to nothing."""
        self._sizes.append(size)
        self._forward.append(None)
        self._blockers.append([])
        return (Ref(len(self._sizes) - 1),)

    def block(self, channels: Channels, reason: str) -> None:
        """Record why the width of these channels must not change."""
        text = f"{reason} {self.node!r}"
        for ref in self.resolve(channels):
            self._blockers[ref.group].append(text)

    def tie(self, a: Channels, b: Channels) -> None:
        """Make two channel sequences of equal length the same units, position by position."""
        left, right = deque(a), deque(b)
        while left and right:
            x, y = self._pop(left), self._pop(right)
            if x == y:
                continue
            if x.repeat < y.repeat:
                x, y, left, right = y, x, right, left
            factor, remainder = divmod(x.repeat, y.repeat)
            n_x, n_y = self._sizes[x.group] * factor, self._sizes[y.group]
            if remainder or x.group == y.group or min(n_x, n_y) % factor:
                self.block((x, y, *left, *right), "channels that repeat at different paces meet in")
                return
            if n_x > n_y:
                self._split(x, n_y // factor, left)
                right.appendleft(y)
            elif n_y > n_x:
                self._split(y, n_x, right)
                left.appendleft(x)
            else:
                self._forward[y.group] = (Ref(x.group, factor),)
                self._blockers[x.group] += self._blockers[y.group]

    def resolve(self, channels: Iterable[Ref]) -> Channels:
        """The same channels in terms of segments that still stand for themselves."""
        result: list[Ref] = []
        pending = deque(channels)
        while pending:
            result.append(self._pop(pending))
        return tuple(result)

    def size(self, group: int) -> int:
        """Units in a segment."""
        return self._sizes[group]

    def blockers(self, group: int) -> tuple[str, ...]:
        """Why the width of a segment must not change; empty if it may."""
        return tuple(dict.fromkeys(self._blockers[group]))

    def _pop(self, queue: deque[Ref]) -> Ref:
        ref = queue.popleft()
        while (target := self._forward[ref.group]) is not None:
            queue.extendleft(Ref(t.group, t.repeat * ref.repeat) for t in reversed(target))
            ref = queue.popleft()
        return ref

    def _split(self, ref: Ref, at: int, queue: deque[Ref]) -> None:
        """Split a segment after ``at`` units and put the two halves back at the front of the queue."""
        halves = self.new(at) + self.new(self._sizes[ref.group] - at)
        for half in halves:
            self._blockers[half.group] += self._blockers[ref.group]
        self._forward[ref.group] = halves
        queue.extendleft(Ref(half.group, ref.repeat) for half in reversed(halves))


@dataclass(frozen=True)
class ChannelGroups:
    """The channel groups of an architecture, numbered in order of first appearance.

    Attributes:
        sizes:
            Units per group.
        blockers:
            Per group, why its width must not change (it holds the network's input or output, passes a layer norm or a
            grouped convolution); empty if it may.
        tensors:
            Channels of the output of every node.
        sites:
            Per group, the first node whose output holds it, and the position of its first channel there.
    """

    sizes: tuple[int, ...]
    blockers: tuple[tuple[str, ...], ...]
    tensors: Mapping[str, Channels]
    sites: tuple[tuple[str, int], ...]

    def width(self, node: str, sizes: Sequence[int] | None = None) -> int:
        """Channels of a node's output, also if the groups had other sizes."""
        sizes = self.sizes if sizes is None else sizes
        return sum(sizes[ref.group] * ref.repeat for ref in self.tensors[node])

    def gather(self, node: str, sources: Mapping[int, np.ndarray]) -> np.ndarray:
        """Old position of every new channel of a node's output, when groups take new units from old ones.

        Args:
            node:
                Name of the node.
            sources:
                For every group that changes: the old unit that each new unit comes from, or a negative number for
                none.

        Returns:
            One old position per new channel, or its unit's negative number.
        """
        parts: list[np.ndarray] = []
        offset = 0
        for group, repeat in self.tensors[node]:
            units = sources.get(group, np.arange(self.sizes[group]))
            positions = offset + units[:, None] * repeat + np.arange(repeat)
            parts.append(np.where(units[:, None] < 0, units[:, None], positions).ravel())
            offset += self.sizes[group] * repeat
        return np.concatenate(parts)


def channel_groups(architecture: Architecture) -> ChannelGroups:
    """Find the channel groups of an architecture."""
    builder = GroupBuilder()
    raw: dict[str, Channels] = {}
    for node in architecture.nodes:
        builder.node = node.name
        specs = [architecture.specs[name] for name in node.inputs]
        raw[node.name] = node.op.channels([raw[name] for name in node.inputs], specs, builder)
    builder.block(raw[builder.node], "network output")

    numbers: dict[int, int] = {}
    sites: list[tuple[str, int]] = []
    tensors: dict[str, Channels] = {}
    for node in architecture.nodes:
        refs: list[Ref] = []
        offset = 0
        for ref in builder.resolve(raw[node.name]):
            if ref.group not in numbers:
                numbers[ref.group] = len(numbers)
                sites.append((node.name, offset))
            refs.append(Ref(numbers[ref.group], ref.repeat))
            offset += builder.size(ref.group) * ref.repeat
        tensors[node.name] = tuple(refs)
    return ChannelGroups(
        tuple(builder.size(g) for g in numbers), tuple(builder.blockers(g) for g in numbers), tensors, tuple(sites)
    )
