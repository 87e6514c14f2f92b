"""Pooling over all positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from optuna_nas_morph.ir.ops.base import Layer, Op, Saved
from optuna_nas_morph.ir.tensor import TensorSpec


@dataclass(frozen=True)
class GlobalPool(Op):
    """Maximum or average over every axis but the channels; the output is a vector.

    Args:
        kind:
            ``"avg"`` or ``"max"``.
    """

    op_name: ClassVar[str] = "global_pool"

    kind: str = "avg"

    def __post_init__(self) -> None:
        self._check(self.kind in ("max", "avg"), f"kind must be 'max' or 'avg' but got {self.kind!r}.")

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        (x,) = inputs
        self._check(x.dtype == "float32" and len(x.shape) >= 2, f"needs float input with positions but got {x}.")
        return TensorSpec((x.n_channels,))

    def saved(self, inputs: Sequence[TensorSpec], need_grad: Sequence[bool]) -> Saved:
        return Saved(inputs=(0,), output=True) if self.kind == "max" else Saved()

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        return Layer("GlobalPool", {"kind": self.kind, "dims": _dims(inputs)})

    def nonnegative(self, inputs: Sequence[bool]) -> bool:
        return inputs[0]

    def label(self, inputs: Sequence[TensorSpec]) -> str:
        return f"global_{self.kind}pool"

    def expression(self, inputs: Sequence[TensorSpec], values: Sequence[str]) -> str | None:
        dims = _dims(inputs)
        return f"{values[0]}.{'mean' if self.kind == 'avg' else 'amax'}({dims if len(dims) > 1 else dims[0]})"


def _dims(inputs: Sequence[TensorSpec]) -> tuple[int, ...]:
    """Axes of a batch that are pooled over."""
    (x,) = inputs
    return tuple(1 + axis for axis in range(len(x.shape)) if axis != x.channel_axis)
