"""What flows along an edge of an architecture."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class TensorSpec:
    """Shape of one sample of a tensor, and which of its axes holds the channels.

    Args:
        shape:
            Sizes without the batch dimension: ``(C, H, W)``, ``(T, D)``, ``(D,)``.
        channel_axis:
            Axis of ``shape`` that holds the channels: 0 for images and vectors, the last one for tokens.
        dtype:
            ``"float32"``, or ``"int64"`` for token ids, which have no channels until they are embedded.
    """

    shape: tuple[int, ...]
    channel_axis: int = 0
    dtype: str = "float32"

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return self.shape[self.channel_axis]

    @property
    def spatial(self) -> tuple[int, ...]:
        """Sizes of all other axes, in order."""
        return self.shape[: self.channel_axis] + self.shape[self.channel_axis + 1 :]

    @property
    def numel(self) -> int:
        """Elements in one sample."""
        return math.prod(self.shape)

    @property
    def channels_last(self) -> bool:
        """Whether the last axis holds the channels, as a linear layer needs."""
        return self.channel_axis == len(self.shape) - 1

    def with_channels(self, n_channels: int) -> TensorSpec:
        """The same tensor with another number of channels."""
        shape = (*self.shape[: self.channel_axis], n_channels, *self.shape[self.channel_axis + 1 :])
        return TensorSpec(shape, self.channel_axis, self.dtype)

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape))} {self.dtype}"
