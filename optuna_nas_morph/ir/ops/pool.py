"""Pooling over sliding windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from optuna_nas_morph.ir.ops.base import Layer, Op, Saved
from optuna_nas_morph.ir.ops.window import Window, check_window, infer_window, store_defaults, window_text
from optuna_nas_morph.ir.tensor import TensorSpec


@dataclass(frozen=True)
class Pool(Op):
    """Maximum or average over windows; the length of ``kernel_size`` is the number of spatial dimensions.

    Args:
        kind:
            ``"max"`` or ``"avg"``.
        kernel_size:
            One entry per spatial dimension.
        stride:
            Likewise; empty means the kernel size, as in PyTorch.
        padding:
            Likewise; empty means 0 everywhere. At most half of the kernel size.
    """

    op_name: ClassVar[str] = "pool"

    kind: str
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self._check(self.kind in ("max", "avg"), f"kind must be 'max' or 'avg' but got {self.kind!r}.")
        self._check_sizes(kernel_size=self.kernel_size)
        store_defaults(self, stride=self.kernel_size, padding=(0,) * len(self.kernel_size))
        check_window(self, self.window)
        self._check(
            all(2 * p <= k for p, k in zip(self.window.padding, self.kernel_size, strict=True)),
            f"padding must be at most half of kernel_size {self.kernel_size} but got {self.padding}.",
        )

    @property
    def window(self) -> Window:
        """Geometry with every default filled in."""
        rank = len(self.kernel_size)
        return Window(self.kernel_size, self.stride or self.kernel_size, self.padding or (0,) * rank, (1,) * rank)

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        sizes = infer_window(self, self.window, inputs)
        # torch.nn.AvgPool3d alone refuses a window that is larger than its input, whatever the padding.
        fits = all(k <= n for k, n in zip(self.kernel_size, inputs[0].spatial, strict=True))
        self._check(
            fits or self.kind == "max" or len(self.kernel_size) < 3,
            f"an average over three axes needs a window no larger than its input {inputs[0]}, not {self.kernel_size}.",
        )
        return TensorSpec((inputs[0].n_channels, *sizes))

    def saved(self, inputs: Sequence[TensorSpec], need_grad: Sequence[bool]) -> Saved:
        return Saved(inputs=(0,), integers=self.infer(inputs).numel if self.kind == "max" else 0)

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        own_stride = {"stride": self.stride} if self.stride else {}
        return Layer(
            f"{'Max' if self.kind == 'max' else 'Avg'}Pool{len(self.kernel_size)}d",
            {"kernel_size": self.kernel_size, **own_stride, "padding": self.window.padding},
        )

    def nonnegative(self, inputs: Sequence[bool]) -> bool:
        return inputs[0]

    def label(self, inputs: Sequence[TensorSpec]) -> str:
        return f"{self.kind}pool{window_text(self.window)}"
