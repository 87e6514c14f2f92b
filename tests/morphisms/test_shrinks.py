"""Morphisms that make a network smaller: what they take away, and which weights stay."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pytest
import torch

from optuna_nas_morph import lineage, presets, publish_weights, suggest_network
from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir.ops import Add, BatchNorm, Conv, DepthwiseConv, Flatten, Input, Linear
from optuna_nas_morph.morphisms import (
    Deepen,
    DropBranch,
    DropLayer,
    FoldBatchNorm,
    InsertResidualBlock,
    MakeSeparable,
    PruneChannels,
    Widen,
)
from optuna_nas_morph.spaces import Descendant
from tests.morphisms.architectures import HAND_MADE, RELU, graph
from tests.morphisms.contract import MorphismContract
from tests.morphisms.same_function import difference, random_weights
from tests.studies import quick_sampler


class Smaller(MorphismContract):
    draws = False
    adds_parameters = False
    keeps_nodes = False


class TestDropLayer(Smaller):
    morphisms = (DropLayer(),)


class TestDropBranch(Smaller):
    morphisms = (DropBranch(),)


class TestPruneChannels(Smaller):
    morphisms = (PruneChannels(), PruneChannels(4.0))
    mixes = True  # of units that are nearer to each other than to nothing
    test_what_is_new_can_learn = None  # nothing is new


class TestMakeSeparable(Smaller):
    morphisms = (MakeSeparable(),)


class TestFoldBatchNorm(Smaller):
    morphisms = (FoldBatchNorm(),)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("morphism", [Deepen("relu"), Deepen("linear")])
def test_dropping_what_was_inserted_gives_the_parent_back(morphism: Deepen) -> None:
    parent = HAND_MADE["conv2d"]
    child = morphism.apply(parent, ("relu_a",))
    before = random_weights(parent, rng())
    after = morphism.transfer(parent, child, ("relu_a",), before, rng())
    assert DropLayer().apply(child, ("conv_1",)) == parent
    again = DropLayer().transfer(child, parent, ("conv_1",), after, rng())
    assert all(again[name] is w for name, w in before.items())


def test_a_dropped_body_leaves_the_skip() -> None:
    parent = HAND_MADE["branches"]
    child = InsertResidualBlock().apply(parent, ("stem_relu",))
    dropped = DropBranch().apply(child, ("add_1", "1"))
    assert {n.name for n in dropped.nodes} - {n.name for n in parent.nodes} == {"relu_out_1"}
    skipless = DropBranch().apply(child, ("add_1", "0"))
    assert skipless["relu_out_1"].inputs == ("norm_b_1",)


@pytest.mark.parametrize(
    ("site", "reason"),
    [
        (("a1", "0"), "conv is no sum"),
        (("a_add", "2"), "there is no term '2'"),
        (("a_add",), "a site is a sum and the position of a term"),
    ],
)
def test_drop_branch_refusals(site: tuple[str, ...], reason: str) -> None:
    assert DropBranch().refusal(HAND_MADE["residual"], site) == reason


def test_inputs_are_still_read() -> None:
    parent = graph(
        ("x", Input((3,))),
        ("y", Input((3,))),
        ("a", Linear(4), "x"),
        ("b", Linear(4), "y"),
        ("add", Add(), ("a", "b")),
        ("fc", Linear(2), "add"),
    )
    assert DropBranch().refusal(parent, ("add", "0")) == "the network would not read its input 'x'"


def test_the_largest_channels_stay() -> None:
    parent = graph(("x", Input((3, 6))), ("a", Conv(5, (3,))), ("bn", BatchNorm()), ("f", Flatten()), ("fc", Linear(2)))
    morphism = PruneChannels(1.6)
    child = morphism.apply(parent, ("a",))
    weights = random_weights(parent, rng())
    weights["a.weight"] = torch.ones(5, 3, 3, dtype=torch.float64) * torch.tensor([3.0, -1, -4, 2, 1])[:, None, None]
    after = morphism.transfer(parent, child, ("a",), weights, rng())
    kept = torch.tensor([0, 2, 3])
    for name in ("a.weight", "a.bias", "bn.weight", "bn.running_var"):
        assert torch.equal(after[name], weights[name][kept])
    columns = weights["fc.weight"].reshape(2, 5, 4)[:, kept].flatten(1)
    assert torch.equal(after["fc.weight"], columns)


def test_pruning_channels_that_do_nothing_is_exact() -> None:
    parent = graph(("x", Input((3,))), ("a", Linear(6)), ("relu", RELU), ("fc", Linear(2)))
    weights = random_weights(parent, rng())
    dead = [1, 4]
    weights["a.weight"][dead] = 0
    weights["a.bias"][dead] = 0
    child = PruneChannels(1.5).apply(parent, ("a",))
    after = PruneChannels(1.5).transfer(parent, child, ("a",), weights, rng())
    assert child.specs["a"].n_channels == 4
    assert difference(parent, weights, child, after, train=False) <= 1e-12


def test_pruning_channels_that_nothing_reads_is_exact() -> None:
    parent = graph(("x", Input((3, 6))), ("a", Conv(6, (3,))), ("relu", RELU), ("f", Flatten()), ("fc", Linear(2)))
    weights = random_weights(parent, rng())
    weights["fc.weight"].view(2, 6, 4)[:, [0, 3]] = 0
    child = PruneChannels(1.5).apply(parent, ("a",))
    after = PruneChannels(1.5).transfer(parent, child, ("a",), weights, rng())
    assert torch.equal(after["a.weight"], weights["a.weight"][[1, 2, 4, 5]])
    assert difference(parent, weights, child, after, train=False) <= 1e-12


@pytest.mark.parametrize("side", ["pairs", "copy", "zero"])
@pytest.mark.parametrize("name", sorted(set(HAND_MADE) - {"gate", "mlp"}))  # there a layer reads and makes one group
def test_pruning_what_was_widened_gives_the_parent_back(name: str, side: str) -> None:
    parent, widen = HAND_MADE[name], Widen(2.0, side)
    for site in widen.sites(parent):
        before = random_weights(parent, rng())
        wide = widen.apply(parent, site)
        weights = widen.transfer(parent, wide, site, before, rng())
        assert PruneChannels(2.0).apply(wide, site) == parent
        after = PruneChannels(2.0).transfer(wide, parent, site, weights, rng())
        for key, value in before.items():
            assert torch.allclose(after[key], value, rtol=1e-12, atol=0), (site, key)


def test_copies_of_copies_are_read_once() -> None:
    parent = graph(("x", Input((3,))), ("a", Linear(6)), ("relu", RELU), ("fc", Linear(2)))
    weights = random_weights(parent, rng())
    for name in ("a.weight", "a.bias"):
        weights[name][[1, 2, 4, 5]] = weights[name][[0, 0, 0, 3]]
    child = PruneChannels(3.0).apply(parent, ("a",))
    after = PruneChannels(3.0).transfer(parent, child, ("a",), weights, rng())
    assert torch.equal(after["a.bias"], weights["a.bias"][[0, 3]])
    columns = weights["fc.weight"]
    assert torch.allclose(after["fc.weight"][:, 0], columns[:, [0, 1, 2, 4]].sum(1), rtol=1e-12)
    assert difference(parent, weights, child, after, train=False) <= 1e-12


def test_a_unit_that_stands_for_others_is_read_as_they_were() -> None:
    parent = graph(("x", Input((1,))), ("a", Linear(3)), ("relu", RELU), ("fc", Linear(1)))
    child = PruneChannels(3.0).apply(parent, ("a",))
    weights = random_weights(parent, rng())

    def after(made: list[float], read: list[float]) -> dict[str, torch.Tensor]:
        for name, values in (("a.weight", made), ("a.bias", made), ("fc.weight", read)):
            weights[name] = torch.tensor(values, dtype=torch.float64).reshape(weights[name].shape)
        return PruneChannels(3.0).transfer(parent, child, ("a",), weights, rng())

    # The third stands in the second's place, and the first then in that of both.
    kept = after([10, 10.1, 10.15], [10, 1, 1])
    assert (kept["a.weight"].item(), kept["fc.weight"].item()) == (10, 12)
    # Two copies that cancel each other are nothing.
    kept = after([10, 10, 0.1], [5, -5, 1])
    assert (kept["a.weight"].item(), kept["fc.weight"].item()) == (0.1, 1)


def test_sites_are_those_that_can_widen() -> None:
    for architecture in HAND_MADE.values():
        sizes = dict(zip(Widen().candidates(architecture), architecture.groups.sizes, strict=True))
        assert set(PruneChannels().sites(architecture)) == {s for s in Widen().sites(architecture) if sizes[s] > 1}


def test_a_separable_kernel_is_kept() -> None:
    parent = graph(("x", Input((3, 6, 5))), ("a", Conv.same(2, 4, 3, stride=2)), ("f", Flatten()), ("fc", Linear(2)))
    child = MakeSeparable().apply(parent, ("a",))
    assert child["depthwise_1"].op == DepthwiseConv((3, 3), (2, 2), (1, 1), bias=False)
    assert child["a"].op == Conv(4, (1, 1))
    weights = random_weights(parent, rng())
    generator = torch.Generator().manual_seed(0)
    point, depth = (torch.randn(s, generator=generator, dtype=torch.float64) for s in ((4, 3, 1, 1), (1, 3, 3, 3)))
    weights["a.weight"] = point * depth
    after = MakeSeparable().transfer(parent, child, ("a",), weights, rng())
    assert difference(parent, weights, child, after, train=False) <= 1e-12


def test_small_kernels_are_not_made_separable() -> None:
    parent = graph(
        ("x", Input((3, 6))), ("a", Conv(1, (3,))), ("b", Conv(4, (1,))), ("f", Flatten()), ("fc", Linear(2))
    )
    assert MakeSeparable().sites(parent) == ()
    assert MakeSeparable().refusal(parent, ("a",)) == "it would not have fewer parameters"


def test_fold_refusals() -> None:
    parent = HAND_MADE["unscaled_norms"]
    assert FoldBatchNorm().refusal(parent, ("bn",)) == "the layer before it feeds something else too"
    assert FoldBatchNorm().refusal(parent, ("bn_2",)) == "add before it is no layer with weights"
    assert FoldBatchNorm().refusal(parent, ("a",)) == "conv is no batch norm"


@pytest.mark.parametrize("factor", [1.0, 0.5, 17.0, float("nan")])
def test_bad_factors(factor: float) -> None:
    with pytest.raises(MorphismError, match="factor must be above 1 and at most 16 but got"):
        PruneChannels(factor)


def test_a_search_goes_down_in_size() -> None:
    space = presets.cnn(
        (1, 8, 8),
        3,
        width=8,
        depth=2,
        morphisms=(
            Widen(1.5),
            Deepen("relu"),
            DropBranch(),
            DropLayer(),
            FoldBatchNorm(),
            MakeSeparable(),
            PruneChannels(),
        ),
    )
    goal = space.seed.n_parameters // 2
    inherited = []

    def objective(trial: optuna.Trial) -> float:
        network = suggest_network(trial, space, budget=1)
        network(torch.randn(4, 1, 8, 8)).sum().backward()
        publish_weights(trial, network)
        inherited.append(study.trials[trial.number].user_attrs[lineage.INHERITED_EPOCHS])
        return -abs(math.log(network.architecture.n_parameters / goal))

    study = optuna.create_study(direction="maximize", sampler=quick_sampler(5, control_share=0.0))
    study.optimize(objective, n_trials=20)
    assert study.best_value > -0.1
    assert sum(epochs > 0 for epochs in inherited) >= 10
    assert min(space.features(Descendant((), lineage.architecture_of(study.best_trial)))) < 0
