"""Networks of inverted residuals."""

from __future__ import annotations

from collections.abc import Sequence

from optuna_nas_morph.ir.ops import (
    Activation,
    AdaptivePool,
    Add,
    BatchNorm,
    Conv,
    DepthwiseConv,
    GlobalPool,
    Linear,
    Multiply,
)
from optuna_nas_morph.morphisms import (
    AddSkip,
    Deepen,
    GrowKernel,
    InsertDepthwiseSeparable,
    InsertInvertedResidual,
    InsertSqueezeExcite,
    Morphism,
    Ungroup,
    Widen,
)
from optuna_nas_morph.presets.builder import Builder
from optuna_nas_morph.presets.checks import depths, map_shape, positive
from optuna_nas_morph.presets.limits import N_MORPHISMS, grown_from
from optuna_nas_morph.presets.mobilenet_tables import InvertedResidual, MobileNetTable
from optuna_nas_morph.spaces import MorphSpace

SMALLEST = 4
"""Pixels that the smaller side keeps."""
LARGE = 64
"""Pixels that the smaller side has at most behind the first convolution."""
REDUCTION = 4
"""Channels over the width between the two layers of a squeeze-and-excitation."""
WIDTH, DEPTH, N_STAGES, EXPANSION = 16, 1, 3, 4
MORPHISMS: tuple[Morphism, ...] = (
    Widen(1.5),
    Widen(2.0),
    InsertInvertedResidual(),
    InsertDepthwiseSeparable("hardswish", 3),
    Deepen("hardswish", 1),
    InsertSqueezeExcite(REDUCTION, "hardsigmoid"),
    GrowKernel(2),
    AddSkip(),
    Ungroup(),
)
"""What is put in stays cheap: filters per channel, or 1x1 convolutions that expand and project. `Ungroup` is for early
stages, where channels are few and a full convolution is faster (EfficientNetV2: Tan and Le, 2021, section 3.2)."""


def mobilenet(
    input_shape: Sequence[int],
    n_classes: int,
    *,
    width: int = WIDTH,
    depth: int | Sequence[int] = DEPTH,
    n_stages: int = N_STAGES,
    expansion: int = EXPANSION,
    table: MobileNetTable | None = None,
    morphisms: Sequence[Morphism] = MORPHISMS,
    max_morphisms: int = N_MORPHISMS,
    max_parameters: int | None = None,
    max_flops: int | None = None,
    max_nodes: int | None = None,
) -> MorphSpace:
    """Networks for images, grown from a small network of inverted residuals.

    The seed follows MobileNetV3 (Howard et al., 2019, section 5): a 3x3 convolution, stages of inverted residuals, a
    1x1 convolution that expands, global average pooling and a linear layer. An inverted residual (Sandler et al., 2018,
    section 3.3) is a 1x1 convolution that expands, a depthwise 3x3 convolution, from the second stage on a
    squeeze-and-excitation with a hard sigmoid, and a 1x1 convolution that projects, with norms behind the three
    convolutions; where the shape is kept, its input is added. The function is ReLU in the first stage and hardswish
    from the second on. From stage to stage the size is halved and the width doubled; neither happens where the smaller
    side would fall below 4. Where that is above 64, the stem of He et al. (2016) takes it down (see
    `Builder.add_stem`).

    With ``table=presets.MOBILENET_V2`` (or ``MOBILENET_V3_SMALL``, ``MOBILENET_V3_LARGE``) and 224 pixels it is the
    published network instead, without its dropout. Strides of a table that would take the smaller side below 4 are left
    out, so that it fits small images too.

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
            Channels within a block over those that enter it; with 1 nothing expands.
        table:
            Every block by itself, in place of the four arguments above.
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
        ValueError: If an argument is out of range, a table comes with another size as well, or the seed exceeds a
            limit.
    """
    builder = Builder(map_shape(input_shape, ("height", "width"), SMALLEST))
    n_classes, width, expansion = (
        positive("n_classes", n_classes),
        positive("width", width),
        positive("expansion", expansion),
    )
    counts = depths(depth, positive("n_stages", n_stages))
    if table is None:
        _add_stages(builder, width, counts, expansion)
    elif not isinstance(table, MobileNetTable):
        raise ValueError(f"table must be a MobileNetTable or None but got {table!r}.")
    elif (width, counts, expansion) != (WIDTH, (DEPTH,) * N_STAGES, EXPANSION):
        raise ValueError(
            "table must be None where width, depth, n_stages or expansion are chosen: it says every block's, but got "
            f"{table!r}."
        )
    else:
        _add_table(builder, table)
    seed = builder.finish(n_classes)
    return grown_from(
        seed,
        morphisms,
        max_morphisms=max_morphisms,
        max_parameters=max_parameters,
        max_flops=max_flops,
        max_nodes=max_nodes,
    )


def _add_stages(builder: Builder, width: int, counts: Sequence[int], expansion: int) -> None:
    """Add everything before the pooling, with widths that double."""
    builder.add_stem(width, 3, LARGE)
    for stage, n_blocks in enumerate(counts):
        stride = 2 if stage > 0 and builder.can_halve(SMALLEST) else 1
        width *= stride
        for block in range(n_blocks):
            inner = expansion * builder.spec.n_channels
            squeeze, function = (max(1, inner // REDUCTION), "hardswish") if stage > 0 else (None, "relu")
            _add_block(builder, InvertedResidual(3, inner, width, squeeze, function, stride if block == 0 else 1))
    _add_layer(builder, expansion * width, 1, "hardswish")


def _add_table(builder: Builder, table: MobileNetTable) -> None:
    """Add everything before the last linear layer as a table says."""
    _add_layer(builder, table.stem, 3, table.function, stride=2 if builder.can_halve(SMALLEST) else 1)
    for block in table.blocks:
        _add_block(builder, block)
    _add_layer(builder, table.last, 1, table.function)
    if table.hidden is not None:
        builder.add(GlobalPool())
        builder.add(Linear(table.hidden))
        builder.add(Activation(table.function))


def _add_block(builder: Builder, block: InvertedResidual) -> None:
    """Add an inverted residual (Howard et al., 2019, figure 4)."""
    start, n_inputs = builder.last, builder.spec.n_channels
    stride = block.stride if builder.can_halve(SMALLEST) else 1
    if block.inner != n_inputs:
        _add_layer(builder, block.inner, 1, block.function)
    builder.add(DepthwiseConv.same(2, block.kernel_size, stride=stride, bias=False))
    builder.add(BatchNorm())
    builder.add(Activation(block.function))
    if block.squeeze is not None:
        _add_squeeze_excite(builder, block.squeeze)
    builder.add_conv(block.width, 1)
    builder.add(BatchNorm())
    if block.stride == 1 and n_inputs == block.width:
        builder.add(Add(), builder.last, start)


def _add_layer(builder: Builder, width: int, kernel_size: int, function: str, *, stride: int = 1) -> None:
    """Add convolution, norm and activation."""
    builder.add_conv(width, kernel_size, stride=stride)
    builder.add(BatchNorm())
    builder.add(Activation(function))


def _add_squeeze_excite(builder: Builder, width: int) -> None:
    """Add a gate per channel (Hu et al., 2018, section 3)."""
    start, n_channels = builder.last, builder.spec.n_channels
    builder.add(AdaptivePool((1, 1)), stem="squeeze")
    builder.add(Conv(width, (1, 1)), stem="reduce")
    builder.add(Activation("relu"))
    builder.add(Conv(n_channels, (1, 1)), stem="expand")
    gate = builder.add(Activation("hardsigmoid"), stem="gate")
    builder.add(Multiply(), start, gate, stem="excite")
