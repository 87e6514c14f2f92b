"""One node in exported source: the class that is called, with which arguments, or the expression that is written."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from torch import nn

from optuna_nas_morph import nets
from optuna_nas_morph.errors import ArchitectureError
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
    def call(self) -> str:
        """How the class is written."""
        if self._is_torch:
            return f"nn.{self.class_name}"
        if self.class_name not in own_classes():
            raise ArchitectureError(
                f"node {self.node.name!r}: {self.node.op.op_name} cannot be exported, since neither torch.nn nor "
                f"optuna_nas_morph.nets has a layer {self.class_name!r}."
            )
        return self.class_name

    @property
    def signature(self) -> Mapping[str, inspect.Parameter]:
        """Parameters of the class."""
        cls = getattr(nn, self.class_name) if self._is_torch else own_classes()[self.class_name]
        return inspect.signature(cls).parameters

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


# Layers that torch.nn does not have: their code is that of `optuna_nas_morph.nets`.


def own_classes() -> Mapping[str, type[nn.Module]]:
    """The layers of `optuna_nas_morph.nets`, by name."""
    return {
        name: cls
        for name, cls in vars(nets).items()
        if isinstance(cls, type)
        and issubclass(cls, nn.Module)
        and cls.__module__ == nets.__name__
        and cls is not nets.Network
    }


@lru_cache(maxsize=1)
def _definitions() -> dict[str, str]:
    """Source of every class and function of `optuna_nas_morph.nets`."""
    text = inspect.getsource(nets)
    lines = text.splitlines()
    result = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            result[node.name] = "\n".join(lines[first - 1 : node.end_lineno])
    return result


def names_in(source: str) -> set[str]:
    """Every name that a piece of source reads."""
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}


def definitions_for(names: Sequence[str]) -> Iterator[str]:
    """Source of the named classes, behind that of whatever they need."""
    known, done = _definitions(), set[str]()

    def visit(name: str) -> Iterator[str]:
        if name not in known or name in done:
            return
        done.add(name)
        for other in sorted(names_in(known[name])):
            yield from visit(other)
        yield known[name]

    for name in names:
        yield from visit(name)


def imports_for(source: str) -> list[str]:
    """Import statements of `optuna_nas_morph.nets` for the names that a file reads."""
    used = names_in(source)
    result = []
    for node in ast.parse(inspect.getsource(nets)).body:
        if isinstance(node, ast.Import | ast.ImportFrom) and not (
            isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("optuna_nas_morph", "__future__"))
        ):
            node.names = [alias for alias in node.names if (alias.asname or alias.name).split(".")[0] in used]
            if node.names:
                result.append(ast.unparse(node))
    return result
