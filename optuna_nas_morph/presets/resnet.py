"""Residual networks."""

from __future__ import annotations

from collections.abc import Sequence

from optuna_nas_morph.ir.ops import Activation, Add, BatchNorm, Conv
from optuna_nas_morph.morphisms import (
    AddSkip,
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
"""Pixels that the smaller side has at most behind the first convolution."""
MORPHISMS: tuple[Morphism, ...] = (
    Widen(1.5),
    Widen(2.0),
    InsertResidualBlock(3),
    Deepen("relu", 3),
    GrowKernel(2),
    AddSkip(),
)
"""Tensors meet in sums, as everywhere in these networks: no concatenation."""


def resnet(
    input_shape: Sequence[int],
    n_classes: int,
    *,
    width: int = 16,
    depth: int = 1,
    n_stages: int = 3,
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

    Args:
        input_shape:
            ``(channels, height, width)``, height and width at least 4.
        n_classes:
            Outputs: one per class, or 1 for a regression or a binary decision.
        width:
            Channels of the first stage.
        depth:
            Blocks in each stage.
        n_stages:
            Stages.
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
    n_stages = positive("n_stages", n_stages)
    builder.add_stem(width, 3, LARGE)
    for stage in range(n_stages):
        stride = 2 if stage > 0 and builder.can_halve(SMALLEST) else 1
        width *= stride
        for block in range(depth):
            _add_block(builder, width, stride if block == 0 else 1)
    seed = builder.finish(n_classes)
    return grown_from(
        seed,
        morphisms,
        max_morphisms=max_morphisms,
        max_parameters=max_parameters,
        max_flops=max_flops,
        max_nodes=max_nodes,
    )


def _add_block(builder: Builder, width: int, stride: int) -> None:
    """Add a basic block (He et al., 2016, figure 2)."""
    start = builder.last
    builder.add_conv(width, 3, stride=stride)
    builder.add_norm_relu()
    builder.add_conv(width, 3)
    end = builder.add(BatchNorm())
    if stride > 1:
        builder.add(Conv.same(2, width, 1, stride=stride, bias=False), start, stem="shortcut")
        start = builder.add(BatchNorm(), stem="shortcut_norm")
    builder.add(Add(), end, start)
    builder.add(Activation("relu"))
