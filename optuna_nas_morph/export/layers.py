"""One node in exported source: the class that is called, with which arguments, or the expression that is written."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any

from torch import nn

from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.export.library import own_classes
from optuna_nas_morph.ir import Architecture, Node, TensorSpec

_PER_AXIS = frozenset({"kernel_size", "stride", "padding", "dilation", "output_size"})
"""Arguments for which PyTorch takes one number for all axes."""
_VALUES = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class Layer:
    """A node as it is written.

    Args:
        node:
            The node.
        inputs:
            What enters it.
        output:
            What leaves it.
    """

    node: Node
    inputs: tuple[TensorSpec, ...]
    output: TensorSpec

    @cached_property
    def class_name(self) -> str:
        """Name of the class, in ``torch.nn`` or else in `optuna_nas_morph.nets`."""
        return self.node.op.layer(self.inputs).name

    @cached_property
    def arguments(self) -> Mapping[str, Any]:
        """What the class is called with; one number where it is the same for all axes."""
        result = {}
        for name, value in self.node.op.layer(self.inputs).arguments.items():
            if name in _PER_AXIS and isinstance(value, tuple) and len(set(value)) == 1:
                value = value[0]
            if not all(isinstance(v, _VALUES) for v in (value if isinstance(value, tuple) else (value,))):
                raise ArchitectureError(f"node {self.node.name!r}: {name}={value!r} cannot be written as Python.")
            result[name] = value
        return result

    def expression(self, values: Sequence[str]) -> str | None:
        """See `Op.expression`."""
        return self.node.op.expression(self.inputs, values)

    @cached_property
    def is_module(self) -> bool:
        """Whether it can stand in an ``nn.Sequential``."""
        return len(self.inputs) == 1 and (self._is_torch or self.expression(["x"]) is None)

    def stands_alone(self, *, behind_merge: bool) -> bool:
        """Whether it is a line of its own in ``forward`` rather than one of several layers in a run.

        An activation is, if it comes behind a merge: ``F.relu(x + y)``.
        """
        is_function = self.node.op.folds and self.inputs == (self.output,) and self.expression(["x"]) is not None
        return not self.is_module or (behind_merge and is_function)

    @cached_property
    def has_weights(self) -> bool:
        """Whether it has parameters or buffers."""
        return bool(self.node.op.params(self.inputs))

    @cached_property
    def _is_torch(self) -> bool:
        return self.class_name not in own_classes() and hasattr(nn, self.class_name)

    @cached_property
    def _class(self) -> type[nn.Module]:
        cls = own_classes().get(self.class_name) or getattr(nn, self.class_name, None)
        if cls is None:
            raise ArchitectureError(
                f"node {self.node.name!r}: {self.node.op.op_name} cannot be exported, since neither torch.nn nor "
                f"optuna_nas_morph.nets has a layer {self.class_name!r}."
            )
        return cls

    @cached_property
    def call(self) -> str:
        """How the class is written."""
        return f"nn.{self.class_name}" if self._is_torch else self.class_name

    @property
    def signature(self) -> Mapping[str, inspect.Parameter]:
        """Parameters of the class."""
        return inspect.signature(self._class).parameters

    @cached_property
    def positional(self) -> frozenset[str]:
        """Arguments that are passed without their names: what ``torch.nn`` has no default for, widths, window sizes."""
        required = [name for name, p in self.signature.items() if p.default is p.empty]
        if self._is_torch:
            return frozenset(required)
        return frozenset(takewhile(lambda name: is_width(name) or name in _PER_AXIS, required))

    @cached_property
    def kind(self) -> Hashable:
        """Equal for nodes that differ in the values of arguments at most."""
        values = [f"v{i}" for i in range(len(self.inputs))]
        return (self.class_name, tuple(self.arguments), self.expression(values))

    @property
    def word(self) -> str:
        """What it is, in a word: the activation function, or the last part of the operation's name."""
        return str(getattr(self.node.op, "function", self.node.op.op_name.rpartition("_")[2]))


def layers_of(architecture: Architecture) -> dict[str, Layer]:
    """Every node but the inputs."""
    return {
        node.name: Layer(node, architecture.input_specs(node.name), architecture.specs[node.name])
        for node in architecture.nodes
        if node.inputs
    }


def is_width(name: str) -> bool:
    """Whether an argument is a number of channels or features."""
    stem = name.rstrip("_0123456789")
    return stem.endswith(("channels", "features")) or stem in ("normalized_shape", "embedding_dim")
