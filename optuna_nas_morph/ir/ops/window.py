"""Sliding windows: what convolutions and poolings share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optuna_nas_morph.ir.ops.base import Op
from optuna_nas_morph.ir.tensor import TensorSpec


@dataclass(frozen=True)
class Window:
    """Geometry of a sliding window over the spatial axes; every field has one entry per axis."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    def output_sizes(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Output sizes, as in the documentation of ``torch.nn.Conv2d``."""
        return tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(sizes, self.kernel_size, self.stride, self.padding, self.dilation, strict=True)
        )


def infer_window(op: Op, window: Window, inputs: Sequence[TensorSpec]) -> tuple[int, ...]:
    """Spatial sizes after a window, or an `ArchitectureError` that says what does not fit."""
    (x,) = inputs
    rank = len(window.kernel_size)
    op._check(x.dtype == "float32", f"needs float input but got {x}.")
    op._check(
        x.channel_axis == 0 and len(x.shape) == rank + 1,
        f"needs input of shape (channels, {rank} spatial sizes) but got {x} with channels on axis {x.channel_axis}.",
    )
    sizes = window.output_sizes(x.spatial)
    op._check(min(sizes) >= 1, f"kernel {window.kernel_size} does not fit into input {x}.")
    return sizes


def check_window(op: Op, window: Window) -> None:
    """Check the fields of a window when an operation is made."""
    rank = len(window.kernel_size)
    op._check(rank in (1, 2, 3), f"kernel_size must have 1, 2 or 3 entries but got {window.kernel_size!r}.")
    for name in ("stride", "padding", "dilation"):
        value = getattr(window, name)
        op._check(len(value) == rank, f"{name} must have {rank} entries, one per axis, but got {value!r}.")
    op._check_sizes(kernel_size=window.kernel_size, stride=window.stride, dilation=window.dilation)
    op._check(min(window.padding) >= 0, f"padding must be non-negative integers but got {window.padding!r}.")


def store_defaults(op: Op, **defaults: tuple[int, ...]) -> None:
    """Check that fields are tuples of integers and store their defaults as empty tuples: one spelling per window."""
    for name, default in defaults.items():
        value = getattr(op, name)
        op._check(
            isinstance(value, tuple) and all(type(v) is int for v in value),
            f"{name} must be a tuple of integers but got {value!r}.",
        )
        if value == default:
            object.__setattr__(op, name, ())


def expand(value: int | tuple[int, ...], rank: int) -> tuple[int, ...]:
    """One entry per axis."""
    return value if isinstance(value, tuple) else (value,) * rank


def times(sizes: Sequence[int]) -> str:
    """Sizes as in ``3x3``."""
    return "x".join(map(str, sizes))


def window_text(window: Window) -> str:
    """Kernel size, and stride and dilation where they are not 1: ``3x3/2``, ``3x3d2``."""
    text = times(window.kernel_size)
    if set(window.stride) != {1}:
        text += "/" + times(sorted(set(window.stride)))
    if set(window.dilation) != {1}:
        text += "d" + times(sorted(set(window.dilation)))
    return text
