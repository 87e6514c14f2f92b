"""Cases that both kinds of skip connections share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture, Node
from optuna_nas_morph.ir.ops import (
    AdaptivePool,
    BatchNorm,
    Conv,
    DepthwiseConv,
    Flatten,
    GlobalPool,
    Input,
    Linear,
    Op,
    Pool,
    TokenEmbedding,
)
from optuna_nas_morph.morphisms import Morphism, Site
from tests.morphisms.architectures import HAND_MADE, RELU, graph
from tests.morphisms.same_function import outputs, random_weights

CHAIN = graph(
    ("x", Input((2, 8, 8))),
    ("a", Conv.same(2, 4, 3)),
    ("a_bn", BatchNorm()),
    ("a_relu", RELU),
    ("pool", Pool("max", (3, 3), (2, 2), (1, 1))),
    ("b", Conv.same(2, 6, 3, stride=2)),
    ("b_relu", RELU),
    ("c", Conv.same(2, 5, 3, dilation=2)),
    ("c_relu", RELU),
    ("d", Conv(3, (2, 2))),
    ("gap", GlobalPool()),
    ("fc", Linear(4)),
)


def added(parent: Architecture, child: Architecture) -> list[Node]:
    return [node for node in child.nodes if node.name not in parent.index]


class SkipCases:
    """Subclass it beside the contract."""

    skip: Morphism
    reason_again: str
    """Why a second skip between the same ends is refused."""

    def test_sites_are_pairs_in_topological_order(self) -> None:
        starts = ("x", "a_relu", "pool", "b_relu", "c_relu", "d", "gap")
        sites = self.skip.sites(CHAIN)
        assert sites == tuple((start, end) for i, start in enumerate(starts) for end in starts[i + 1 :] if end != "gap")

    @pytest.mark.parametrize(
        ("site", "branch"),
        [
            (("x", "a_relu"), []),
            (("x", "pool"), [Pool("max", (3, 3), (2, 2), (1, 1))]),
            (("a_relu", "b_relu"), [Pool("max", (3, 3), (2, 2), (1, 1)), Pool("avg", (3, 3), (2, 2), (1, 1))]),
            (("pool", "c_relu"), [Pool("avg", (3, 3), (2, 2), (1, 1))]),
            (("b_relu", "c_relu"), []),
            (("b_relu", "d"), [Pool("avg", (2, 2), (1, 1))]),
        ],
    )
    def test_poolings_and_strides_are_repeated(self, site: Site, branch: list[Op]) -> None:
        nodes = added(CHAIN, self.skip.apply(CHAIN, site))
        assert [node.op for node in nodes[: len(branch)]] == branch
        assert len(nodes) == len(branch) + 2
        assert site[0] in nodes[0].inputs

    def test_adaptive_pooling_is_repeated(self) -> None:
        parent = graph(
            ("x", Input((2, 7, 5))),
            ("a", Conv.same(2, 3, 3)),
            ("p", AdaptivePool((2, 3), "max")),
            ("b", Conv(4, (1, 1))),
        )
        parent = graph(*((n.name, n.op, n.inputs) for n in parent.nodes), ("f", Flatten(), "b"))
        nodes = added(parent, self.skip.apply(parent, ("x", "b")))
        assert nodes[0].op == AdaptivePool((2, 3), "max")

    def test_vectors_and_tokens_get_linear_projections(self) -> None:
        child = self.skip.apply(HAND_MADE["tokens"], ("embed", "add"))
        assert [n.op for n in added(HAND_MADE["tokens"], child) if isinstance(n.op, Linear | Conv)] == [Linear(6)]

    def test_the_same_skip_is_not_added_twice(self) -> None:
        child = self.skip.apply(CHAIN, ("a_relu", "b_relu"))
        with pytest.raises(MorphismError) as e:
            self.skip.apply(child, ("a_relu", "b_relu"))
        assert str(e.value) == f"{self.skip} cannot be applied at 'a_relu b_relu': {self.reason_again}."
        new_end = child.nodes[child.index["c"] - 1].name
        assert self.skip.refusal(child, ("a_relu", new_end)) == "there is such a skip already"
        there = HAND_MADE["residual"]
        assert (
            self.skip.refusal(there, ("stem_relu", "a2_bn")) == "end 'a2_bn': only a sum follows, which ends the branch"
        )
        assert ("x", "c_relu") in self.skip.sites(child)

    @pytest.mark.parametrize(
        ("name", "site", "reason"),
        [
            ("conv2d", ("relu_a",), "a site is a start and an end"),
            ("conv2d", ("relu_a", "nowhere"), "end 'nowhere': there is no node 'nowhere'"),
            ("conv2d", ("nowhere", "relu_a"), "there is no node 'nowhere'"),
            ("conv2d", ("relu_b", "relu_a"), "'relu_b' does not feed 'relu_a'"),
            ("conv2d", ("relu_a", "relu_a"), "'relu_a' does not feed 'relu_a'"),
            (
                "concat_meets_sum",
                ("cat", "c"),
                "end 'c': only a norm or an activation follows, which belongs to this layer",
            ),
            ("concat_meets_sum", ("b", "d"), "there is such a skip already"),
            ("layouts", ("y", "conv"), "'y' does not feed 'conv'"),
            (
                "conv2d",
                ("conv_a", "relu_b"),
                "start 'conv_a': only a norm or an activation follows, which belongs to this layer",
            ),
            ("conv2d", ("relu_a", "fc"), "end 'fc': nothing is inserted behind the network's output"),
            ("conv2d", ("relu_a", "x"), "end 'x': nothing is inserted behind input"),
            ("conv2d", ("relu_a", "pool"), "'relu_a' and 'pool' have different layouts"),
            ("layouts", ("x", "tokens"), "'x' and 'tokens' have different layouts"),
            ("layouts", ("tokens", "flat"), "'tokens' and 'flat' have different layouts"),
            ("tokens", ("ids", "embed"), "start 'ids' holds token ids"),
        ],
    )
    def test_refusals(self, name: str, site: Site, reason: str) -> None:
        with pytest.raises(MorphismError) as e:
            self.skip.apply(HAND_MADE[name], site)
        assert str(e.value) == f"{self.skip} cannot be applied at {' '.join(site)!r}: {reason}."

    @pytest.mark.parametrize(
        ("op", "reason"),
        [
            (Conv(4, (3,), dilation=(2,)), "'b' changes the size between them in a way that no pooling repeats"),
            (Conv(4, (1,), padding=(1,)), "'b' pads more than a pooling can"),
            (DepthwiseConv((3,), padding=(2,)), "'b' pads more than a pooling can"),
        ],
    )
    def test_sizes_that_no_pooling_gives(self, op: Op, reason: str) -> None:
        parent = graph(("x", Input((3, 9))), ("a", Conv.same(1, 4, 3)), ("b", op), ("f", Flatten()), ("c", Linear(2)))
        assert self.skip.refusal(parent, ("a", "b")) == reason

    @pytest.mark.parametrize(("size", "offered"), [(2, False), (3, True)])
    def test_averages_over_three_axes_fit_their_input(self, size: int, offered: bool) -> None:
        parent = graph(
            ("x", Input((2, size, size, size))),
            ("a", Conv.same(3, 3, 3, stride=2)),
            ("relu", RELU),
            ("flat", Flatten()),
            ("fc", Linear(2)),
        )
        assert (("x", "relu") in self.skip.sites(parent)) == offered
        x = (torch.ones(2, 2, size, size, size),)
        for site in self.skip.sites(parent):
            child = self.skip.apply(parent, site)
            assert outputs(child, random_weights(child, np.random.default_rng(0)), x, train=False).shape == (2, 2)

    def test_a_vector_is_not_a_token_id(self) -> None:
        parent = graph(
            ("x", Input((4,), dtype="int64")),
            ("e", TokenEmbedding(5, 4)),
            ("a", Linear(4)),
            ("g", GlobalPool()),
            ("b", Linear(2)),
        )
        assert self.skip.sites(parent) == (("e", "a"),)
