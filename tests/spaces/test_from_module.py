"""A space that grows a user's own network: its seed, its weights, its limits, its description."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from optuna_nas_morph.errors import SpaceMismatchError, TranslationError, WeightsCorruptError
from optuna_nas_morph.morphisms import AddSkip, Widen
from optuna_nas_morph.nets import Network
from optuna_nas_morph.spaces import MorphSpace, SeedWeights
from optuna_nas_morph.weights.inherit import inherit
from tests.translation.zoo import MIXED, PLAIN, WithControlFlow, made

X = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))


def module(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).eval()


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3", "densenet", "functional", *MIXED])
def test_every_chain_of_morphisms_keeps_what_the_module_computes(name: str) -> None:
    net, x = made(name)
    space = MorphSpace.from_module(net, x)
    assert space.weights is not None and space.weights.tensors is not None
    rng = np.random.default_rng(0)
    with torch.no_grad():
        expected = net.eval()(x)
    for _ in range(3):
        descendant = space.random(rng)
        network = Network(descendant.architecture)
        network.load_state_dict(inherit(space, descendant.steps, 0, space.weights.tensors, rng))
        with torch.no_grad():
            found = network.eval()(x)
        # Single precision, through up to 12 morphisms.
        assert (found - expected).abs().max() <= 2e-5 * expected.abs().max(), list(map(str, descendant.steps))


def test_limits_follow_from_the_module() -> None:
    space = MorphSpace.from_module(module(), X)
    assert (space.max_parameters, space.max_flops, space.max_nodes) == (1_000_000, 100_000_000, 200)
    net, x = made("resnet50")
    space = MorphSpace.from_module(net, x)
    n = sum(p.numel() for p in net.parameters())
    assert space.seed.n_parameters == n
    assert space.max_parameters == max(1_000_000, 4 * n)
    assert space.max_nodes == 2 * len(space.seed.nodes) > 200


def test_arguments_reach_the_space() -> None:
    limits = {
        "max_morphisms": 3,
        "max_parameters": 999,
        "max_flops": 9999,
        "max_nodes": 30,
        "max_activation_bytes": 10**6,
    }
    space = MorphSpace.from_module(module(), X, morphisms=[Widen(2.0), AddSkip()], **limits)
    assert space.morphisms == (Widen(2.0), AddSkip())
    assert {name: getattr(space, name) for name in limits} == limits
    with pytest.raises(ValueError, match="max_parameters=9"):
        MorphSpace.from_module(module(), X, max_parameters=9)


def test_the_description_holds_the_digest_of_the_weights_only() -> None:
    space = MorphSpace.from_module(module(), X)
    assert space.weights is not None
    text = json.dumps(space.to_dict())
    assert json.loads(text)["weights"] == space.weights.digest
    again = MorphSpace.from_dict(json.loads(text))
    assert again == space
    assert again.digest == space.digest
    assert again.weights is not None and again.weights.tensors is None


def test_spaces_without_weights_are_described_as_ever() -> None:
    space = MorphSpace.from_module(module(), X)
    plain = MorphSpace(space.seed)
    assert "weights" not in plain.to_dict()
    assert plain.digest != space.digest


def test_a_pickled_space_has_its_weights() -> None:
    space = pickle.loads(pickle.dumps(MorphSpace.from_module(module(), X)))
    network = Network(space.seed)
    network.load_state_dict(space.weights.tensors)
    with torch.no_grad():
        assert torch.equal(network.eval()(X), module()(X))


def test_other_weights_make_another_space() -> None:
    space, other = MorphSpace.from_module(module(0), X), MorphSpace.from_module(module(1), X)
    assert MorphSpace.from_module(module(0), X).digest == space.digest
    assert space != other and space.digest != other.digest
    assert space.difference(other.to_dict()) == "the seed starts from other weights"
    assert space.difference(MorphSpace(space.seed, max_parameters=1_000_000, max_flops=100_000_000).to_dict()) == (
        "the seed starts from other weights"
    )


def test_weights_must_be_those_of_the_seed() -> None:
    space = MorphSpace.from_module(module(), X)
    assert space.weights is not None and space.weights.tensors is not None
    tensors = dict(space.weights.tensors)
    tensors.pop("layer_0.bias")
    with pytest.raises(ValueError, match="weights must have the names and shapes of the seed's parameters"):
        MorphSpace(space.seed, weights=SeedWeights.of(tensors))


@pytest.mark.parametrize("weights", ["../../etc/passwd", "a" * 63, "A" * 64, 7, None, ["a" * 64]])
def test_a_description_with_another_digest_is_refused(weights: object) -> None:
    data = {**MorphSpace.from_module(module(), X).to_dict(), "weights": weights}
    with pytest.raises(SpaceMismatchError, match="digest must be 64 lower-case hexadecimal digits"):
        MorphSpace.from_dict(data)


def test_what_cannot_be_translated_is_refused() -> None:
    with pytest.raises(TranslationError):
        MorphSpace.from_module(WithControlFlow(), torch.randn(2, 4))


# The digest of weights.


def test_the_digest_does_not_depend_on_order_or_memory() -> None:
    a, b = torch.arange(6.0).reshape(2, 3), torch.zeros((), dtype=torch.int64)
    expected = SeedWeights.of({"a": a, "b": b}).digest
    assert SeedWeights.of({"b": b.clone(), "a": a.clone()}).digest == expected
    assert SeedWeights.of({"a": a.T.contiguous().T, "b": b}).digest == expected
    assert SeedWeights.of({"a": nn.Parameter(a), "b": b}).digest == expected


@pytest.mark.parametrize(
    "other",
    [
        {"a": torch.tensor([[0.0, 1.0], [2.0, 3.0]])},
        {"a": torch.tensor([0.0, 1.0, 2.0, 3.0000002])},
        {"a": torch.tensor([-0.0, 1.0, 2.0, 3.0])},
        {"a": torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64)},
        {"b": torch.tensor([0.0, 1.0, 2.0, 3.0])},
        {"a": torch.tensor([0.0, 1.0, 2.0, 3.0]), "b": torch.tensor([])},
    ],
    ids=["shape", "bit", "sign", "dtype", "name", "one_more"],
)
def test_the_digest_tells_any_difference(other: dict[str, Tensor]) -> None:
    weights = {"a": torch.tensor([0.0, 1.0, 2.0, 3.0])}
    assert SeedWeights.of(weights) != SeedWeights.of(other)
    with pytest.raises(WeightsCorruptError, match="must have digest"):
        SeedWeights(SeedWeights.of(weights).digest, other)


@pytest.mark.parametrize("name", sorted(PLAIN.keys() - {"pre_activation"}))
def test_every_plain_network_can_be_widened(name: str) -> None:
    net, x = made(name)
    space = MorphSpace.from_module(net, x, morphisms=[Widen(1.5)])
    assert space.nearest(space.seed, Widen(1.5), 0.5) is not None
