"""Embedding of image patches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from optuna_nas_morph.ir.ops.base import Init, Layer, Op, Param, Saved, width_bucket
from optuna_nas_morph.ir.ops.window import times
from optuna_nas_morph.ir.tensor import TensorSpec

if TYPE_CHECKING:
    from optuna_nas_morph.ir.channels import Channels, GroupBuilder


@dataclass(frozen=True)
class PatchEmbedding(Op):
    """Cuts a series, image or volume into patches and embeds each linearly: ``(C, *sizes)`` to ``(patches, features)``.

    Args:
        features:
            Width of a token.
        patch_size:
            One entry per spatial dimension; each must divide the input's size.
    """

    op_name: ClassVar[str] = "patch_embedding"
    width_field: ClassVar[str | None] = "features"

    features: int
    patch_size: tuple[int, ...]

    def __post_init__(self) -> None:
        self._check(
            isinstance(self.patch_size, tuple) and len(self.patch_size) in (1, 2, 3),
            f"patch_size must be a tuple with 1, 2 or 3 entries but got {self.patch_size!r}.",
        )
        self._check_positive(features=self.features)
        self._check_sizes(patch_size=self.patch_size)

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        (x,) = inputs
        self._check(
            x.dtype == "float32" and x.channel_axis == 0 and len(x.shape) == len(self.patch_size) + 1,
            f"needs input of shape (channels, {len(self.patch_size)} spatial sizes) but got {x}.",
        )
        self._check(
            all(n % p == 0 for n, p in zip(x.spatial, self.patch_size, strict=True)),
            f"patch_size {self.patch_size} must divide the input's sizes {x.spatial}.",
        )
        n_patches = math.prod(n // p for n, p in zip(x.spatial, self.patch_size, strict=True))
        return TensorSpec((n_patches, self.features), channel_axis=1)

    def params(self, inputs: Sequence[TensorSpec]) -> Mapping[str, Param]:
        free = (None,) * len(self.patch_size)
        init = Init.fan_in(inputs[0].n_channels * math.prod(self.patch_size))
        return {
            "weight": Param((self.features, inputs[0].n_channels, *self.patch_size), ("out", "in", *free), init),
            "bias": Param((self.features,), ("out",), init),
        }

    def flops(self, inputs: Sequence[TensorSpec]) -> int:
        return 2 * inputs[0].numel * self.features

    def saved(self, inputs: Sequence[TensorSpec], need_grad: Sequence[bool]) -> Saved:
        return Saved(inputs=(0,))

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        return Layer(
            f"PatchEmbedding{len(self.patch_size)}d",
            {
                "in_channels": inputs[0].n_channels,
                "out_channels": self.features,
                "kernel_size": self.patch_size,
                "stride": self.patch_size,
            },
        )

    def channels(self, inputs: Sequence[Channels], specs: Sequence[TensorSpec], groups: GroupBuilder) -> Channels:
        return groups.new(self.features)

    def label(self, inputs: Sequence[TensorSpec]) -> str:
        return f"patch{times(self.patch_size)}.{width_bucket(self.features)}"
