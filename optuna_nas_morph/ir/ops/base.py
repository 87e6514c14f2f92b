"""The interface of an operation.

An operation is a frozen dataclass: its fields are what an architecture chooses (a width, a kernel size), everything
else follows from the tensors that enter it. Nothing here needs PyTorch; `Layer` only names what to build.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.ir.tensor import TensorSpec

if TYPE_CHECKING:
    from optuna_nas_morph.ir.channels import Channels, GroupBuilder

AxisRole = Literal["out", "in"] | None

OPS: dict[str, type[Op]] = {}
"""Every operation by its serialised name."""


@dataclass(frozen=True)
class Init:
    """How fresh entries are drawn; for every layer the distribution that PyTorch itself uses.

    Args:
        kind:
            ``"constant"``, ``"uniform"`` on ``[-scale, scale]``, or ``"normal"`` with standard deviation ``scale``.
        scale:
            Value, bound or standard deviation.
    """

    kind: Literal["constant", "uniform", "normal"]
    scale: float

    @staticmethod
    def fan_in(n_inputs: int) -> Init:
        """PyTorch's default for linear and convolutional weights and biases: U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
        return Init("uniform", 1 / math.sqrt(n_inputs))


@dataclass(frozen=True)
class Param:
    """One parameter or buffer of an operation.

    Args:
        shape:
            Its shape.
        axes:
            Per axis: ``"out"`` if it runs over the channels of the operation's output, ``"in"`` if it runs over those
            of its input, otherwise :obj:`None`.
        init:
            How fresh entries are drawn.
        buffer:
            Whether it is a buffer (running statistics) rather than a trained parameter.
        dtype:
            ``"float32"``, ``"int64"`` (counters) or ``"bool"`` (masks).
    """

    shape: tuple[int, ...]
    axes: tuple[AxisRole, ...]
    init: Init
    buffer: bool = False
    dtype: str = "float32"


@dataclass(frozen=True)
class Layer:
    """What to build in PyTorch: a class of ``torch.nn`` (or of `optuna_nas_morph.nets`) and its arguments."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Saved:
    """What PyTorch's autograd saves of an operation for the backward pass, besides parameters and buffers.

    Args:
        inputs:
            Positions of the inputs that are saved.
        output:
            Whether the output is saved.
        floats:
            Further floating point numbers per sample (masks, intermediate results).
        integers:
            Further integers of 8 bytes per sample.
        constants:
            Further floating point numbers per batch (statistics).
        is_view:
            Whether the output is no memory of its own but that of the first input.
    """

    inputs: tuple[int, ...] = ()
    output: bool = False
    floats: int = 0
    integers: int = 0
    constants: int = 0
    is_view: bool = False


@dataclass(frozen=True)
class Op(ABC):
    """One operation. Subclasses are frozen dataclasses with JSON-able fields.

    A subclass that sets ``op_name`` is registered under that name, which is part of the serialised format.
    """

    op_name: ClassVar[str]
    min_inputs: ClassVar[int] = 1
    max_inputs: ClassVar[int | None] = 1
    commutative: ClassVar[bool] = False
    """Whether the order of the inputs has no meaning."""
    folds: ClassVar[bool] = False
    """Whether a graph kernel sees it as part of the operation before it (norms, activations)."""
    width_field: ClassVar[str | None] = None
    """Field that holds the number of output channels, for operations that choose it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "op_name" in cls.__dict__:
            OPS[cls.op_name] = cls

    # What every operation says.

    @abstractmethod
    def infer(self, inputs: Sequence[TensorSpec]) -> TensorSpec:
        """Output for the given inputs.

        Raises:
            ArchitectureError: If the inputs do not fit.
        """

    @abstractmethod
    def layer(self, inputs: Sequence[TensorSpec]) -> Layer:
        """The PyTorch layer that computes it."""

    # What most operations leave at the default.

    def params(self, inputs: Sequence[TensorSpec]) -> Mapping[str, Param]:
        """Parameters and buffers by name, as in the state dict of `layer`."""
        return {}

    def flops(self, inputs: Sequence[TensorSpec]) -> int:
        """Floating point operations per sample of its matrix products, as ``torch.utils.flop_counter`` counts them."""
        return 0

    def saved(self, inputs: Sequence[TensorSpec], need_grad: Sequence[bool]) -> Saved:
        """What training in eager mode on the CPU saves for the backward pass; by default nothing.

        Args:
            inputs:
                What enters.
            need_grad:
                Whether a gradient flows back to each input; where it does not and there is nothing to train in the
                operation, nothing is saved and nobody asks.
        """
        return Saved()

    def channels(self, inputs: Sequence[Channels], specs: Sequence[TensorSpec], groups: GroupBuilder) -> Channels:
        """Channels of the output; by default those of the inputs, tied to each other (norms, activations, sums)."""
        first = inputs[0]
        for other in inputs[1:]:
            groups.tie(first, other)
        return first

    def nonnegative(self, inputs: Sequence[bool]) -> bool:
        """Whether the output is never negative, given whether each input never is."""
        return False

    def label(self, inputs: Sequence[TensorSpec]) -> str:
        """What a graph kernel sees: the kind of operation with its main setting and a coarse width."""
        return self.op_name

    def expression(self, inputs: Sequence[TensorSpec], values: Sequence[str]) -> str | None:
        """Python that computes it without a module, for exported source; :obj:`None` if people would write a module.

        Where there is none, exported source builds `layer`, and takes the code of a layer that ``torch.nn`` does not
        have from `optuna_nas_morph.nets`.

        Args:
            inputs:
                What enters.
            values:
                Names of the variables that hold it, or calls; ``torch`` and ``F`` are at hand.
        """
        return None

    def with_width(self, width: int) -> Op:
        """The same operation with another number of output channels; itself if that follows from its inputs."""
        return self if self.width_field is None else replace(self, **{self.width_field: width})

    # Identity and JSON.

    def to_dict(self) -> dict[str, Any]:
        """The operation's name and the fields that differ from their defaults."""
        result: dict[str, Any] = {"op": self.op_name}
        for f in (f for f in fields(self) if f.compare):
            value = getattr(self, f.name)
            if f.default is MISSING or value != f.default:
                result[f.name] = value
        return result

    @cached_property
    def key(self) -> str:
        """Canonical text: equal exactly for equal operations."""
        return json.dumps(self.to_dict(), separators=(",", ":"))

    def _check(self, condition: bool, message: str) -> None:
        """Raise an `ArchitectureError` that names the operation unless the condition holds."""
        if not condition:
            raise ArchitectureError(f"{self.op_name}: {message}")

    def _check_positive(self, **values: int) -> None:
        for name, value in values.items():
            self._check(type(value) is int and value >= 1, f"{name} must be a positive integer but got {value!r}.")

    def _check_sizes(self, **values: tuple[int, ...]) -> None:
        for name, value in values.items():
            self._check(
                isinstance(value, tuple) and all(type(size) is int and size >= 1 for size in value),
                f"{name} must be a tuple of positive integers but got {value!r}.",
            )

    def _check_flag(self, **values: bool) -> None:
        for name, value in values.items():
            self._check(type(value) is bool, f"{name} must be True or False but got {value!r}.")

    def _store_float(self, *names: str) -> None:
        """Check that fields are finite numbers and store them as float: one spelling, hence one `key`, per value."""
        for name in names:
            value = getattr(self, name)
            self._check(
                type(value) in (int, float) and math.isfinite(value),
                f"{name} must be a finite number but got {value!r}.",
            )
            object.__setattr__(self, name, float(value) + 0.0)  # -0.0 + 0.0 == 0.0


def op_from_dict(data: Mapping[str, Any]) -> Op:
    """Inverse of `Op.to_dict`.

    Raises:
        ArchitectureError: If the operation or one of its fields is unknown or has a value that is not allowed.
    """
    name = data.get("op")
    if not isinstance(name, str) or name not in OPS:
        raise ArchitectureError(f"op must be one of {sorted(OPS)} but got {name!r}.")
    values = {k: _tuples(v) for k, v in data.items() if k != "op"}
    known = {f.name for f in fields(OPS[name]) if f.compare}
    if unknown := sorted(values.keys() - known):
        raise ArchitectureError(f"{name}: unknown fields {unknown}; it has {sorted(known)}.")
    try:
        return OPS[name](**values)
    except TypeError as e:
        raise ArchitectureError(f"{name}: {e}") from e


def _tuples(value: Any) -> Any:
    """A value of JSON's with tuples for lists."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def width_bucket(n_channels: int) -> str:
    """Width in powers of two, so that near-equal widths share a label."""
    return f"w{max(0, n_channels.bit_length() - 1)}"
