"""Channel groups against a union-find over single channels, and by hand."""

from __future__ import annotations

from collections import defaultdict
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optuna_nas_morph.ir import Architecture, ChannelGroups, Node
from optuna_nas_morph.ir.ops import (
    Activation,
    Add,
    BatchNorm,
    Concat,
    Conv,
    DepthwiseConv,
    Flatten,
    GlobalPool,
    Input,
    LayerNorm,
    Linear,
    Multiply,
    Op,
    Pool,
    RMSNorm,
    SelfAttention,
    TokenEmbedding,
    ToTokens,
)
from tests.strategies import architectures, random_architecture, sequence

PACES = "channels that repeat at different paces meet in"
FRESH = ("input", "conv", "linear", "self_attention", "patch_embedding", "token_embedding", "column_embedding")


class Naive:
    """Ties between single channels, one integer per channel and node; and why a channel must not be copied."""

    def __init__(self, architecture: Architecture) -> None:
        self.parent: list[int] = []
        self.reasons: defaultdict[int, set[str]] = defaultdict(set)
        self.channels: dict[str, np.ndarray] = {}
        for node in architecture.nodes:
            self.channels[node.name] = self.visit(architecture, node)
        self.block(self.channels[architecture.output], f"network output {architecture.output!r}")

    def visit(self, architecture: Architecture, node: Node) -> np.ndarray:
        op, inputs = node.op, [self.channels[name] for name in node.inputs]
        out = architecture.specs[node.name]
        if op.op_name in FRESH:
            new = np.arange(len(self.parent), len(self.parent) + out.n_channels)
            self.parent += new.tolist()
            if isinstance(op, Input):
                self.block(new, f"network input {node.name!r}")
            if isinstance(op, Conv) and op.groups > 1:
                self.block(new, f"grouped convolution {node.name!r}")
                self.block(inputs[0], f"grouped convolution {node.name!r}")
            return new
        if op.op_name in ("add", "multiply"):
            for other in inputs[1:]:
                for a, b in zip(inputs[0].tolist(), other.tolist(), strict=True):
                    self.parent[self.root(a)] = self.root(b)
            return inputs[0]
        if op.op_name == "concat":
            return np.concatenate(inputs)
        if isinstance(op, DepthwiseConv):
            return np.array([c for c in inputs[0] for _ in range(op.multiplier)])
        if isinstance(op, Flatten):
            (spec,) = architecture.input_specs(node.name)
            shape = [1] * len(spec.shape)
            shape[spec.channel_axis] = -1
            return np.broadcast_to(inputs[0].reshape(shape), spec.shape).reshape(-1)
        if isinstance(op, LayerNorm):
            self.block(inputs[0], f"layer norm {node.name!r}")
        if isinstance(op, RMSNorm):
            self.block(inputs[0], f"RMS norm {node.name!r}")
        return inputs[0]

    def root(self, channel: int) -> int:
        while self.parent[channel] != channel:
            channel = self.parent[channel]
        return channel

    def block(self, channels: np.ndarray, reason: str) -> None:
        for channel in channels.tolist():
            self.reasons[channel].add(reason)

    def roots(self, node: str) -> list[int]:
        return [self.root(c) for c in self.channels[node].tolist()]

    def reasons_by_root(self) -> dict[int, set[str]]:
        result: defaultdict[int, set[str]] = defaultdict(set)
        for channel, reasons in self.reasons.items():
            result[self.root(channel)] |= reasons
        return result


def units(groups: ChannelGroups, node: str) -> list[tuple[int, int]]:
    """(group, unit) of every channel of a node's output."""
    return [
        (ref.group, unit)
        for ref in groups.tensors[node]
        for unit in range(groups.sizes[ref.group])
        for _ in range(ref.repeat)
    ]


def compare_with_naive(architecture: Architecture) -> bool:
    """Check all ties and blockers; whether channels met at different paces."""
    groups, naive = architecture.groups, Naive(architecture)
    reasons = naive.reasons_by_root()
    root_of: dict[tuple[int, int], int] = {}
    units_of: defaultdict[int, set[tuple[int, int]]] = defaultdict(set)
    for node in architecture.nodes:
        ours, roots = units(groups, node.name), naive.roots(node.name)
        assert len(ours) == len(roots) == architecture.specs[node.name].n_channels == groups.width(node.name)
        for unit, root in zip(ours, roots, strict=True):
            assert root_of.setdefault(unit, root) == root, f"{unit} in {node.name} is tied but should not be"
            units_of[root].add(unit)
    uneven = any(PACES in reason for blockers in groups.blockers for reason in blockers)
    for tied in units_of.values():
        if len(tied) > 1:
            assert all(any(PACES in r for r in groups.blockers[group]) for group, _ in tied), f"{tied} should be one"
    for (group, _), root in root_of.items():
        found = {reason for reason in groups.blockers[group] if PACES not in reason}
        assert found <= reasons[root]
        assert uneven or found == reasons[root]
        assert bool(reasons[root]) <= bool(groups.blockers[group]), "a channel that must not change is not blocked"
    return uneven


@pytest.mark.parametrize("chunk", range(4))
def test_random_architectures_against_single_channels(chunk: int) -> None:
    uneven = [compare_with_naive(random_architecture(np.random.default_rng(1000 * chunk + i))) for i in range(250)]
    assert 0 < sum(uneven) < 50


@settings(max_examples=50, deadline=None)
@given(architectures())
def test_architectures_against_single_channels(architecture: Architecture) -> None:
    compare_with_naive(architecture)


def with_sizes(architecture: Architecture, sizes: list[int]) -> Architecture:
    """Every width that an operation chooses, as the groups say."""
    return architecture.replace(
        {node.name: node.op.with_width(architecture.groups.width(node.name, sizes)) for node in architecture.nodes}
    )


@pytest.mark.parametrize("chunk", range(4))
def test_group_without_blockers_takes_any_size(chunk: int) -> None:
    """Changing the size of one free group gives a valid architecture with the same groups, and the widths foretold."""
    n_free = 0
    for seed in range(1000 * chunk, 1000 * chunk + 100):
        architecture = random_architecture(np.random.default_rng(seed))
        groups = architecture.groups
        free = [group for group, blockers in enumerate(groups.blockers) if not blockers]
        n_free += len(free)
        for group in free:
            for size in (1, groups.sizes[group] + 2):
                sizes = list(groups.sizes)
                sizes[group] = size
                child = with_sizes(architecture, sizes)
                assert child.groups.tensors == groups.tensors
                assert child.groups.blockers == groups.blockers
                assert list(child.groups.sizes) == sizes
                for node in architecture.nodes:
                    assert child.specs[node.name].n_channels == groups.width(node.name, sizes)
    assert n_free > 50


@pytest.mark.parametrize("chunk", range(2))
def test_sites_are_first_appearances(chunk: int) -> None:
    for seed in range(1000 * chunk, 1000 * chunk + 100):
        architecture = random_architecture(np.random.default_rng(seed))
        groups = architecture.groups
        seen: dict[int, tuple[str, int]] = {}
        for node in architecture.nodes:
            for position, (group, _) in enumerate(units(groups, node.name)):
                seen.setdefault(group, (node.name, position))
        assert list(seen) == list(range(len(groups.sizes)))
        assert tuple(seen.values()) == groups.sites


# By hand. The input and a last 1x1 convolution keep the blockers of the network's ends away from the groups in between.


def between_ends(*middle: Node, channels: int = 2, sizes: tuple[int, ...] = (4, 4)) -> Architecture:
    """Nodes between an input ``x`` and an output ``out``, a layer of width 1 that reads the last of them."""
    last: Op = Conv(1, (1,) * len(sizes))
    nodes = (Node("x", Input((channels, *sizes))), *middle)
    vector = any(isinstance(node.op, Flatten | GlobalPool) for node in middle)
    tokens = any(isinstance(node.op, ToTokens) for node in middle)
    return Architecture((*nodes, Node("out", Linear(1) if vector or tokens else last, (nodes[-1].name,))))


def conv(name: str, width: int, source: str = "x") -> Node:
    return Node(name, Conv.same(2, width, 3), (source,))


def refs(architecture: Architecture, node: str) -> list[tuple[int, int, int]]:
    """(group, its size, repeat) along the channels."""
    groups = architecture.groups
    return [(ref.group, groups.sizes[ref.group], ref.repeat) for ref in groups.tensors[node]]


def test_chain_passes_channels_on() -> None:
    architecture = between_ends(
        conv("a", 3),
        Node("bn", BatchNorm(), ("a",)),
        Node("relu", Activation("relu"), ("bn",)),
        Node("pool", Pool("max", (2, 2)), ("relu",)),
        Node("depthwise", DepthwiseConv((1, 1)), ("pool",)),
    )
    for name in ("a", "bn", "relu", "pool", "depthwise"):
        assert refs(architecture, name) == [(1, 3, 1)]
    assert architecture.groups.blockers == (("network input 'x'",), (), ("network output 'out'",))
    assert architecture.groups.sites == (("x", 0), ("a", 0), ("out", 0))


def test_add_ties() -> None:
    architecture = between_ends(conv("a", 3), conv("b", 3), conv("c", 3), Node("sum", Add(), ("a", "b", "c")))
    assert refs(architecture, "a") == refs(architecture, "b") == refs(architecture, "c") == refs(architecture, "sum")
    assert refs(architecture, "sum") == [(1, 3, 1)]


def test_multiply_ties_through_broadcast() -> None:
    architecture = Architecture(
        (
            Node("x", Input((2, 4))),
            Node("a", Conv(3, (1,)), ("x",)),
            Node("b", Conv(3, (4,)), ("x",)),
            Node("product", Multiply(), ("a", "b")),
            Node("out", Conv(1, (1,)), ("product",)),
        )
    )
    assert refs(architecture, "a") == refs(architecture, "b") == refs(architecture, "product") == [(1, 3, 1)]
    assert not architecture.groups.blockers[1]


def test_concat_places_groups_side_by_side() -> None:
    architecture = between_ends(conv("a", 3), conv("b", 2), Node("cat", Concat(), ("b", "a", "b")))
    assert refs(architecture, "cat") == [(2, 2, 1), (1, 3, 1), (2, 2, 1)]
    assert architecture.groups.width("cat", [2, 10, 20, 1]) == 50


def test_sum_of_concat_and_conv_splits_the_conv() -> None:
    architecture = between_ends(
        conv("a", 3), conv("b", 2), Node("cat", Concat(), ("a", "b")), conv("c", 5), Node("sum", Add(), ("cat", "c"))
    )
    for name in ("cat", "c", "sum"):
        assert refs(architecture, name) == [(1, 3, 1), (2, 2, 1)]
    assert architecture.groups.sites[1:3] == (("a", 0), ("b", 0))


def test_sum_of_concats_with_other_seams() -> None:
    architecture = between_ends(
        *[conv(name, width) for name, width in (("a", 3), ("b", 2), ("c", 1), ("d", 4))],
        Node("ab", Concat(), ("a", "b")),
        Node("cd", Concat(), ("c", "d")),
        Node("sum", Add(), ("ab", "cd")),
    )
    assert refs(architecture, "a") == [(1, 1, 1), (2, 2, 1)]
    assert refs(architecture, "b") == [(3, 2, 1)]
    assert refs(architecture, "c") == [(1, 1, 1)]
    assert refs(architecture, "d") == [(2, 2, 1), (3, 2, 1)]


def test_split_reaches_what_was_tied_before() -> None:
    """c and d are one group before a sum with concat(a, b) splits c: d is split with it, and so are its blockers."""
    architecture = between_ends(
        *[conv(name, width) for name, width in (("c", 5), ("d", 5), ("a", 3), ("b", 2))],
        Node("ln", LayerNorm(), ("d",)),
        Node("first", Add(), ("c", "ln")),
        Node("cat", Concat(), ("a", "b")),
        Node("second", Add(), ("cat", "c")),
        Node("join", Add(), ("first", "second")),
    )
    assert refs(architecture, "d") == refs(architecture, "cat") == [(1, 3, 1), (2, 2, 1)]
    assert architecture.groups.blockers[1:3] == (("layer norm 'ln'",),) * 2


def test_sum_of_swapped_concats_ties_units_within_a_group() -> None:
    """add(concat(a, b), concat(b, a)) with widths 2 and 3 ties all five positions to each other."""
    architecture = between_ends(
        conv("a", 2),
        conv("b", 3),
        Node("ab", Concat(), ("a", "b")),
        Node("ba", Concat(), ("b", "a")),
        Node("sum", Add(), ("ab", "ba")),
    )
    compare_with_naive(architecture)
    assert set(refs(architecture, "sum")) == {(1, 1, 1)}


def test_flatten_repeats_channels_first() -> None:
    architecture = between_ends(conv("a", 3), Node("flat", Flatten(), ("a",)))
    assert refs(architecture, "flat") == [(1, 3, 16)]


def test_flatten_tiles_tokens() -> None:
    architecture = between_ends(conv("a", 3), Node("tokens", ToTokens(), ("a",)), Node("flat", Flatten(), ("tokens",)))
    assert refs(architecture, "tokens") == [(1, 3, 1)]
    assert refs(architecture, "flat") == [(1, 3, 1)] * 16


def test_depthwise_multiplier_repeats() -> None:
    architecture = between_ends(
        conv("a", 3),
        conv("b", 2),
        Node("cat", Concat(), ("a", "b")),
        Node("depthwise", DepthwiseConv((1, 1), multiplier=2), ("cat",)),
        Node("again", DepthwiseConv((1, 1), multiplier=3), ("depthwise",)),
    )
    assert refs(architecture, "depthwise") == [(1, 3, 2), (2, 2, 2)]
    assert refs(architecture, "again") == [(1, 3, 6), (2, 2, 6)]


def test_sum_with_a_repeat_ties_by_the_coarser_unit() -> None:
    """c has 6 channels and meets a, of 3, twice each: a new unit of the group is one channel of a and two of c."""
    architecture = between_ends(
        conv("a", 3),
        Node("twice", DepthwiseConv((1, 1), multiplier=2), ("a",)),
        conv("c", 6),
        Node("sum", Add(), ("twice", "c")),
    )
    assert refs(architecture, "a") == [(1, 3, 1)]
    assert refs(architecture, "c") == refs(architecture, "sum") == [(1, 3, 2)]
    assert architecture.groups.width("c", [2, 4, 1]) == 8
    assert not architecture.groups.blockers[1]


def test_repeats_that_do_not_divide_block() -> None:
    architecture = between_ends(
        conv("a", 3),
        conv("b", 2),
        Node("twice", DepthwiseConv((1, 1), multiplier=2), ("a",)),
        Node("thrice", DepthwiseConv((1, 1), multiplier=3), ("b",)),
        Node("sum", Add(), ("twice", "thrice")),
    )
    assert architecture.groups.blockers[1:3] == ((f"{PACES} 'sum'",),) * 2


def test_flattened_in_two_orders_blocks() -> None:
    architecture = between_ends(
        conv("a", 3),
        Node("first", Flatten(), ("a",)),
        Node("tokens", ToTokens(), ("a",)),
        Node("last", Flatten(), ("tokens",)),
        Node("sum", Add(), ("first", "last")),
    )
    assert architecture.groups.blockers[1] == (f"{PACES} 'sum'",)


@pytest.mark.parametrize(
    ("op", "reason"), [(LayerNorm(), "layer norm 'block'"), (Conv(4, (1, 1), groups=2), "grouped convolution 'block'")]
)
def test_blockers_name_the_node(op: Op, reason: str) -> None:
    architecture = between_ends(conv("a", 4), Node("block", op, ("a",)), conv("b", 3, "block"))
    groups = architecture.groups
    for name in ("a", "block"):
        (ref,) = groups.tensors[name]
        assert groups.blockers[ref.group] == (reason,)
    (free,) = groups.tensors["b"]
    assert groups.blockers[free.group] == ()


def test_a_root_mean_square_norm_blocks_too() -> None:
    architecture = sequence(Input((3, 4), channel_axis=1), Linear(5), RMSNorm(), Linear(2))
    (ref,) = architecture.groups.tensors["linear_1"]
    assert architecture.groups.blockers[ref.group] == ("RMS norm 'rms_norm_2'",)


def test_ends_of_the_network_block_with_all_that_is_tied() -> None:
    architecture = Architecture(
        (
            Node("x", Input((3, 4, 4))),
            Node("a", Conv.same(2, 3, 3), ("x",)),
            Node("sum", Add(), ("x", "a")),
            Node("b", Conv.same(2, 5, 3), ("sum",)),
            Node("out", Activation("relu"), ("b",)),
        )
    )
    (group,) = architecture.groups.tensors["a"]
    assert architecture.groups.blockers[group.group] == ("network input 'x'",)
    (group,) = architecture.groups.tensors["b"]
    assert architecture.groups.blockers[group.group] == ("network output 'out'",)


def test_reasons_are_not_repeated() -> None:
    architecture = between_ends(conv("a", 4), Node("ln", LayerNorm(), ("a",)), Node("sum", Add(), ("ln", "a", "ln")))
    (ref,) = architecture.groups.tensors["a"]
    assert architecture.groups.blockers[ref.group] == ("layer norm 'ln'",)


def test_tokens() -> None:
    architecture = Architecture(
        (
            Node("ids", Input((4,), dtype="int64")),
            Node("words", TokenEmbedding(9, 6), ("ids",)),
            Node("attention", SelfAttention(2, 3, 6), ("words",)),
            Node("sum", Add(), ("words", "attention")),
            Node("out", Linear(2), ("sum",)),
        )
    )
    assert refs(architecture, "words") == refs(architecture, "attention") == refs(architecture, "sum") == [(1, 6, 1)]
    assert architecture.groups.blockers[1] == ()


# gather


def test_gather_by_hand() -> None:
    architecture = between_ends(
        conv("a", 2),
        conv("b", 1),
        Node("cat", Concat(), ("a", "b", "a")),
        Node("twice", DepthwiseConv((1, 1), multiplier=2), ("cat",)),
    )
    groups = architecture.groups
    sources = {1: np.array([0, 1, 0]), 2: np.array([0, -1])}
    assert groups.gather("a", sources).tolist() == [0, 1, 0]
    assert groups.gather("b", sources).tolist() == [0, -1]
    assert groups.gather("cat", sources).tolist() == [0, 1, 0, 2, -1, 3, 4, 3]
    assert groups.gather("twice", sources).tolist() == [0, 1, 2, 3, 0, 1, 4, 5, -1, -1, 6, 7, 8, 9, 6, 7]
    assert groups.gather("x", sources).tolist() == [0, 1]


def test_gather_nothing_is_the_identity() -> None:
    for seed in range(50):
        architecture = random_architecture(np.random.default_rng(seed))
        for node in architecture.nodes:
            width = architecture.specs[node.name].n_channels
            assert architecture.groups.gather(node.name, {}).tolist() == list(range(width))


@settings(max_examples=100, deadline=None)
@given(architectures(), st.randoms(use_true_random=False))
def test_gather_takes_whole_units_in_order(architecture: Architecture, random: Random) -> None:
    """Channels of the new layout, each told by (occurrence of its group, unit, repeat), taken from the old layout."""
    groups = architecture.groups
    sources = {
        group: np.array([random.randint(-1, size - 1) for _ in range(random.randint(1, size + 2))])
        for group, size in enumerate(groups.sizes)
        if random.randint(0, 1)
    }
    for node in architecture.nodes:
        place: dict[tuple[int, int, int], int] = {}
        for occurrence, ref in enumerate(groups.tensors[node.name]):
            for unit in range(groups.sizes[ref.group]):
                for repeat in range(ref.repeat):
                    place[occurrence, unit, repeat] = len(place)
        expected = [
            place.get((occurrence, unit, repeat), -1)
            for occurrence, ref in enumerate(groups.tensors[node.name])
            for unit in sources.get(ref.group, np.arange(groups.sizes[ref.group])).tolist()
            for repeat in range(ref.repeat)
        ]
        gathered = groups.gather(node.name, sources)
        assert gathered.tolist() == expected
        sizes = [len(sources[g]) if g in sources else size for g, size in enumerate(groups.sizes)]
        assert len(gathered) == groups.width(node.name, sizes)
