"""How far two networks are from computing the same function, on random weights."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.nets import Network
from tests.strategies import example_inputs

N_SAMPLES = 6
"""Samples in a batch: enough for batch norm on vectors."""


def random_weights(architecture: Architecture, rng: np.random.Generator) -> dict[str, Tensor]:
    """Every weight, bias, scale, shift and running statistic at random, in float64.

    Weights are scaled by their fan-in, so that outputs stay near 1. No scale is near 0: an error behind a zero scale
    would be invisible.
    """
    result: dict[str, Tensor] = {}
    for name, param in architecture.params.items():
        shape = param.shape
        if param.dtype == "int64":
            result[name] = torch.tensor(int(rng.integers(1, 100)))
            continue
        if name.endswith("running_var"):
            values = rng.uniform(0.5, 2.0, shape)
        elif len(shape) == 1 and name.endswith("weight"):
            values = rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape)
        elif len(shape) == 1:
            values = rng.normal(0.0, 0.3, shape)
        else:
            values = rng.normal(0.0, math.sqrt(2 / math.prod(shape[1:])), shape)
        result[name] = torch.as_tensor(values)
    return result


def in_float32(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights, rounded."""
    return {name: w.float() if w.is_floating_point() else w for name, w in weights.items()}


@functools.lru_cache(maxsize=64)
def _skeleton(architecture: Architecture) -> Network:
    """The network without memory for its weights: most of the time of a comparison would go into making modules."""
    with torch.device("meta"):
        return Network(architecture)


def set_mode(network: Network, *, train: bool) -> None:
    """Eval mode, or train mode for everything but dropout."""
    network.train(train)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.eval()


def outputs(
    architecture: Architecture, weights: Mapping[str, Tensor], inputs: Sequence[Tensor], *, train: bool
) -> Tensor:
    """Outputs in the floating point type of the weights, which stay as they are."""
    dtype = next((w.dtype for w in weights.values() if w.is_floating_point()), torch.float32)
    network = _skeleton(architecture)
    set_mode(network, train=train)
    copies = {name: w.clone() for name, w in weights.items()}
    given = tuple(x.to(dtype) if x.is_floating_point() else x for x in inputs)
    with torch.no_grad():
        y: Tensor = torch.func.functional_call(network, copies, given, strict=True)
    assert y.dtype == dtype and bool(y.isfinite().all())
    return y


def difference(
    parent: Architecture,
    before: Mapping[str, Tensor],
    child: Architecture,
    after: Mapping[str, Tensor],
    *,
    train: bool,
    seed: int = 0,
) -> float:
    """Largest difference of two networks' outputs over the standard deviation of the outputs."""
    inputs = example_inputs(parent, N_SAMPLES, seed)
    y, z = (outputs(a, w, inputs, train=train) for a, w in ((parent, before), (child, after)))
    assert y.shape == z.shape and y.dtype == z.dtype
    return float((y - z).abs().max() / y.std())


N_ROUNDINGS = 8
"""Times that `rounding` computes a network: how the errors of one computation add up or cancel is chance."""


def rounding(architecture: Architecture, weights: Mapping[str, Tensor], *, train: bool, seed: int = 0) -> float:
    """How far a network in float32 is from itself in float64; no `difference` below it means much.

    The largest of several computations, each but the first with weights moved by at most one unit in the last place.
    """
    inputs = example_inputs(architecture, N_SAMPLES, seed)
    exact = {name: w.double() if w.is_floating_point() else w for name, w in weights.items()}
    z = outputs(architecture, exact, inputs, train=train)
    rng = np.random.default_rng(seed)
    worst = 0.0
    for trial in range(N_ROUNDINGS):
        relative = torch.finfo(torch.float32).eps / 2 * (trial > 0)
        moved = {
            name: (w * (1 + relative * torch.as_tensor(rng.uniform(-1, 1, w.shape)))).float()
            if w.is_floating_point()
            else w
            for name, w in exact.items()
        }
        y = outputs(architecture, moved, inputs, train=train)
        worst = max(worst, float((y - z).abs().max() / z.std()))
    return worst
