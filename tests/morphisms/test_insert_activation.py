"""InsertActivation: (1 - a) x + a f(x) with a = 0 at first."""

from __future__ import annotations

import numpy as np
import pytest

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir.ops import ACTIVATIONS, ParametricActivation
from optuna_nas_morph.morphisms import InsertActivation
from tests.morphisms.architectures import HAND_MADE
from tests.morphisms.contract import MorphismContract
from tests.morphisms.same_function import difference, random_weights


class TestContract(MorphismContract):
    morphisms = (InsertActivation(), InsertActivation("relu"), InsertActivation("tanh"))
    draws = False


@pytest.mark.parametrize("function", ACTIVATIONS)
def test_every_activation_will_do(function: str) -> None:
    parent = HAND_MADE["layouts"]
    morphism = InsertActivation(function)
    child = morphism.apply(parent, ("conv",))
    assert child[f"parametric_{function}_1"].op == ParametricActivation(function)
    before = random_weights(parent, np.random.default_rng(0))
    after = morphism.transfer(parent, child, ("conv",), before, np.random.default_rng(0))
    for train in (False, True):
        assert difference(parent, before, child, after, train=train) == 0


def test_places_are_those_of_layers_and_the_ends_of_branches() -> None:
    parent = HAND_MADE["residual"]
    assert ("b2",) in InsertActivation().sites(parent)
    assert ("b_proj",) in InsertActivation().sites(parent)
    assert ("a_relu",) in InsertActivation().sites(parent)
    # Behind a norm there is the same place as behind the sum, for all that the contract of blocks knows.
    assert ("a2_bn",) not in InsertActivation().sites(parent)


@pytest.mark.parametrize(
    ("function", "site", "reason"),
    [
        ("relu", "a_relu", "relu changes nothing where nothing is negative"),
        ("leaky_relu", "a_relu", "leaky_relu changes nothing where nothing is negative"),
        ("silu", "a1", "only a norm or an activation follows, which belongs to this layer"),
        ("silu", "fc", "nothing is inserted behind the network's output"),
    ],
)
def test_refusals(function: str, site: str, reason: str) -> None:
    assert InsertActivation(function).refusal(HAND_MADE["residual"], (site,)) == reason


def test_one_is_enough() -> None:
    parent = HAND_MADE["residual"]
    child = InsertActivation().apply(parent, ("b2",))
    again = InsertActivation().refusal(child, ("parametric_silu_1",))
    assert again in ("there is such an activation already", "only a sum follows, which ends the branch")
    child = InsertActivation().apply(parent, ("b_add",))
    assert InsertActivation("gelu").refusal(child, ("parametric_silu_1",)) == "there is such an activation already"


def test_bad_activations() -> None:
    with pytest.raises(MorphismError, match=r"activation must be one of .* but got 'linear'"):
        InsertActivation("linear")
