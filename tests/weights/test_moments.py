"""Moments of a parent's gradients become those of its child's gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from optuna_nas_morph.errors import WeightsMismatchError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.morphisms import Morphism, Widen, find_origins
from optuna_nas_morph.nets import Network
from optuna_nas_morph.weights.inherit import inherit, inherit_moments
from optuna_nas_morph.weights.moments import check_moments, push
from tests.morphisms.architectures import HAND_MADE
from tests.morphisms.chains import MORPHISMS
from tests.morphisms.contract import cases
from tests.morphisms.same_function import set_mode
from tests.strategies import example_inputs
from tests.studies import CNN_SPACE, MLP

ALL = pytest.mark.parametrize("morphism", MORPHISMS, ids=str)
EVERYWHERE = pytest.mark.parametrize("architecture", HAND_MADE.values(), ids=HAND_MADE)


def gradient(architecture: Architecture, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """PyTorch's gradient of a random linear function of the outputs."""
    network = Network(architecture).double()
    network.load_state_dict(weights)
    set_mode(network, train=True)
    inputs = [x.double() if x.is_floating_point() else x for x in example_inputs(architecture, 16, 1)]
    output = network(*inputs)
    (
        output * torch.randn(output.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ).sum().backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def random_moments(architecture: Architecture, rng: np.random.Generator) -> dict[str, dict[str, Tensor]]:
    def draw(shape: tuple[int, ...]) -> Tensor:
        return torch.as_tensor(rng.normal(size=shape)).float()

    shapes = {name: p.shape for name, p in architecture.params.items() if not p.buffer}
    return {
        "momentum_buffer": {name: draw(shape) for name, shape in shapes.items()},
        "exp_avg_sq": {name: draw(shape).square() for name, shape in shapes.items()},
        "step": {name: torch.tensor(float(i)) for i, name in enumerate(shapes)},
    }


@ALL
@EVERYWHERE
def test_gradients_of_a_child_are_those_of_its_parent_pushed(morphism: Morphism, architecture: Architecture) -> None:
    for site, child, weights in cases(morphism, architecture):
        after = morphism.transfer(architecture, child, site, weights, np.random.default_rng(0))
        before, truth = gradient(architecture, weights), gradient(child, after)
        pushed = push(
            morphism, architecture, child, site, {"exp_avg": before, "max_exp_avg_sq": before}, np.random.default_rng(0)
        )
        found = find_origins(morphism, architecture, child, site, np.random.default_rng(0))
        numbers = number_of(architecture)
        scale = max([float(g.abs().max()) for g in before.values()], default=0.0) + 1e-300
        for name, moment in pushed["exp_avg"].items():
            source, factor = found.sources[name], found.factors[name]
            assert moment.shape == child.params[name].shape
            assert (moment[source < 0] == 0).all()
            # Incoming weights of copies: what each copy gets depends on the batch. Everything else is exact.
            exact = (source >= 0) & ~copied_in(morphism, name, source, found.sources, found.factors, child)
            assert torch.allclose(moment[exact], truth[name][exact], rtol=0, atol=1e-9 * scale), (site, name)


def number_of(architecture):
    return None


def copied_in(morphism, name, source, sources, factors, child):
    totals = torch.zeros(10**6, dtype=torch.float64)
    for n, s in sources.items():
        if not child.params[n].buffer:
            totals.index_put_((s,), factors[n].abs(), accumulate=True)
    return (totals[source] - 1).abs() > 1e-9
