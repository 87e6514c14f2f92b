"""Concatenation along the channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, ClassVar

from optuna_nas_morph.ir.ops.base import Layer, Op
from optuna_nas_morph.ir.tensor import TensorSpec

if TYPE_CHECKING:
    from optuna_nas_morph.ir.channels import Channels, GroupBuilder


@dataclass(frozen=True)
class Concat(Op):
    """Two or more tensors side by side along the channel axis, in the order of the inputs."""

    op_name: ClassVar[str] = "concat"
    min_inputs: ClassVar[int] = 2
    max_inputs: ClassVar[int | None] = None

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        first = inputs[0]
        self._check(first.dtype == "float32", f"needs float input but got {first}.")
        for other in inputs[1:]:
            self._check(
                other == first.with_channels(other.n_channels)
                if len(other.shape) == len(first.shape) and other.channel_axis == first.channel_axis
                else False,
                f"inputs must agree on every axis but the channels, got {first} and {other}.",
            )
        return first.with_channels(sum(x.n_channels for x in inputs))

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        return Layer("Concat", {"dim": 1 + inputs[0].channel_axis})

    def channels(self, inputs: Sequence[Channels], specs: Sequence[TensorSpec], groups: GroupBuilder) -> Channels:
        return tuple(chain.from_iterable(inputs))

    def nonnegative(self, inputs: Sequence[bool]) -> bool:
        return all(inputs)

    def expression(self, inputs: Sequence[TensorSpec], values: Sequence[str]) -> str | None:
        return f"torch.cat(({', '.join(values)}), dim={1 + inputs[0].channel_axis})"
