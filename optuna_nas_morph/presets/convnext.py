"""Networks of ConvNeXt blocks."""

from __future__ import annotations

from collections.abc import Sequence

from optuna_nas_morph.ir.ops import Activation, Add, Conv, DepthwiseConv, GlobalPool, LayerNorm, LayerScale
from optuna_nas_morph.morphisms import (
    AddSkip,
    GrowKernel,
    InsertActivation,
    InsertDepthwiseSeparable,
    InsertInvertedResidual,
    InsertSqueezeExcite,
    Morphism,
    Widen,
)
from optuna_nas_morph.presets.builder import Builder
from optuna_nas_morph.presets.checks import depths, map_shape, positive
from optuna_nas_morph.presets.limits import N_MORPHISMS, grown_from
from optuna_nas_morph.spaces import MorphSpace

SMALLEST = 4
"""Pixels that the smaller side keeps."""
LARGE = 64
"""Pixels that the smaller side has at most behind the first convolution."""
KERNEL_SIZE = 7
"""Size of the depthwise convolutions."""
EPS = 1e-6
"""Added to the variance in layer norms, as in the code of the paper."""
MORPHISMS: tuple[Morphism, ...] = (
    Widen(1.5),
    Widen(2.0),
    InsertInvertedResidual(KERNEL_SIZE, 4, "gelu", "layer"),
    InsertDepthwiseSeparable("gelu", KERNEL_SIZE),
    InsertActivation("gelu"),
    InsertSqueezeExcite(),
    GrowKernel(2, 11),
    AddSkip(),
)
"""Without batch norms, so without `InsertResidualBlock`. `Widen` finds the channels within blocks only: those between
them are tied by layer norms. Nothing between blocks is rectified, so an activation can be put there."""


def convnext(
    input_shape: Sequence[int],
    n_classes: int,
    *,
    width: int = 16,
    depth: int | Sequence[int] = 1,
    n_stages: int = 3,
    expansion: int = 4,
    morphisms: Sequence[Morphism] = MORPHISMS,
    max_morphisms: int = N_MORPHISMS,
    max_parameters: int | None = None,
    max_flops: int | None = None,
    max_nodes: int | None = None,
) -> MorphSpace:
    """Networks for images, grown from a small ConvNeXt.

    The seed follows Liu et al. (2022, section 2): a convolution and layer norm, stages of blocks, global average
    pooling, layer norm and a linear layer. A block adds to its input a depthwise 7x7 convolution, layer norm, a 1x1
    convolution that expands, GELU, a 1x1 convolution that projects, and a trained factor per channel (LayerScale:
    Touvron et al., 2021) that starts at 1e-6. Between stages layer norm and a 2x2 convolution with stride 2 halve the
    size and double the width; neither happens where the smaller side would fall below 4. Where that is above 64, the
    first convolution takes patches that do not overlap, as large as the smallest power of 2 that takes it down to 64;
    elsewhere it is 3x3.

    With ``width=96, n_stages=4, depth=(3, 3, 9, 3)`` and 224 pixels it is their ConvNeXt-T without stochastic depth,
    with ``depth=(3, 3, 27, 3)`` ConvNeXt-S, and that with ``width=128`` ConvNeXt-B.

    Args:
        input_shape:
            ``(channels, height, width)``, height and width at least 4.
        n_classes:
            Outputs, with no function behind them: one per class, per label that holds or does not, or per number to
            predict (see `optuna_nas_morph.presets`).
        width:
            Channels of the first stage, between its blocks.
        depth:
            Blocks in each stage; one number for all, or one per stage.
        n_stages:
            Stages.
        expansion:
            Channels between the two 1x1 convolutions of a block over those that enter it.
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
    n_classes, width = positive("n_classes", n_classes), positive("width", width)
    expansion = positive("expansion", expansion)
    _add_patches(builder, width)
    for stage, n_blocks in enumerate(depths(depth, positive("n_stages", n_stages))):
        if stage > 0 and builder.can_halve(SMALLEST):
            width *= 2
            builder.add(LayerNorm(EPS))
            builder.add(Conv(width, (2, 2), (2, 2)))
        for _ in range(n_blocks):
            _add_block(builder, expansion)
    builder.add(GlobalPool())
    builder.add(LayerNorm(EPS))
    seed = builder.finish(n_classes)
    return grown_from(
        seed,
        morphisms,
        max_morphisms=max_morphisms,
        max_parameters=max_parameters,
        max_flops=max_flops,
        max_nodes=max_nodes,
    )


def _add_patches(builder: Builder, width: int) -> None:
    """Add the first convolution with its norm."""
    patch = 1
    while min(builder.spec.spatial) // patch > LARGE:
        patch *= 2
    builder.add(Conv.same(2, width, 3) if patch == 1 else Conv(width, (patch, patch), (patch, patch)))
    builder.add(LayerNorm(EPS))


def _add_block(builder: Builder, expansion: int) -> None:
    """Add a block (Liu et al., 2022, figure 4)."""
    start, width = builder.last, builder.spec.n_channels
    builder.add(DepthwiseConv.same(2, KERNEL_SIZE))
    builder.add(LayerNorm(EPS))
    builder.add(Conv(expansion * width, (1, 1)))
    builder.add(Activation("gelu"))
    builder.add(Conv(width, (1, 1)))
    builder.add(LayerScale())
    builder.add(Add(), builder.last, start)
