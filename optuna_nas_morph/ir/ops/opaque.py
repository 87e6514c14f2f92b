"""A part of a user's network that no other operation describes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from optuna_nas_morph.ir.ops.base import Init, Layer, Op, Param, Saved
from optuna_nas_morph.ir.tensor import TensorSpec

if TYPE_CHECKING:
    from optuna_nas_morph.ir.channels import Channels, GroupBuilder

OpaqueTensor = tuple[str, tuple[int, ...], str, bool]
"""Name in the state dict of the part, shape, dtype, and whether it is trained."""

_KIND = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]*")
_DIGEST = re.compile(r"[0-9a-f]{32}")
_DTYPES = ("float32", "int64", "bool")


@dataclass(frozen=True)
class Opaque(Op):
    """A part of a user's network that stays as it is: nothing morphs through it, and its widths do not change.

    What it computes is in a live ``nn.Module``, which is neither compared nor serialised: two are equal where the
    digest of their structure is. An architecture that was read from JSON can be compared, drawn and counted, but not
    built.

    Args:
        kind:
            What it is, for people: ``"LSTM"``, ``"interpolate"``.
        input_shapes:
            Shapes of the samples that enter.
        shape:
            Shape of the sample that leaves.
        digest:
            Hash of its structure: 32 hexadecimal digits.
        channel_axis:
            Axis of ``shape`` that holds the channels.
        dtype:
            ``"float32"`` or ``"int64"``.
        tensors:
            Name, shape, dtype (``"float32"``, ``"int64"``, ``"bool"``) and whether it is trained, for every parameter
            and buffer. Of a parameter with several names the first is trained.
        n_flops:
            Floating point operations of its matrix products for one sample, as they were measured.
        module:
            The live ``nn.Module``, not to be changed; every network has a copy. :obj:`None` where only the description
            is known.
    """

    op_name: ClassVar[str] = "opaque"
    max_inputs: ClassVar[int | None] = None

    kind: str
    input_shapes: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]
    digest: str
    channel_axis: int = 0
    dtype: str = "float32"
    tensors: tuple[OpaqueTensor, ...] = ()
    n_flops: int = 0
    module: Any = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        self._check(
            isinstance(self.kind, str) and _KIND.fullmatch(self.kind) is not None,
            f"kind must be letters, digits, '.', '-' and underscores, starting with a letter, but got {self.kind!r}.",
        )
        self._check(
            isinstance(self.input_shapes, tuple) and len(self.input_shapes) > 0,
            f"input_shapes must be a non-empty tuple of shapes but got {self.input_shapes!r}.",
        )
        for shape in self.input_shapes:
            self._check_sizes(input_shapes=shape)
        self._check_sizes(shape=self.shape)
        self._check(
            isinstance(self.digest, str) and _DIGEST.fullmatch(self.digest) is not None,
            f"digest must be 32 lower-case hexadecimal digits but got {self.digest!r}.",
        )
        self._check(
            type(self.channel_axis) is int and 0 <= self.channel_axis < max(1, len(self.shape)),
            f"channel_axis must be an axis of shape {self.shape} but got {self.channel_axis!r}.",
        )
        self._check(self.dtype in _DTYPES[:2], f"dtype must be one of {_DTYPES[:2]} but got {self.dtype!r}.")
        self._check(
            isinstance(self.tensors, tuple) and all(map(_is_tensor, self.tensors)),
            f"tensors must be a tuple of names, shapes, dtypes and flags but got {self.tensors!r}.",
        )
        self._check(
            type(self.n_flops) is int and self.n_flops >= 0,
            f"n_flops must be a non-negative integer but got {self.n_flops!r}.",
        )
        self._check(
            self.module is None or callable(getattr(self.module, "state_dict", None)),
            f"module must be an nn.Module or None but got {self.module!r}.",
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Opaque:
        return self  # a value, its module too: a copy of a network need not copy the weights that it started from

    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        found = tuple(x.shape for x in inputs)
        self._check(found == self.input_shapes, f"needs inputs of shapes {self.input_shapes} but got {found}.")
        return TensorSpec(self.shape, self.channel_axis, self.dtype)

    def params(self, inputs: Sequence[TensorSpec]) -> Mapping[str, Param]:
        return {
            name: Param(shape, (None,) * len(shape), _init(shape, dtype, trained), not trained, dtype)
            for name, shape, dtype, trained in self.tensors
        }

    def flops(self, inputs: Sequence[TensorSpec]) -> int:
        return self.n_flops

    def saved(self, inputs: Sequence[TensorSpec], need_grad: Sequence[bool]) -> Saved:
        # What it saves of its own nobody knows; what it takes and gives is the least.
        return Saved(inputs=tuple(range(len(inputs))), output=True)

    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        self._check(
            self.module is not None,
            f"the module that computes this {self.kind} is not at hand: use the space that MorphSpace.from_module "
            "returned.",
        )
        return Layer("Opaque", {"module": self.module})

    def channels(self, inputs: Sequence[Channels], specs: Sequence[TensorSpec], groups: GroupBuilder) -> Channels:
        output = groups.new(self.shape[self.channel_axis])
        for channels in (*inputs, output):
            groups.block(channels, f"opaque {self.kind}")
        return output

    def label(self, inputs: Sequence[TensorSpec]) -> str:
        return self.kind


def _is_tensor(value: object) -> bool:
    if not isinstance(value, tuple) or len(value) != 4:
        return False
    name, shape, dtype, trained = value
    return (
        isinstance(name, str)
        and name != ""
        and isinstance(shape, tuple)
        and all(type(size) is int and size >= 0 for size in shape)
        and dtype in _DTYPES
        and type(trained) is bool
    )


def _init(shape: tuple[int, ...], dtype: str, trained: bool) -> Init:
    """For networks without the user's weights, as to measure how long one takes; no variance is negative."""
    if trained:
        return Init.fan_in(max(1, math.prod(shape[1:])))
    return Init("constant", 1.0 if dtype == "float32" else 0.0)
