"""Convolution in one, two or three dimensions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from optuna_nas_morph.ir.ops.base import Init, Layer, Op, Param, Saved, width_bucket
from optuna_nas_morph.ir.ops.window import Window, check_window, expand, infer_window, store_defaults, window_text
from optuna_nas_morph.ir.tensor import TensorSpec

if TYPE_CHECKING:
    from optuna_nas_morph.ir.channels import Channels, GroupBuilder


@dataclass(frozen=True)
class Conv(Op):
    """Convolution; the length of ``kernel_size`` is the number of spatial dimensions.

    Args:
        out_channels:
            Width of the output.
        kernel_size:
            One entry per spatial dimension.
        stride:
            Likewise; empty means 1 everywhere.
        padding:
            Zero padding on both sides, likewise; empty means 0 everywhere.
        dilation:
            Likewise; empty means 1 everywhere.
        groups:
            Groups that input and output channels are split into. A depthwise convolution is a `DepthwiseConv`.
        bias:
            Whether a bias is added.
    """

    op_name: ClassVar[str] = "conv"
    width_field: ClassVar[str | None] = "out_channels"

    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    bias: bool = True

    def __post_init__(self) -> None:
        self._check_sizes(kernel_size=self.kernel_size)
        rank = len(self.kernel_size)
        store_defaults(self, stride=(1,) * rank, padding=(0,) * rank, dilation=(1,) * rank)
        check_window(self, self.window)
        self._check_positive(out_channels=self.out_channels, groups=self.groups)
        self._check_flag(bias=self.bias)
        self._check(
            self.out_channels % self.groups == 0,
            f"out_channels must be a multiple of groups={self.groups} but got {self.out_channels}.",
        )

    @classmethod
    def same(
        cls,
        rank: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        *,
        stride: int | tuple[int, ...] = 1,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> Conv:
        """A convolution of odd kernel size whose padding keeps the spatial size (up to the stride)."""
        kernel, dilations = expand(kernel_size, rank), expand(dilation, rank)
        padding = tuple(d * (k - 1) // 2 for k, d in zip(kernel, dilations, strict=True))
        return cls(out_channels, kernel, expand(stride, rank), padding, dilations, groups, bias)

    @property
    def window(self) -> Window:
        """Geometry with every default filled in."""
        rank = len(self.kernel_size)
        return Window(
            self.kernel_size, self.stride or (1,) * rank, self.padding or (0,) * rank, self.dilation or (1,) * rank
        )

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        sizes = infer_window(self, self.window, inputs)
        n_in = inputs[0].n_channels
        self._check(n_in % self.groups == 0, f"input channels must be a multiple of groups={self.groups}, got {n_in}.")
        self._check(
            self.groups == 1 or self.groups < n_in,
            f"groups={self.groups} equals the input channels: use depthwise_conv.",
        )
        return TensorSpec((self.out_channels, *sizes))

    def params(self, inputs: Sequence[TensorSpec]) -> Mapping[str, Param]:
        n_in = inputs[0].n_channels // self.groups
        free = (None,) * len(self.kernel_size)
        init = Init.fan_in(n_in * math.prod(self.kernel_size))
        # A grouped weight has no axis that runs over all input channels.
        params = {
            "weight": Param(
                (self.out_channels, n_in, *self.kernel_size), ("out", "in" if self.groups == 1 else None, *free), init
            )
        }
        if self.bias:
            params["bias"] = Param((self.out_channels,), ("out",), init)
        return params

    def flops(self, inputs: Sequence[TensorSpec]) -> int:
        n_in = inputs[0].n_channels // self.groups
        return 2 * self.infer(inputs).numel * n_in * math.prod(self.kernel_size)

    def saved(self, inputs: Sequence[TensorSpec], need_grad: Sequence[bool]) -> Saved:
        return Saved(inputs=(0,))

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        w = self.window
        return Layer(
            f"Conv{len(self.kernel_size)}d",
            {
                "in_channels": inputs[0].n_channels,
                "out_channels": self.out_channels,
                "kernel_size": w.kernel_size,
                "stride": w.stride,
                "padding": w.padding,
                "dilation": w.dilation,
                "groups": self.groups,
                "bias": self.bias,
            },
        )

    def channels(self, inputs: Sequence[Channels], specs: Sequence[TensorSpec], groups: GroupBuilder) -> Channels:
        new = groups.new(self.out_channels)
        if self.groups > 1:
            groups.block(inputs[0], "grouped convolution")
            groups.block(new, "grouped convolution")
        return new

    def label(self, inputs: Sequence[TensorSpec]) -> str:
        grouped = f"g{self.groups}" if self.groups > 1 else ""
        return f"conv{window_text(self.window)}{grouped}.{width_bucket(self.out_channels)}"
