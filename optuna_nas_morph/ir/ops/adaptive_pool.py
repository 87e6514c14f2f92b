"""Pooling to a given size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from optuna_nas_morph.ir.ops.base import Layer, Op, Saved
from optuna_nas_morph.ir.ops.window import times
from optuna_nas_morph.ir.tensor import TensorSpec


@dataclass(frozen=True)
class AdaptivePool(Op):
    """Maximum or average over windows chosen so that the output has the given spatial sizes.

    Args:
        output_size:
            One entry per spatial dimension.
        kind:
            ``"avg"`` or ``"max"``.
    """

    op_name: ClassVar[str] = "adaptive_pool"

    output_size: tuple[int, ...]
    kind: str = "avg"

    def __post_init__(self) -> None:
        self._check(self.kind in ("max", "avg"), f"kind must be 'max' or 'avg' but got {self.kind!r}.")
        self._check(
            isinstance(self.output_size, tuple) and len(self.output_size) in (1, 2, 3),
            f"output_size must be a tuple with 1, 2 or 3 entries but got {self.output_size!r}.",
        )
        self._check_sizes(output_size=self.output_size)

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        (x,) = inputs
        self._check(
            x.dtype == "float32" and x.channel_axis == 0 and len(x.shape) == len(self.output_size) + 1,
            f"needs input of shape (channels, {len(self.output_size)} spatial sizes) but got {x}.",
        )
        return TensorSpec((x.n_channels, *self.output_size))

    def saved(self, inputs: Sequence[TensorSpec], need_grad: Sequence[bool]) -> Saved:
        if self.kind == "max":
            return Saved(inputs=(0,), integers=self.infer(inputs).numel)
        return Saved() if set(self.output_size) == {1} else Saved(inputs=(0,))  # the first is a mean

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        name = f"Adaptive{'Max' if self.kind == 'max' else 'Avg'}Pool{len(self.output_size)}d"
        return Layer(name, {"output_size": self.output_size})

    def nonnegative(self, inputs: Sequence[bool]) -> bool:
        return inputs[0]

    def label(self, inputs: Sequence[TensorSpec]) -> str:
        return f"adaptive_{self.kind}pool{times(self.output_size)}"
