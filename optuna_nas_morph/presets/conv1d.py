"""Convolutional networks for series."""

from __future__ import annotations

from collections.abc import Sequence

from optuna_nas_morph.morphisms import (
    AddSkip,
    Branch,
    ConcatSkip,
    Deepen,
    GrowKernel,
    InsertResidualBlock,
    InsertSqueezeExcite,
    Morphism,
    Widen,
)
from optuna_nas_morph.presets.builder import Builder
from optuna_nas_morph.presets.checks import map_shape, positive
from optuna_nas_morph.presets.limits import N_MORPHISMS, grown_from
from optuna_nas_morph.spaces import MorphSpace

SMALLEST = 8
"""Points that a series keeps."""
LARGE = 256
"""Points that it has at most behind the first block."""
MORPHISMS: tuple[Morphism, ...] = (
    Widen(1.5),
    Widen(2.0),
    Deepen("relu", 5),
    InsertResidualBlock(5),
    GrowKernel(2, 15),
    AddSkip(),
    ConcatSkip(),
    InsertSqueezeExcite(),
    Branch("concat"),
)
"""Kernels along one axis are cheap, so they may grow further than those of images, and differ between branches that lie
side by side (InceptionTime: Ismail Fawaz et al., 2020). Gates per channel: Karim et al., 2019."""


def conv1d(
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
    """Networks for series, grown from a small fully convolutional network.

    The seed has ``depth`` blocks of convolution of size 5, batch norm and ReLU, then global average pooling and a
    linear layer (Wang, Yan and Oates, 2017, section II-B). Here there is max pooling between the blocks too, with the
    width doubled behind each, but not where fewer than 8 points would be left. A series of more than 256 points is
    taken down to that by the first block (see `Builder.add_stem`).

    Args:
        input_shape:
            ``(channels, length)``, length at least 8.
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
    builder = Builder(map_shape(input_shape, ("length",), SMALLEST))
    n_classes, width, depth = positive("n_classes", n_classes), positive("width", width), positive("depth", depth)
    builder.add_stem(width, 5, LARGE)
    builder.add_pooled_blocks(depth - 1, width, 5, SMALLEST)
    seed = builder.finish(n_classes)
    return grown_from(
        seed,
        morphisms,
        max_morphisms=max_morphisms,
        max_parameters=max_parameters,
        max_flops=max_flops,
        max_nodes=max_nodes,
    )
