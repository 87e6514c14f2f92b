"""Residual networks."""

from __future__ import annotations

from collections.abc import Sequence

from optuna_nas_morph.ir.ops import Activation, Add, BatchNorm, Conv
from optuna_nas_morph.morphisms import (
    AddSkip,
    Branch,
    Deepen,
    GrowKernel,
    InsertResidualBlock,
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
MORPHISMS: tuple[Morphism, ...] = (
    Widen(1.5),
    Widen(2.0),
    InsertResidualBlock(3),
    Deepen("relu", 3),
    GrowKernel(2),
    AddSkip(),
    InsertSqueezeExcite(),
    Branch("add"),
)
"""Tensors meet in sums, as everywhere in these networks: no concatenation. Two branches of a sum differ once the kernel
of one grows."""


def resnet(
    input_shape: Sequence[int],
    n_classes: int,
    *,
    width: int = 16,
    depth: int | Sequence[int] = 1,
    n_stages: int = 3,
    expansion: int = 1,
    morphisms: Sequence[Morphism] = MORPHISMS,
    max_morphisms: int = N_MORPHISMS,
    max_parameters: int | None = None,
    max_flops: int | None = None,
    max_nodes: int | None = None,
) -> MorphSpace:
    """Networks for images, grown from a small residual network.

    The seed is that of He et al. (2016, section 4.2) for CIFAR-10, with one block per stage: a 3x3 convolution, stages
    of basic blocks (convolution, norm, ReLU, convolution, norm, sum, ReLU; a 1x1 convolution with norm as the shortcut
    where the size changes: option B), global average pooling and a linear layer. From stage to stage the size is halved
    and the width doubled; neither happens where the smaller side would fall below 4. Where that is above 64, their stem
    for ImageNet takes it down (see `Builder.add_stem`).

    With ``width=64, n_stages=4`` and 224 pixels, ``depth=2`` is their ResNet-18, ``depth=(3, 4, 6, 3)`` ResNet-34, and
    that with ``expansion=4`` ResNet-50 (with the stride in the 3x3 convolution, as torchvision's).

    Args:
        input_shape:
            ``(channels, height, width)``, height and width at least 4.
        n_classes:
            Outputs, with no function behind them: one per class, per label that holds or does not, or per number to
            predict (see `optuna_nas_morph.presets`).
        width:
            Channels of the first stage, within its blocks.
        depth:
            Blocks in each stage; one number for all, or one per stage.
        n_stages:
            Stages.
        expansion:
            Channels between blocks over those within. With 1 blocks are basic; with more they are bottlenecks (1x1, 3x3
            and 1x1 convolution; figure 5).
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
    builder.add_stem(width, 3, LARGE)
    for stage, n_blocks in enumerate(depths(depth, positive("n_stages", n_stages))):
        stride = 2 if stage > 0 and builder.can_halve(SMALLEST) else 1
        width *= stride
        for block in range(n_blocks):
            _add_block(builder, width, stride if block == 0 else 1, expansion)
    seed = builder.finish(n_classes)
    return grown_from(
        seed,
        morphisms,
        max_morphisms=max_morphisms,
        max_parameters=max_parameters,
        max_flops=max_flops,
        max_nodes=max_nodes,
    )


def _add_block(builder: Builder, width: int, stride: int, expansion: int) -> None:
    """Add a basic block (He et al., 2016, figure 2), or a bottleneck (figure 5) where its output is wider than it."""
    start, n_inputs, n_outputs = builder.last, builder.spec.n_channels, expansion * width
    if expansion == 1:
        builder.add_conv(width, 3, stride=stride)
        builder.add_norm_relu()
        builder.add_conv(width, 3)
    else:
        builder.add_conv(width, 1)
        builder.add_norm_relu()
        builder.add_conv(width, 3, stride=stride)
        builder.add_norm_relu()
        builder.add_conv(n_outputs, 1)
    end = builder.add(BatchNorm())
    if stride > 1 or n_inputs != n_outputs:
        builder.add(Conv.same(2, n_outputs, 1, stride=stride, bias=False), start, stem="shortcut")
        start = builder.add(BatchNorm(), stem="shortcut_norm")
    builder.add(Add(), end, start)
    builder.add(Activation("relu"))
