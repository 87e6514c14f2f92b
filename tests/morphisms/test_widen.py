"""Widen: a channel group gets more units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import (
    Activation,
    Add,
    BatchNorm,
    Concat,
    Conv,
    DepthwiseConv,
    Flatten,
    Input,
    Linear,
    Op,
    SelfAttention,
)
from optuna_nas_morph.morphisms import Site, Weights, Widen, parse_morphism
from tests.morphisms.architectures import HAND_MADE, RELU, graph
from tests.morphisms.contract import MorphismContract, train
from tests.morphisms.same_function import random_weights


class TestContract(MorphismContract):
    morphisms = (Widen(1.5), Widen(2.0), Widen(1.5, "copy"), Widen(3.2, "copy"), Widen(1.7, "zero"))
    draws = True


def widths(architecture: Architecture) -> dict[str, int]:
    return {node.name: architecture.specs[node.name].n_channels for node in architecture.nodes}


def widened(
    architecture: Architecture, site: Site, morphism: Widen, seed: int = 0
) -> tuple[Architecture, Weights, Weights]:
    child = morphism.apply(architecture, site)
    before = random_weights(architecture, np.random.default_rng(seed))
    after = morphism.transfer(architecture, child, site, before, np.random.default_rng(seed))
    return child, before, after


MLP = graph(
    ("x", Input((5,))), ("a", Linear(6)), ("bn", BatchNorm()), ("relu", RELU), ("b", Linear(8)), ("c", Linear(3))
)


# Which widths change.


@pytest.mark.parametrize(("old", "factor", "new"), [(6, 1.01, 7), (5, 1.5, 8), (3, 1.5, 4), (1, 1.5, 2), (6, 2, 12)])
def test_sizes(old: int, factor: float, new: int) -> None:
    architecture = graph(("x", Input((5,))), ("a", Linear(old)), ("b", Linear(3)))
    assert widths(Widen(factor).apply(architecture, ("a",))) == {"x": 5, "a": new, "b": 3}


def test_a_residual_sum_ties_both_its_sides() -> None:
    parent = HAND_MADE["residual"]
    child = Widen(1.5).apply(parent, ("stem",))
    changed = {name for name, width in widths(child).items() if width != widths(parent)[name]}
    assert changed == {"stem", "stem_bn", "stem_relu", "a2", "a2_bn", "a_add", "a_relu"}
    assert {widths(child)[name] for name in changed} == {9}


def test_a_group_inside_a_concatenation_is_named_by_its_offset() -> None:
    parent = graph(
        ("x", Input((4,))),
        ("c", Linear(7), "x"),
        ("a", Linear(3), "x"),
        ("b", Linear(4), "x"),
        ("cat", Concat(), ("a", "b")),
        ("add", Add(), ("cat", "c")),
        ("fc", Linear(2), "add"),
    )
    assert Widen(1.5).sites(parent) == (("c",), ("c", "3"))
    child, before, after = widened(parent, ("c", "3"), Widen(1.5, "copy"))
    assert widths(child) == {"x": 4, "c": 9, "a": 3, "b": 6, "cat": 9, "add": 9, "fc": 2}
    # The new units of c are copies of the same old ones as those of b, three positions further on.
    sources_b = sources(before["b.weight"], after["b.weight"])
    assert sources(before["c.weight"], after["c.weight"]) == [0, 1, 2, *(3 + s for s in sources_b)]
    assert torch.equal(after["a.weight"], before["a.weight"])


def test_flattening_channels_first_repeats_a_unit_as_a_run() -> None:
    parent = graph(("x", Input((2, 3))), ("a", Conv(2, (1,))), ("f", Flatten()), ("bn", BatchNorm()), ("b", Linear(4)))
    _, before, after = widened(parent, ("a",), Widen(1.5, "copy"))
    (source,) = sources(before["a.weight"], after["a.weight"])[2:]
    expected = [0, 1, 2, 3, 4, 5, *(3 * source + i for i in range(3))]
    assert sources(before["bn.running_var"], after["bn.running_var"]) == expected
    columns = after["b.weight"][:, 3 * source : 3 * source + 3] + after["b.weight"][:, 6:]
    torch.testing.assert_close(columns, before["b.weight"][:, 3 * source : 3 * source + 3])


def test_flattening_tokens_repeats_a_unit_once_per_token() -> None:
    tokens = Input((3, 4), channel_axis=1)
    parent = graph(("x", tokens), ("a", Linear(2)), ("f", Flatten()), ("bn", BatchNorm()), ("b", Linear(4)))
    _, before, after = widened(parent, ("a",), Widen(1.5, "copy"))
    (source,) = sources(before["a.weight"], after["a.weight"])[2:]
    assert sources(before["bn.running_var"], after["bn.running_var"]) == [
        0,
        1,
        source,
        2,
        3,
        2 + source,
        4,
        5,
        4 + source,
    ]


def test_a_depthwise_multiplier_repeats_a_unit() -> None:
    parent = HAND_MADE["depthwise"]
    child, before, after = widened(parent, ("conv",), Widen(1.25, "copy"))
    (source,) = sources(before["conv.weight"], after["conv.weight"])[4:]
    assert widths(child)["dw"] == 10
    assert sources(before["dw.weight"], after["dw.weight"]) == [*range(8), 2 * source, 2 * source + 1]


# Copies.


def sources(old: torch.Tensor, new: torch.Tensor) -> list[int]:
    """Which old row each new row is a copy of, bit for bit."""
    return [next(i for i, row in enumerate(old) if torch.equal(row, copy)) for copy in new]


def test_copies_are_exact_and_take_their_norm_rows_along() -> None:
    _, before, after = widened(MLP, ("a",), Widen(1.5, "copy"))
    rows = sources(before["a.weight"], after["a.weight"])
    assert rows[:6] == list(range(6)) and len(set(rows[6:])) == 3
    for name in ("a.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"):
        assert torch.equal(after[name], before[name][rows])
    assert after["c.weight"] is before["c.weight"]


@pytest.mark.parametrize("factor", [1.5, 2.0, 2.5, 3.0])
def test_copies_are_spread_evenly(factor: float) -> None:
    _, before, after = widened(MLP, ("a",), Widen(factor, "copy"))
    counts = np.bincount(sources(before["a.weight"], after["a.weight"]))
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("factor", [1.5, 2.0, 3.2])
def test_shares_are_uneven_and_sum_to_one(factor: float) -> None:
    _, before, after = widened(MLP, ("a",), Widen(factor, "copy"))
    rows = sources(before["a.weight"], after["a.weight"])
    shares = after["b.weight"] / before["b.weight"][:, rows]
    totals = torch.zeros(8, 6, dtype=torch.float64).index_add(1, torch.tensor(rows), shares)
    torch.testing.assert_close(totals, torch.ones(8, 6, dtype=torch.float64), rtol=0, atol=1e-14)
    n_copies = np.bincount(rows)[rows]
    assert torch.equal(after["b.weight"][:, n_copies == 1], before["b.weight"][:, np.flatnonzero(n_copies == 1)])
    split = shares[:, n_copies > 1]
    assert bool((split > 0.1).all()) and bool((split < 0.9).all())
    # One share per output: a single one per copy would keep the copies together.
    assert bool((split.std(dim=0) > 0.01).all())


def test_a_unit_that_feeds_itself_is_split_once() -> None:
    parent = graph(("x", Input((3,))), ("a", Linear(4)), ("b", Linear(4)), ("add", Add(), ("a", "b")), ("c", Linear(2)))
    _, before, after = widened(parent, ("a",), Widen(2.0, "copy"))
    rows = sources(before["a.weight"], after["a.weight"])
    torch.testing.assert_close(
        torch.zeros(8, 4, dtype=torch.float64).index_add(1, torch.tensor(rows), after["b.weight"]),
        before["b.weight"][rows],
    )


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
@pytest.mark.parametrize(
    ("name", "site", "layer"), [("mlp", "a", "a"), ("conv2d", "conv_a", "conv_a"), ("tokens", "up", "up")]
)
def test_copies_part_in_training(name: str, site: str, layer: str, optimizer: type[torch.optim.Optimizer]) -> None:
    parent = HAND_MADE[name]
    n_old = parent.specs[layer].n_channels
    child, before, after = widened(parent, (site,), Widen(2.0, "copy"))
    rows = sources(before[f"{layer}.weight"], after[f"{layer}.weight"])
    trained = train(child, after, 3, optimizer)[f"{layer}.weight"].flatten(1)
    moved = trained - after[f"{layer}.weight"].flatten(1)
    gap = (trained[n_old:] - trained[rows[n_old:]]).norm(dim=1)
    step = moved.norm(dim=1)
    alive = step[n_old:] > 1e-6  # units behind a dead ReLU move with nobody
    assert int(alive.sum()) >= n_old // 2
    assert float((gap[alive] / step[n_old:][alive]).median()) > 0.03


# New units in pairs.


@pytest.mark.parametrize("factor", [1.5, 2.0])
def test_pairs_are_alike_to_read_and_opposite_to_their_readers(factor: float) -> None:
    _, before, after = widened(MLP, ("a",), Widen(factor))
    n_new = len(after["a.weight"]) - 6
    assert torch.equal(after["a.weight"][:6], before["a.weight"])
    assert torch.equal(after["b.weight"][:, :6], before["b.weight"])
    new, read = after["a.weight"][6:], after["b.weight"][:, 6:]
    n_pairs = n_new // 2
    for k in range(n_pairs):
        assert torch.equal(new[2 * k], new[2 * k + 1]) and torch.equal(read[:, 2 * k], -read[:, 2 * k + 1])
        assert after["a.bias"][6 + 2 * k] == after["a.bias"][7 + 2 * k]
    assert len({tuple(row) for row in new.tolist()}) == n_pairs + n_new % 2
    assert bool((read[:, : 2 * n_pairs].abs() > 0).all())
    assert bool((read[:, 2 * n_pairs :] == 0).all())
    # Drawn as the layers of the child are from scratch.
    assert float(new.abs().max()) <= 5**-0.5 and float(read.abs().max()) <= len(after["a.weight"]) ** -0.5
    assert float(read[:, : 2 * n_pairs].abs().max()) > 0.5 * len(after["a.weight"]) ** -0.5


@pytest.mark.parametrize(
    ("layer", "flat"), [(Conv(2, (1,)), [[6, 7, 8], [9, 10, 11]]), (Linear(2), [[2, 6, 10], [3, 7, 11]])]
)
def test_pairs_stay_pairs_through_a_flattening(layer: Op, flat: list[list[int]]) -> None:
    signal = Input((3, 3), channel_axis=1) if isinstance(layer, Linear) else Input((2, 3))
    parent = graph(("x", signal), ("a", layer), ("f", Flatten()), ("b", Linear(4)))
    _, _, after = widened(parent, ("a",), Widen(2.0))
    first, second = flat
    assert torch.equal(after["b.weight"][:, first], -after["b.weight"][:, second])
    assert len({tuple(column) for column in after["b.weight"].T.tolist()}) == 12


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_pairs_part_in_training(optimizer: type[torch.optim.Optimizer]) -> None:
    child, _, after = widened(HAND_MADE["mlp"], ("a",), Widen(2.0))
    n_old = HAND_MADE["mlp"].specs["a"].n_channels
    moved = train(child, after, 3, optimizer)["a.weight"] - after["a.weight"]
    n_paired = (len(moved) - n_old) // 2 * 2
    first, second = moved[n_old : n_old + n_paired : 2], moved[n_old + 1 : n_old + n_paired : 2]
    alive = first.norm(dim=1) > 1e-6
    assert bool(alive.any())
    # They move apart, not just at different speeds as copies do.
    assert bool((torch.cosine_similarity(first, second)[alive] < 0).all())


# New units that nobody reads yet.


def test_zero_side_leaves_old_weights_alone() -> None:
    _, before, after = widened(MLP, ("a",), Widen(1.5, "zero"))
    assert torch.equal(after["a.weight"][:6], before["a.weight"])
    assert torch.equal(after["b.weight"][:, :6], before["b.weight"])
    assert torch.equal(after["b.weight"][:, 6:], torch.zeros(8, 3, dtype=torch.float64))
    assert len({tuple(row) for row in after["a.weight"][6:].tolist()}) == 3
    assert float(after["a.weight"][6:].abs().max()) <= 5**-0.5
    assert torch.equal(after["bn.running_var"][6:], torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("side", ["pairs", "copy", "zero"])
def test_every_tensor_keeps_its_type(side: str) -> None:
    # Norms are often kept in single precision while the rest is in half.
    weights = {
        name: tensor.float() if name.startswith("bn") else tensor.bfloat16()
        for name, tensor in random_weights(MLP, np.random.default_rng(0)).items()
    }
    widen = Widen(1.5, side)
    after = widen.transfer(MLP, widen.apply(MLP, ("a",)), ("a",), weights, np.random.default_rng(1))
    assert {name: tensor.dtype for name, tensor in after.items()} == {n: t.dtype for n, t in weights.items()}


# Where it is refused.


@pytest.mark.parametrize(
    ("rows", "site", "reason"),
    [
        ([("x", Input((4,))), ("a", Linear(3)), ("b", Linear(2))], ("x",), "its width is tied to network input 'x'"),
        ([("x", Input((4,))), ("a", Linear(3)), ("b", Linear(2))], ("b",), "its width is tied to network output 'b'"),
        (
            [("x", Input((4,))), ("a", Linear(4)), ("add", Add(), ("a", "x")), ("b", Linear(2))],
            ("x",),
            "its width is tied to network input 'x'",
        ),
        ([("x", Input((4,))), ("a", Linear(3)), ("b", Linear(2))], ("c",), "no channel group starts there"),
        ([("x", Input((4,))), ("a", Linear(3)), ("b", Linear(2))], ("a", "1"), "no channel group starts there"),
        (
            [("x", Input((4,))), ("a", Linear(3)), ("r", RELU), ("b", Linear(2))],
            ("r",),
            "no channel group starts there",
        ),
        ([("x", Input((4,))), ("a", Linear(3)), ("b", Linear(2))], ("a", "0", "0"), "no channel group starts there"),
        (
            [("x", Input((4, 5))), ("a", Conv(6, (3,), groups=2)), ("b", Conv(2, (3,)))],
            ("a",),
            "its width is tied to grouped convolution 'a'",
        ),
    ],
)
def test_refusals(rows: Sequence[tuple[str, Op]], site: Site, reason: str) -> None:
    with pytest.raises(MorphismError, match=r"widen:1\.5 cannot be applied at") as e:
        Widen(1.5).apply(graph(*rows), site)
    assert str(e.value).endswith(f": {reason}.")


def test_layer_norms_are_refused_on_either_side_of_a_sum() -> None:
    parent = HAND_MADE["transformer"]
    assert "layer norm 'ln', layer norm 'ln_2'" in str(Widen(1.5).refusal(parent, ("patches",)))
    assert Widen(1.5).sites(parent) == (("up",),)
    child = Widen(1.5).apply(parent, ("up",))
    assert widths(child)["silu"] == 15


def test_the_consumers_may_be_attention() -> None:
    parent = graph(
        ("x", Input((3, 4), channel_axis=1)), ("a", Linear(4)), ("t", SelfAttention(2, 3, 5)), ("b", Linear(2))
    )
    _, _, after = widened(parent, ("a",), Widen(2.0))
    for name in ("query", "key", "value"):
        assert after[f"t.{name}.weight"].shape == (6, 8)
    _, _, after = widened(parent, ("t",), Widen(2.0))
    assert after["t.out.weight"].shape == (10, 6)


def test_depthwise_stays_depthwise() -> None:
    parent = graph(
        ("x", Input((3, 5))),
        ("a", Conv(4, (1,))),
        ("d", DepthwiseConv((3,))),
        ("r", Activation("silu")),
        ("b", Conv(2, (1,))),
    )
    assert Widen(2.0).sites(parent) == (("a",),)
    _, _, after = widened(parent, ("a",), Widen(2.0))
    assert after["d.weight"].shape == (8, 1, 3)


# Arguments and text.


@pytest.mark.parametrize("factor", [1.0, 0.5, 16.5, float("nan"), float("inf"), -2])
def test_bad_factors(factor: float) -> None:
    with pytest.raises(MorphismError, match="factor must be above 1 and at most 16 but got"):
        Widen(factor)


def test_bad_sides() -> None:
    with pytest.raises(MorphismError, match=r"side must be one of \('pairs', 'copy', 'zero'\) but got 'noise'"):
        Widen(2.0, "noise")


@pytest.mark.parametrize(
    ("morphism", "text"),
    [
        (Widen(), "widen:1.5"),
        (Widen(2.0), "widen:2"),
        (Widen(2), "widen:2"),
        (Widen(2.0, "zero"), "widen:2,zero"),
        (Widen(2.0, "copy"), "widen:2,copy"),
        (Widen(2.0, "pairs"), "widen:2"),
        (Widen(1.23456789), "widen:1.23456789"),
        (Widen(4 / 3), "widen:1.3333333333333333"),
    ],
)
def test_text(morphism: Widen, text: str) -> None:
    assert str(morphism) == text
    assert parse_morphism(text) == morphism
