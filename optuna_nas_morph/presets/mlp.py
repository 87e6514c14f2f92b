"""Multilayer perceptrons."""

from __future__ import annotations

from collections.abc import Sequence

from optuna_nas_morph.ir.ops import Flatten, Linear
from optuna_nas_morph.morphisms import (
    AddSkip,
    ConcatSkip,
    Deepen,
    InsertResidualBlock,
    Morphism,
    Widen,
)
from optuna_nas_morph.presets.builder import Builder
from optuna_nas_morph.presets.checks import positive, vector_shape
from optuna_nas_morph.presets.limits import N_MORPHISMS, grown_from
from optuna_nas_morph.spaces import MorphSpace

MORPHISMS: tuple[Morphism, ...] = (
    Widen(1.5),
    Widen(2.0),
    Deepen("relu"),
    InsertResidualBlock(),
    AddSkip(),
    ConcatSkip(),
)
"""There is no kernel to grow."""


def mlp(
    input_shape: Sequence[int],
    n_classes: int,
    *,
    width: int = 64,
    depth: int = 2,
    morphisms: Sequence[Morphism] = MORPHISMS,
    max_morphisms: int = N_MORPHISMS,
    max_parameters: int | None = None,
    max_flops: int | None = None,
    max_nodes: int | None = None,
) -> MorphSpace:
    """Networks for vectors, grown from a small multilayer perceptron.

    The seed flattens its input where that is no vector, then has ``depth`` hidden layers of linear layer, batch norm
    (Ioffe and Szegedy, 2015) and ReLU, and a linear layer.

    Args:
        input_shape:
            ``(n_features,)``, or any other shape of one sample, which is flattened.
        n_classes:
            Outputs: one per class, or 1 for a regression or a binary decision.
        width:
            Units of a hidden layer.
        depth:
            Hidden layers.
        morphisms:
            What the search may apply.
        max_morphisms:
            Longest chain of morphisms.
        max_parameters:
            Most trained parameters; by default 32 times the seed's, at least 1 million.
        max_flops:
            Most FLOPs of the matrix products for one sample; by default 32 times the seed's, at least 100 million.
        max_nodes:
            Most nodes; by default twice the seed's, at least 200.

    Raises:
        ValueError: If an argument is out of range, or the seed exceeds a limit.
    """
    builder = Builder(vector_shape(input_shape))
    n_classes, width, depth = positive("n_classes", n_classes), positive("width", width), positive("depth", depth)
    if builder.spec.spatial:
        builder.add(Flatten())
    for _ in range(depth):
        builder.add(Linear(width, bias=False))
        builder.add_norm_relu()
    seed = builder.finish(n_classes)
    return grown_from(
        seed,
        morphisms,
        max_morphisms=max_morphisms,
        max_parameters=max_parameters,
        max_flops=max_flops,
        max_nodes=max_nodes,
    )
