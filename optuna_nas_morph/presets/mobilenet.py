"""Networks of inverted residuals."""

from __future__ import annotations

from collections.abc import Sequence

from optuna_nas_morph.ir.ops import Activation, AdaptivePool, Add, BatchNorm, Conv, DepthwiseConv, Multiply
from optuna_nas_morph.morphisms import (
    AddSkip,
    Deepen,
    GrowKernel,
    InsertDepthwiseSeparable,
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
REDUCTION = 4
"""Channels over the width between the two layers of a squeeze-and-excitation."""
MORPHISMS: tuple[Morphism, ...] = (
    Widen(1.5),
    Widen(2.0),
    InsertDepthwiseSeparable("hardswish", 3),
    Deepen("hardswish", 1),
    InsertSqueezeExcite(REDUCTION, "hardsigmoid"),
    GrowKernel(2),
    AddSkip(),
)
"""Everything that is put in stays cheap: filters per channel, or 1x1 convolutions that expand and project."""


def mobilenet(
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
    """Networks for images, grown from a small network of inverted residuals.

    The seed follows MobileNetV3 (Howard et al., 2019, section 5): a 3x3 convolution, stages of inverted residuals, a 1x1
    convolution that expands, global average pooling and a linear layer. An inverted residual (Sandler et al., 2018,
    section 3.3) is a 1x1 convolution that expands, a depthwise 3x3 convolution, from the second stage on a
    squeeze-and-excitation with a hard sigmoid, and a 1x1 convolution that projects, with norms behind the three
    convolutions; where the shape is kept, its input is added. The function is ReLU in the first stage and hardswish
    from the second on. From stage to stage the size is halved and the width doubled; neither happens where the smaller
    side would fall below 4. Where that is above 64, the stem of He et al. (2016) takes it down (see
    `Builder.add_stem`). Unlike theirs, widths and kernels are not those that a search found for one telephone, and there
    is no hidden layer behind the pooling.

    Args:
        input_shape:
            ``(channels, height, width)``, height and width at least 4.
        n_classes:
            Outputs: one per class, or 1 for a regression or a binary decision.
        width:
            Channels of the first stage, between its blocks.
        depth:
            Blocks in each stage; one number for all, or one per stage.
        n_stages:
            Stages.
        expansion:
            Channels within a block over those that enter it; with 1 nothing expands.
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
    n_classes, width, expansion = (
        positive("n_classes", n_classes),
        positive("width", width),
        positive("expansion", expansion),
    )
    builder.add_stem(width, 3, LARGE)
    for stage, n_blocks in enumerate(depths(depth, positive("n_stages", n_stages))):
        stride = 2 if stage > 0 and builder.can_halve(SMALLEST) else 1
        width *= stride
        for block in range(n_blocks):
            _add_block(builder, width, stride if block == 0 else 1, expansion, late=stage > 0)
    builder.add_conv(expansion * width, 1)
    _add_norm_activation(builder, "hardswish")
    seed = builder.finish(n_classes)
    return grown_from(
        seed,
        morphisms,
        max_morphisms=max_morphisms,
        max_parameters=max_parameters,
        max_flops=max_flops,
        max_nodes=max_nodes,
    )


def _add_block(builder: Builder, width: int, stride: int, expansion: int, *, late: bool) -> None:
    """Add an inverted residual (Howard et al., 2019, figure 4); a late one has hardswish and a gate."""
    start, n_inputs = builder.last, builder.spec.n_channels
    function = "hardswish" if late else "relu"
    if expansion > 1:
        builder.add_conv(expansion * n_inputs, 1)
        _add_norm_activation(builder, function)
    builder.add(DepthwiseConv.same(2, 3, stride=stride, bias=False))
    _add_norm_activation(builder, function)
    if late:
        _add_squeeze_excite(builder)
    builder.add_conv(width, 1)
    builder.add(BatchNorm())
    if stride == 1 and n_inputs == width:
        builder.add(Add(), builder.last, start)


def _add_norm_activation(builder: Builder, function: str) -> None:
    """Add batch norm and an activation."""
    builder.add(BatchNorm())
    builder.add(Activation(function))


def _add_squeeze_excite(builder: Builder) -> None:
    """Add a gate per channel (Hu et al., 2018, section 3)."""
    start, n_channels = builder.last, builder.spec.n_channels
    builder.add(AdaptivePool((1, 1)), stem="squeeze")
    builder.add(Conv(max(1, n_channels // REDUCTION), (1, 1)), stem="reduce")
    builder.add(Activation("relu"))
    builder.add(Conv(n_channels, (1, 1)), stem="expand")
    gate = builder.add(Activation("hardsigmoid"), stem="gate")
    builder.add(Multiply(), start, gate, stem="excite")
