"""From a donor's weights to a child's: the remaining morphisms replayed."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from optuna_nas_morph.errors import WeightsMismatchError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.spaces import MorphSpace, Step
from optuna_nas_morph.weights.moments import Moments, check_moments, push


def check_weights(architecture: Architecture, weights: Mapping[str, Tensor]) -> None:
    """Check that weights have the names and shapes of an architecture's parameters.

    Raises:
        WeightsMismatchError: Naming the first that does not fit.
    """
    missing = [name for name in architecture.params if name not in weights]
    if missing:
        raise WeightsMismatchError(f"weights must hold {missing[0]!r} but do not ({len(missing)} are missing).")
    unknown = [name for name in weights if name not in architecture.params]
    if unknown:
        raise WeightsMismatchError(f"weights hold {unknown[0]!r}, which is no parameter of the architecture.")
    for name, param in architecture.params.items():
        shape = tuple(weights[name].shape)
        if shape != param.shape:
            raise WeightsMismatchError(f"{name!r} must be of shape {param.shape} but is of shape {shape}.")


def inherit(
    space: MorphSpace, steps: Sequence[Step], n_done: int, weights: Mapping[str, Tensor], rng: np.random.Generator
) -> dict[str, Tensor]:
    """Weights for the end of a chain of steps, from those of an architecture on the way.

    Args:
        space:
            The space.
        steps:
            The whole chain from the seed.
        n_done:
            How many of the steps the donor had taken.
        weights:
            The donor's weights.
        rng:
            Source of everything that is drawn.

    Raises:
        WeightsMismatchError: If the weights are not those of the donor's architecture.
    """
    architecture = space.replay(steps[:n_done])
    check_weights(architecture, weights)
    result = dict(weights)
    for step in steps[n_done:]:
        child = space.apply(architecture, step)
        result = step.morphism.transfer(architecture, child, step.site, result, rng)
        architecture = child
    return result


def inherit_moments(
    space: MorphSpace,
    steps: Sequence[Step],
    n_done: int,
    moments: Moments,
    weights: Mapping[str, Tensor],
    rng: np.random.Generator,
) -> Moments:
    """An optimizer's moments for the end of a chain of steps, as `inherit` gives the weights.

    Args:
        space:
            The space.
        steps:
            The whole chain from the seed.
        n_done:
            How many of the steps the donor had taken.
        moments:
            Those of the donor's optimizer.
        weights:
            The donor's weights, by which some morphisms choose.
        rng:
            In the state in which `inherit` took it, so that both see the same draws.

    Raises:
        WeightsMismatchError: If the moments or the weights are not of the donor's architecture.
    """
    architecture = space.replay(steps[:n_done])
    check_moments(architecture, moments)
    check_weights(architecture, weights)
    for step in steps[n_done:]:
        child = space.apply(architecture, step)
        morphism = step.morphism.settled(architecture, step.site, weights)
        weights = morphism.transfer(architecture, child, step.site, weights, copy.deepcopy(rng))
        moments = push(morphism, architecture, child, step.site, moments, rng)
        architecture = child
    return moments
