"""Depthwise convolution: every channel has filters of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from optuna_nas_morph.ir.ops.base import Init, Layer, Op, Param, Saved
from optuna_nas_morph.ir.ops.window import Window, check_window, expand, infer_window, store_defaults, window_text
from optuna_nas_morph.ir.tensor import TensorSpec

if TYPE_CHECKING:
    from optuna_nas_morph.ir.channels import Channels, GroupBuilder


@dataclass(frozen=True)
class DepthwiseConv(Op):
    """Convolution with as many groups as input channels; its width follows from its input.

    Args:
        kernel_size:
            One entry per spatial dimension.
        stride:
            Likewise; empty means 1 everywhere.
        padding:
            Zero padding on both sides, likewise; empty means 0 everywhere.
        dilation:
            Likewise; empty means 1 everywhere.
        multiplier:
            Output channels per input channel.
        bias:
            Whether a bias is added.
    """

    op_name: ClassVar[str] = "depthwise_conv"

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    multiplier: int = 1
    bias: bool = True

    def __post_init__(self) -> None:
        self._check_sizes(kernel_size=self.kernel_size)
        rank = len(self.kernel_size)
        store_defaults(self, stride=(1,) * rank, padding=(0,) * rank, dilation=(1,) * rank)
        check_window(self, self.window)
        self._check_positive(multiplier=self.multiplier)
        self._check_flag(bias=self.bias)

    @classmethod
    def same(
        cls, rank: int, kernel_size: int | tuple[int, ...], *, stride: int | tuple[int, ...] = 1, bias: bool = True
    ) -> DepthwiseConv:
        """A depthwise convolution of odd kernel size whose padding keeps the spatial size (up to the stride)."""
        kernel = expand(kernel_size, rank)
        return cls(kernel, expand(stride, rank), tuple((k - 1) // 2 for k in kernel), bias=bias)

    @property
    def window(self) -> Window:
        """Geometry with every default filled in."""
        rank = len(self.kernel_size)
        return Window(
            self.kernel_size, self.stride or (1,) * rank, self.padding or (0,) * rank, self.dilation or (1,) * rank
        )

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        sizes = infer_window(self, self.window, inputs)
        return TensorSpec((inputs[0].n_channels * self.multiplier, *sizes))

    def params(self, inputs: Sequence[TensorSpec]) -> Mapping[str, Param]:
        n_out = inputs[0].n_channels * self.multiplier
        init = Init.fan_in(math.prod(self.kernel_size))
        free = (None,) * len(self.kernel_size)
        params = {"weight": Param((n_out, 1, *self.kernel_size), ("out", None, *free), init)}
        if self.bias:
            params["bias"] = Param((n_out,), ("out",), init)
        return params

    def flops(self, inputs: Sequence[TensorSpec]) -> int:
        return 2 * self.infer(inputs).numel * math.prod(self.kernel_size)

    def saved(self, inputs: Sequence[TensorSpec], need_grad: Sequence[bool]) -> Saved:
        return Saved(inputs=(0,))

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        w, n_in = self.window, inputs[0].n_channels
        return Layer(
            f"Conv{len(self.kernel_size)}d",
            {
                "in_channels": n_in,
                "out_channels": n_in * self.multiplier,
                "kernel_size": w.kernel_size,
                "stride": w.stride,
                "padding": w.padding,
                "dilation": w.dilation,
                "groups": n_in,
                "bias": self.bias,
            },
        )

    def channels(self, inputs: Sequence[Channels], specs: Sequence[TensorSpec], groups: GroupBuilder) -> Channels:
        return tuple(ref.repeated(self.multiplier) for ref in inputs[0])

    def label(self, inputs: Sequence[TensorSpec]) -> str:
        return f"depthwise{window_text(self.window)}"
