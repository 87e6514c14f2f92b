"""An input of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from optuna_nas_morph.ir.ops.base import Layer, Op
from optuna_nas_morph.ir.tensor import TensorSpec

if TYPE_CHECKING:
    from optuna_nas_morph.ir.channels import Channels, GroupBuilder


@dataclass(frozen=True)
class Input(Op):
    """An input; a network's inputs are passed in the order of their nodes.

    Args:
        shape:
            Shape of one sample, without the batch dimension.
        channel_axis:
            Axis of ``shape`` that holds the channels.
        dtype:
            ``"float32"``, or ``"int64"`` for token ids.
    """

    op_name: ClassVar[str] = "input"
    min_inputs: ClassVar[int] = 0
    max_inputs: ClassVar[int | None] = 0

    shape: tuple[int, ...]
    channel_axis: int = 0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        self._check(
            isinstance(self.shape, tuple) and len(self.shape) >= 1,
            f"shape must be a non-empty tuple of sizes without the batch dimension but got {self.shape!r}.",
        )
        self._check_sizes(shape=self.shape)
        self._check(
            type(self.channel_axis) is int and 0 <= self.channel_axis < len(self.shape),
            f"channel_axis must be an axis of shape {self.shape} but got {self.channel_axis!r}.",
        )
        self._check(self.dtype in ("float32", "int64"), f"dtype must be 'float32' or 'int64' but got {self.dtype!r}.")

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        return TensorSpec(self.shape, self.channel_axis, self.dtype)

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        return Layer("Identity")

    def channels(self, inputs: Sequence[Channels], specs: Sequence[TensorSpec], groups: GroupBuilder) -> Channels:
        new = groups.new(self.shape[self.channel_axis])
        groups.block(new, "network input")
        return new
