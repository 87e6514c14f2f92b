"""What a module computes, as a graph of torch.fx, and the shapes of everything in it."""

from __future__ import annotations

import inspect
import linecache
import math
import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, fx, nn
from torch.fx import _symbolic_trace
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from optuna_nas_morph.errors import TranslationError

BATCH_SIZES = (2, 3)
"""Shapes are taken for both: the axis that follows is the batch."""

DROPOUTS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)
"""Functions that are told the mode by an argument ``training``."""

_TORCH = str(Path(torch.__file__).parent)
_FRAME = re.compile(r'File "(?P<path>.*)", line (?P<line>\d+)')


@dataclass(frozen=True)
class Trace:
    """A traced module.

    Args:
        module:
            What was traced, in eval mode; the targets of the graph are its attributes.
        nodes:
            Everything that is computed, in order, without what nothing uses.
        inputs:
            The nodes of its inputs.
        output:
            The node whose value it returns.
        shapes:
            Shape of one sample and dtype, for every node whose value is one tensor with the batch on its first axis.
        follows_mode:
            Dropouts whose argument ``training`` is that of the module.
        sizes:
            Nodes whose value is a number, or a tuple of them, that follows from the shapes of the inputs; the size of
            the batch is :obj:`None`. Also types and devices of tensors.
        flops:
            Floating point operations of the matrix products that a node computes for ``BATCH_SIZES[0]`` samples.
        classes:
            Name of the class of every module, by its path.
    """

    module: fx.GraphModule
    nodes: tuple[fx.Node, ...]
    inputs: tuple[fx.Node, ...]
    output: fx.Node
    shapes: Mapping[fx.Node, tuple[tuple[int, ...], torch.dtype]]
    follows_mode: frozenset[fx.Node]
    sizes: Mapping[fx.Node, Any]
    flops: Mapping[fx.Node, int]
    classes: Mapping[str, str]


def trace(module: nn.Module, example: Sequence[Tensor], whole: tuple[type[nn.Module], ...] = ()) -> Trace:
    """Trace a module.

    Args:
        module:
            On the CPU. Its mode is changed.
        example:
            What it takes, with the batch on the first axis of each.
        whole:
            Classes of modules that are not looked into.

    Raises:
        TranslationError: If it cannot be traced: where, and what to do.
    """
    graph = _graph(module.train(), example, whole)
    follows_mode = _follows_mode(graph, _graph(module.eval(), example, whole))
    traced = fx.GraphModule(module, graph, class_name=_name(module))
    inputs = tuple(node for node in graph.nodes if node.op == "placeholder")[: len(example)]
    (end,) = (node for node in graph.nodes if node.op == "output")
    output = end.args[0]
    if not isinstance(output, fx.Node):
        raise TranslationError(
            f"{_name(module)} must return one tensor but returns a {type(output).__name__}: wrap it in a module that "
            "returns the one to train."
        )
    unused = [str(node.target) for node in inputs if not node.users]
    if unused:
        raise TranslationError(f"{_name(module)} does not use its input {unused[0]!r}: leave it out.")
    first, second = (_recorded(traced, example, n) for n in BATCH_SIZES)
    shapes = _shapes(first, second)
    if output not in shapes:
        raise TranslationError(f"{_name(module)} must return one tensor with the batch on its first axis.")
    nodes = tuple(node for node in graph.nodes if node.op not in ("placeholder", "output"))
    follows = frozenset(node for node in nodes if node.name in follows_mode)
    sizes: dict[fx.Node, Any] = {}
    for node in nodes:
        is_size = node.target in _SIZES or (node.all_input_nodes and sizes.keys() >= set(node.all_input_nodes))
        size = _size(first.sizes.get(node), second.sizes.get(node)) if is_size else ()
        if size != ():
            sizes[node] = size
    classes = {path: _name(part) for path, part in module.named_modules()}
    return Trace(traced, nodes, inputs, output, shapes, follows, sizes, first.flops, classes)


def batch_of(tensor: Tensor, n: int) -> Tensor:
    """A batch of ``n`` samples made of those of another, which repeat (floats a little changed) where they are few."""
    index = torch.arange(n)
    batch = tensor[index % len(tensor)].clone()
    if batch.is_floating_point():
        batch *= (1 - 0.1 * (index // len(tensor))).reshape(-1, *[1] * (batch.ndim - 1))
    return batch


def whereabouts(node: fx.Node) -> str:
    """The line of the user's code that a node comes from; empty if that is not known."""
    found = [m for m in _FRAME.finditer(node.stack_trace or "") if not m["path"].startswith(_TORCH)]
    if not found:
        return ""
    path, number = found[-1]["path"], int(found[-1]["line"])
    return f" ({path}:{number}: {linecache.getline(path, number).strip()})"


class _Tracer(fx.Tracer):
    """A tracer that keeps what ``torch.nn`` computes in one piece, and takes branches that depend on shapes alone.

    Args:
        module:
            What is traced.
        example:
            What it takes.
        whole:
            Classes of modules that are not looked into.
    """

    proxy_buffer_attributes = True  # A mask may be cut to the size of the input, say.

    def __init__(self, module: nn.Module, example: Sequence[Tensor], whole: tuple[type[nn.Module], ...]) -> None:
        super().__init__()
        self.record_stack_traces = True
        self._module, self._whole = module, whole
        self._values: list[dict[fx.Node, Any]] = [{} for _ in BATCH_SIZES]
        self._inputs = [[batch_of(x, n) for x in example] for n in BATCH_SIZES]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self._whole) or is_torch(m)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """What a condition on shapes is; of one on values, or on the size of the batch, an error."""
        training = self._module.training
        self._module.eval()
        # Calls of modules are calls again, rather than nodes of the graph.
        with (
            torch.no_grad(),
            patch.object(nn.Module, "__call__", _symbolic_trace._orig_module_call),
            patch.object(nn.Module, "__getattr__", _symbolic_trace._orig_module_getattr),
        ):
            found = [self._value(obj.node, i) for i in range(len(BATCH_SIZES))]
        self._module.train(training)
        if any(isinstance(value, Tensor) for value in found) or found[0] != found[1]:
            return super().to_bool(obj)
        return bool(found[0])

    def _value(self, node: fx.Node, i: int) -> Any:
        """What a node is for one of the batches."""
        values = self._values[i]
        if node not in values:
            places = [n for n in self.graph.nodes if n.op == "placeholder"]
            if node in places[: len(self._inputs[i])]:
                values[node] = self._inputs[i][places.index(node)].clone()
            else:
                args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: self._value(n, i))
                run = getattr(fx.Interpreter(self._module, graph=self.graph), node.op)
                values[node] = run(node.target, args, kwargs)
        return values[node]


def is_torch(module: nn.Module) -> bool:
    """Whether a module computes what one of ``torch.nn`` does: of such a class, or of one that inherits ``forward``."""
    return type(module).forward.__module__.startswith("torch.nn.") and not isinstance(
        module, nn.Sequential | nn.ModuleList | nn.ModuleDict
    )


def _graph(module: nn.Module, example: Sequence[Tensor], whole: tuple[type[nn.Module], ...]) -> fx.Graph:
    """The graph in the module's mode; arguments that are not given have their defaults."""
    tracer = _Tracer(module, example, whole)
    parameters = list(inspect.signature(module.forward).parameters.values())
    fixed = {
        p.name: p.default for p in parameters[len(example) :] if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"
    }
    missing = [name for name, value in fixed.items() if value is inspect.Parameter.empty]
    if missing or sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters) < len(example):
        raise TranslationError(
            f"example_input must hold one tensor for each argument of {_name(module)}.forward"
            f"{inspect.signature(module.forward)} but holds {len(example)}."
        )
    try:
        graph = tracer.trace(module, concrete_args=fixed or None)
    except Exception as e:  # Tracing runs the user's code, which raises anything.
        raise TranslationError(_untraceable(module, e)) from e
    for node in reversed(graph.nodes):
        is_assertion = getattr(node.target, "__name__", "") in ("_assert", "_assert_is_none")
        if is_assertion or (not node.users and node.op not in ("placeholder", "output")):
            graph.erase_node(node)  # Shapes are fixed from here on.
    return graph


def _follows_mode(training: fx.Graph, evaluation: fx.Graph) -> set[str]:
    """Names of the dropouts that follow the mode.

    Raises:
        TranslationError: If anything else depends on the mode.
    """
    follows: set[str] = set()
    for node, other in zip(training.nodes, evaluation.nodes, strict=False):
        kwargs, other_kwargs = dict(node.kwargs), dict(other.kwargs)
        if node.target in DROPOUTS and (kwargs.pop("training", None), other_kwargs.pop("training", None)) == (1, 0):
            follows.add(node.name)
        mine = (node.op, node.target, repr(node.args), repr(kwargs))
        if mine != (other.op, other.target, repr(other.args), repr(other_kwargs)):
            raise TranslationError(
                f"{node.name!r}{whereabouts(node)} is computed in train mode, where eval mode computes "
                f"{other.name!r}{whereabouts(other)}. A network computes the same in both, but for dropout and batch "
                "norm: put what differs into a module of torch.nn, or leave it to the training loop."
            )
    if len(training.nodes) != len(evaluation.nodes):
        raise TranslationError("a network computes the same in train mode and in eval mode, but this one does not.")
    return follows


def _recorded(module: fx.GraphModule, example: Sequence[Tensor], n: int) -> _Recorder:
    """What a module computes for a number of samples."""
    recorder = _Recorder(module)
    try:
        # With gradients, as in training: in eval mode torch.nn has shortcuts without, whose operations nobody counts.
        with torch.enable_grad():
            recorder.run(*(batch_of(x, n) for x in example))
    except Exception as e:  # The user's code raises anything.
        raise TranslationError(
            f"{_name(module)} must take any number of samples, but fails for {n} of them: {e}".strip()
        ) from e
    return recorder


def _shapes(first: _Recorder, second: _Recorder) -> dict[fx.Node, tuple[tuple[int, ...], torch.dtype]]:
    """Shapes of one sample, of what has the batch on its first axis."""
    return {
        node: (shape[1:], dtype)
        for node, (shape, dtype) in first.shapes.items()
        if shape
        and node in second.shapes
        and shape[0] == BATCH_SIZES[0]
        and second.shapes[node][0] == (BATCH_SIZES[1], *shape[1:])
    }


def _size(first: Any, second: Any) -> Any:
    """What two runs agree on, the size of the batch as :obj:`None`; an empty tuple for what is no size."""
    if isinstance(first, tuple) and isinstance(second, tuple) and len(first) == len(second):
        sizes = tuple(map(_size, first, second))
        return () if () in sizes else sizes
    if (first, second) == BATCH_SIZES:
        return None
    return first if type(first) in _NUMBERS and type(first) is type(second) and first == second else ()


_SIZES = (getattr, "size", "dim", "ndimension", "numel")
_NUMBERS = (int, float, torch.dtype, torch.device)


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the shapes of its tensors, all sizes, and what its matrix products cost."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.shapes: dict[fx.Node, tuple[tuple[int, ...], torch.dtype]] = {}
        self.sizes: dict[fx.Node, Any] = {}
        self.flops: dict[fx.Node, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        with FlopCounterMode(display=False, custom_mapping=_FLOPS) as counter:
            value = super().run_node(n)
        if flops := counter.get_total_flops():
            self.flops[n] = flops
        if isinstance(value, Tensor):
            self.shapes[n] = (tuple(value.shape), value.dtype)
        elif isinstance(value, (tuple, *_NUMBERS)):
            self.sizes[n] = tuple(value) if isinstance(value, torch.Size) else value
        return value


def _recurrent_flops(x: Sequence[int], *weights: Any, **kwargs: Any) -> int:
    """Of one layer of an LSTM or GRU by oneDNN, which PyTorch does not count: ``x`` is (steps, batch, features)."""
    n_weights: int = sum(math.prod(shape) for shape in weights[:2])
    return 2 * x[0] * x[1] * n_weights


_FLOPS = {torch.ops.aten.mkldnn_rnn_layer: _recurrent_flops}


def _untraceable(module: nn.Module, error: Exception) -> str:
    """Where in the user's code tracing failed, and what to do."""
    frames = [
        (frame, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith((_TORCH, __file__))
    ]
    where = ""
    if frames:
        frame, line = frames[-1]
        path, owner = frame.f_code.co_filename, frame.f_locals.get("self", module)
        where = f" at {path}:{line} in {_name(owner)}: {linecache.getline(path, line).strip()}"
    return (
        f"{_name(module)} cannot be traced{where}\n({type(error).__name__}: {error}). torch.fx follows no branch or "
        "loop that depends on the values of tensors or on the size of the batch. Let it depend on attributes of the "
        "module, or leave the class of the module as it is: opaque=[...]."
    )


def _name(module: object) -> str:
    return type(module).__name__
