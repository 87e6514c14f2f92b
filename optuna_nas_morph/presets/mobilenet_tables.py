"""MobileNets as their papers print them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class InvertedResidual:
    """One row of a table: a 1x1 convolution that expands, a depthwise convolution, one that projects.

    Args:
        kernel_size:
            Odd size of the depthwise convolution.
        inner:
            Channels of the depthwise convolution; where as many enter, nothing expands.
        width:
            Channels of the output. The input is added where it has as many and the stride is 1.
        squeeze:
            Channels between the two layers of the squeeze-and-excitation; :obj:`None` for none.
        function:
            Name of the activation.
        stride:
            Stride of the depthwise convolution, 1 or 2.
    """

    kernel_size: int
    inner: int
    width: int
    squeeze: int | None
    function: str
    stride: int


@dataclass(frozen=True)
class MobileNetTable:
    """A network of inverted residuals.

    Args:
        stem:
            Channels of the first convolution, 3x3 with stride 2.
        function:
            Name of the activation behind the first and last convolution and the hidden layer.
        blocks:
            What is between them.
        last:
            Channels of the last convolution, 1x1.
        hidden:
            Width of a hidden layer behind the global average pooling; :obj:`None` for none.
    """

    stem: int
    function: str
    blocks: tuple[InvertedResidual, ...]
    last: int
    hidden: int | None = None


def _repeated(stem: int, stages: tuple[tuple[int, int, int, int], ...]) -> Iterator[InvertedResidual]:
    """Blocks from rows of expansion, width, number of blocks and stride of the first."""
    widths = [stem, *(width for _, width, n, _ in stages for _ in range(n))]
    rows = [(t, stride if i == 0 else 1) for t, _, n, stride in stages for i in range(n)]
    for (n_inputs, width), (t, stride) in zip(pairwise(widths), rows, strict=True):
        yield InvertedResidual(3, t * n_inputs, width, None, "relu6", stride)


MOBILENET_V2 = MobileNetTable(
    32,
    "relu6",
    tuple(
        _repeated(
            32,
            (
                (1, 16, 1, 1),
                (6, 24, 2, 2),
                (6, 32, 3, 2),
                (6, 64, 4, 2),
                (6, 96, 3, 1),
                (6, 160, 3, 2),
                (6, 320, 1, 1),
            ),
        )
    ),
    1280,
)
"""Sandler et al., 2018, table 2."""

MOBILENET_V3_LARGE = MobileNetTable(
    16,
    "hardswish",
    (
        InvertedResidual(3, 16, 16, None, "relu", 1),
        InvertedResidual(3, 64, 24, None, "relu", 2),
        InvertedResidual(3, 72, 24, None, "relu", 1),
        InvertedResidual(5, 72, 40, 24, "relu", 2),
        InvertedResidual(5, 120, 40, 32, "relu", 1),
        InvertedResidual(5, 120, 40, 32, "relu", 1),
        InvertedResidual(3, 240, 80, None, "hardswish", 2),
        InvertedResidual(3, 200, 80, None, "hardswish", 1),
        InvertedResidual(3, 184, 80, None, "hardswish", 1),
        InvertedResidual(3, 184, 80, None, "hardswish", 1),
        InvertedResidual(3, 480, 112, 120, "hardswish", 1),
        InvertedResidual(3, 672, 112, 168, "hardswish", 1),
        InvertedResidual(5, 672, 160, 168, "hardswish", 2),
        InvertedResidual(5, 960, 160, 240, "hardswish", 1),
        InvertedResidual(5, 960, 160, 240, "hardswish", 1),
    ),
    960,
    1280,
)
"""Howard et al., 2019, table 1; between the layers of a gate a quarter of the channels, in steps of 8 (torchvision)."""

MOBILENET_V3_SMALL = MobileNetTable(
    16,
    "hardswish",
    (
        InvertedResidual(3, 16, 16, 8, "relu", 2),
        InvertedResidual(3, 72, 24, None, "relu", 2),
        InvertedResidual(3, 88, 24, None, "relu", 1),
        InvertedResidual(5, 96, 40, 24, "hardswish", 2),
        InvertedResidual(5, 240, 40, 64, "hardswish", 1),
        InvertedResidual(5, 240, 40, 64, "hardswish", 1),
        InvertedResidual(5, 120, 48, 32, "hardswish", 1),
        InvertedResidual(5, 144, 48, 40, "hardswish", 1),
        InvertedResidual(5, 288, 96, 72, "hardswish", 2),
        InvertedResidual(5, 576, 96, 144, "hardswish", 1),
        InvertedResidual(5, 576, 96, 144, "hardswish", 1),
    ),
    576,
    1024,
)
"""Howard et al., 2019, table 2; otherwise as the large one."""
