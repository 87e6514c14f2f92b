"""Plain convolutional networks."""

from __future__ import annotations

from collections.abc import Sequence

from optuna_nas_morph.morphisms import (
    AddSkip,
    ConcatSkip,
    Deepen,
    GrowKernel,
    InsertResidualBlock,
    Morphism,
    Widen,
)
from optuna_nas_morph.presets.builder import Builder
from optuna_nas_morph.presets.checks import map_shape, positive
from optuna_nas_morph.presets.limits import N_MORPHISMS, grown_from
from optuna_nas_morph.spaces import MorphSpace

SMALLEST = 4
"""Pixels that the smaller side keeps."""
LARGE = 64
"""Pixels that the smaller side has at most behind the first block."""
MORPHISMS: tuple[Morphism, ...] = (
    Widen(1.5),
    Widen(2.0),
    Deepen("relu", 3),
    InsertResidualBlock(3),
    GrowKernel(2),
    AddSkip(),
    ConcatSkip(),
)


def cnn(
    input_shape: Sequence[int],
    n_classes: int,
    *,
    width: int = 16,
    depth: int = 3,
    morphisms: Sequence[Morphism] = MORPHISMS,
    max_morphisms: int = N_MORPHISMS,
    max_parameters: int | None = None,
    max_flops: int | None = None,
    max_nodes: int | None = None,
) -> MorphSpace:
    """Networks for images, grown from a small plain convolutional network.

    The seed has ``depth`` blocks of 3x3 convolution, batch norm and ReLU, with max pooling between them and the width
    doubled behind each (Simonyan and Zisserman, 2015; batch norm: Ioffe and Szegedy, 2015), then global average pooling
    (Lin et al., 2014) and a linear layer. There is no pooling where the smaller side would fall below 4. Where it is
    above 64, the first block takes it down to that (see `Builder.add_stem`).

    Args:
        input_shape:
            ``(channels, height, width)``, height and width at least 4.
        n_classes:
            Outputs, with no function behind them: one per class, per label that holds or does not, or per number to
            predict (see `optuna_nas_morph.presets`).
        width:
            Channels of the first block.
        depth:
            Blocks.
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
    builder = Builder(map_shape(input_shape, ("height", "width"), SMALLEST))
    n_classes, width, depth = positive("n_classes", n_classes), positive("width", width), positive("depth", depth)
    builder.add_stem(width, 3, LARGE)
    builder.add_pooled_blocks(depth - 1, width, 3, SMALLEST)
    seed = builder.finish(n_classes)
    return grown_from(
        seed,
        morphisms,
        max_morphisms=max_morphisms,
        max_parameters=max_parameters,
        max_flops=max_flops,
        max_nodes=max_nodes,
    )
