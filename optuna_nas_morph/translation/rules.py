"""What the architecture's operations say in PyTorch: modules, functions and methods, one rule for each.

A rule has the signature of what it translates. It says which operation that is, or :obj:`None` where there is none
that computes the same.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.ir import TensorSpec
from optuna_nas_morph.ir.ops import (
    Activation,
    AdaptivePool,
    Add,
    BatchNorm,
    Concat,
    Conv,
    DepthwiseConv,
    Dropout,
    Flatten,
    GlobalPool,
    LayerNorm,
    Linear,
    Multiply,
    Op,
    Pool,
    PositionEmbedding,
    Scale,
    TokenEmbedding,
    ToTokens,
)


@dataclass(frozen=True)
class Match:
    """What a node of the graph is.

    Args:
        op:
            The operation; :obj:`None` if the input passes as it is.
        inputs:
            The nodes that feed it.
        tensors:
            Its parameters and buffers.
    """

    op: Op | None
    inputs: tuple[fx.Node, ...]
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """What a rule knows about its node.

    Args:
        node:
            The node.
        output:
            Shape of one sample of its value.
        specs:
            What each earlier node puts out, where that is a tensor with the batch on its first axis.
        constants:
            Parameters and buffers by the node that reads them.
        follows_mode:
            Whether it is a dropout that follows the mode of the module.
    """

    node: fx.Node
    output: tuple[int, ...]
    specs: Mapping[fx.Node, TensorSpec]
    constants: Mapping[fx.Node, Tensor]
    follows_mode: bool = False


Rule: TypeAlias = Callable[..., Match | None]


def match(place: Place, module: fx.GraphModule) -> Match | None:
    """The operation of a node; :obj:`None` if there is none."""
    node = place.node
    try:
        if node.op == "call_module":
            return _match_module(place, module.get_submodule(str(node.target)))
        rule = _rule_of(node)
        if rule is None:
            return None
        arguments = inspect.signature(rule).bind(place, *node.args, **node.kwargs)
        found = rule(*arguments.args, **arguments.kwargs)
        if found is not None and found.op is not None:
            found.op.infer([place.specs[x] for x in found.inputs])
    except (ArchitectureError, KeyError, TypeError):
        # Arguments that the rule does not know, an input that is no tensor of a sample, or a shape that does not fit.
        return None
    return found


def _match_module(place: Place, module: nn.Module) -> Match | None:
    rule = next((MODULES[cls] for cls in type(module).__mro__ if cls in MODULES), None)
    if rule is None or place.node.kwargs or len(place.node.args) != 1:
        return None
    (x,) = place.node.args
    spec = place.specs[x]  # type: ignore[index]
    op = rule(module, spec)
    if op is None:
        return None
    op = op if isinstance(op, Op) else None
    tensors = dict(module.state_dict())
    if op is not None:
        op.infer([spec])
        expected = {name: param.shape for name, param in op.params([spec]).items()}
        if {name: tuple(t.shape) for name, t in tensors.items()} != expected:
            return None
    return Match(op, (x,), tensors)  # type: ignore[arg-type]


# Modules: from a module and what enters it to the operation. `True` stands for a module that passes its input on.


def _conv(module: Any, x: TensorSpec) -> Op | None:
    rank = len(module.kernel_size)
    padding = module.padding
    if padding == "valid":
        padding = (0,) * rank
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        padding = None if any(total % 2 for total in totals) else tuple(total // 2 for total in totals)
    if padding is None or module.padding_mode != "zeros":
        return None
    window = (module.kernel_size, module.stride, padding, module.dilation)
    bias = module.bias is not None
    if module.groups > 1 and module.groups == module.in_channels:
        return DepthwiseConv(*window, module.out_channels // module.in_channels, bias)
    return Conv(module.out_channels, *window, module.groups, bias)


def _batch_norm(module: Any, x: TensorSpec) -> Op | None:
    if not module.affine or not module.track_running_stats or module.momentum is None:
        return None
    return BatchNorm(module.eps, module.momentum)


def _layer_norm(module: Any, x: TensorSpec) -> Op | None:
    fits = module.elementwise_affine and module.bias is not None and x.channels_last
    return LayerNorm(module.eps) if fits and module.normalized_shape == (x.n_channels,) else None


def _linear(module: Any, x: TensorSpec) -> Op | None:
    return Linear(module.out_features, module.bias is not None)


def _embedding(module: Any, x: TensorSpec) -> Op | None:
    plain = module.padding_idx is None and module.max_norm is None and not module.sparse
    return TokenEmbedding(module.num_embeddings, module.embedding_dim) if plain and len(x.shape) == 1 else None


def _pool(kind: str, rank: int) -> Callable[[Any, TensorSpec], Op | None]:
    def rule(module: Any, x: TensorSpec) -> Op | None:
        plain = not module.ceil_mode
        if kind == "max":
            plain = plain and _per_axis(module.dilation, rank) == (1,) * rank and not module.return_indices
        else:
            plain = plain and module.count_include_pad and getattr(module, "divisor_override", None) is None
        return _window_pool(kind, rank, module.kernel_size, module.stride, module.padding) if plain else None

    return rule


def _adaptive(kind: str, rank: int) -> Callable[[Any, TensorSpec], Op | None]:
    def rule(module: Any, x: TensorSpec) -> Op | None:
        return None if getattr(module, "return_indices", False) else _adaptive_pool(kind, rank, module.output_size, x)

    return rule


def _flatten_module(module: Any, x: TensorSpec) -> Op | bool | None:
    if module.start_dim != 1 or module.end_dim not in (-1, len(x.shape)):
        return None
    return True if len(x.shape) == 1 else Flatten()


def _activation(function: str, **plain: Any) -> Callable[[Any, TensorSpec], Op | None]:
    def rule(module: Any, x: TensorSpec) -> Op | None:
        fits = all(getattr(module, name) == value for name, value in plain.items())
        return Activation(function) if fits else None

    return rule


MODULES: dict[type[nn.Module], Callable[[Any, TensorSpec], Op | bool | None]] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), _conv),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), _batch_norm),
    **{cls: _pool("max", i) for i, cls in enumerate((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), 1)},
    **{cls: _pool("avg", i) for i, cls in enumerate((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), 1)},
    **{
        cls: _adaptive("max", i)
        for i, cls in enumerate((nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d), 1)
    },
    **{
        cls: _adaptive("avg", i)
        for i, cls in enumerate((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d), 1)
    },
    nn.LayerNorm: _layer_norm,
    nn.Linear: _linear,
    nn.Embedding: _embedding,
    nn.Flatten: _flatten_module,
    nn.Identity: lambda module, x: True,
    nn.Dropout: lambda module, x: Dropout(module.p),
    nn.LeakyReLU: lambda module, x: Activation("leaky_relu", module.negative_slope),
    nn.ReLU: _activation("relu"),
    nn.ReLU6: _activation("relu6"),
    nn.GELU: _activation("gelu", approximate="none"),
    nn.SiLU: _activation("silu"),
    nn.Tanh: _activation("tanh"),
    nn.Softplus: _activation("softplus", beta=1.0, threshold=20.0),
    nn.Hardswish: _activation("hardswish"),
    nn.Sigmoid: _activation("sigmoid"),
    nn.Hardsigmoid: _activation("hardsigmoid"),
}


# Functions and methods.


def _function(name: str, **plain: Any) -> Rule:
    """An activation; arguments other than these have another meaning."""

    def rule(at: Place, input: fx.Node, *args: Any, inplace: bool = False, **kwargs: Any) -> Match | None:
        return Match(Activation(name), (input,)) if not args and kwargs.items() <= plain.items() else None

    return rule


def _leaky_relu(at: Place, input: fx.Node, negative_slope: float = 0.01, inplace: bool = False) -> Match:
    return Match(Activation("leaky_relu", negative_slope), (input,))


def _add(at: Place, input: Any, other: Any, *, alpha: float = 1) -> Match | None:
    if alpha != 1:
        return None
    for x, weight in ((input, other), (other, input)):
        if x in at.specs and weight in at.constants and at.specs[x].shape == at.output:
            tensor = at.constants[weight]
            if isinstance(tensor, nn.Parameter) and tensor.numel() == at.specs[x].numel:
                return Match(PositionEmbedding(), (x,), {"weight": tensor.reshape(at.output)})
    return Match(Add(), (input, other)) if input in at.specs and other in at.specs else None


def _multiply(at: Place, input: Any, other: Any) -> Match | None:
    if type(other) in (int, float):
        return Match(Scale(other), (input,))
    if type(input) in (int, float):
        return Match(Scale(input), (other,))
    return Match(Multiply(), (input, other)) if input in at.specs and other in at.specs else None


def _concat(at: Place, tensors: Any, dim: int = 0) -> Match | None:
    inputs = tuple(tensors)
    spec = at.specs[inputs[0]]
    axis = dim % (1 + len(spec.shape))
    if len(inputs) == 1:
        return Match(None, inputs)
    return Match(Concat(), inputs) if axis == 1 + spec.channel_axis else None


def _reshape(at: Place, input: fx.Node, *shape: Any, **kwargs: Any) -> Match | None:
    """A view, a reshape or a flattening, whatever its arguments: what it does shows in the shapes."""
    spec = at.specs[input]
    if at.output == spec.shape:
        return Match(None, (input,))
    return Match(Flatten(), (input,)) if at.output == (spec.numel,) else None


def _swapped(at: Place, input: fx.Node, *dims: Any) -> Match | None:
    """Tokens from a map, by ``x.flatten(2).transpose(1, 2)``, or from a series, by ``x.transpose(1, 2)``."""
    order = dims[0] if len(dims) == 1 else dims
    if len(at.output) != 2 or tuple(d % 3 for d in order) not in ((1, 2), (2, 1), (0, 2, 1)):
        return None
    for source in (input.args[0], input) if _rule_of(input) is _reshape else (input,):
        spec = at.specs.get(source)  # type: ignore[arg-type]
        if spec and spec.channel_axis == 0 and at.output == (math.prod(spec.spatial), spec.n_channels):
            return Match(ToTokens(), (source,))  # type: ignore[arg-type]
    return None


def _mean(at: Place, input: fx.Node, dim: Any, keepdim: bool = False) -> Match | None:
    return _global("avg", at, input, dim, keepdim)


def _amax(at: Place, input: fx.Node, dim: Any, keepdim: bool = False) -> Match | None:
    return _global("max", at, input, dim, keepdim)


def _global(kind: str, at: Place, x: fx.Node, dim: Any, keepdim: bool) -> Match | None:
    spec = at.specs[x]
    n_axes = 1 + len(spec.shape)
    axes = sorted(d % n_axes for d in ((dim,) if isinstance(dim, int) else dim))
    if axes != [i for i in range(1, n_axes) if i != 1 + spec.channel_axis] or not axes:
        return None
    if not keepdim:
        return Match(GlobalPool(kind), (x,))
    fits = kind == "avg" and spec.channel_axis == 0 and len(axes) <= 3
    return Match(AdaptivePool((1,) * len(axes)), (x,)) if fits else None


def _max_pool(rank: int) -> Rule:
    def rule(
        at: Place,
        input: fx.Node,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Match | None:
        plain = not ceil_mode and not return_indices and _per_axis(dilation, rank) == (1,) * rank
        return Match(_window_pool("max", rank, kernel_size, stride, padding), (input,)) if plain else None

    return rule


def _avg_pool(rank: int) -> Rule:
    def rule(
        at: Place,
        input: fx.Node,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Match | None:
        plain = not ceil_mode and count_include_pad and divisor_override is None
        return Match(_window_pool("avg", rank, kernel_size, stride, padding), (input,)) if plain else None

    return rule


def _adaptive_function(kind: str, rank: int) -> Rule:
    def rule(at: Place, input: fx.Node, output_size: Any, return_indices: bool = False) -> Match | None:
        op = _adaptive_pool(kind, rank, output_size, at.specs[input])
        return None if return_indices else Match(op, (input,))

    return rule


def _dropout(
    at: Place,
    input: fx.Node,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> Match | None:
    return Match(Dropout(p), (input,)) if at.follows_mode else None


def _same(at: Place, input: fx.Node) -> Match:
    return Match(None, (input,))


_ACTIVATIONS: dict[str, Rule] = {
    "relu": _function("relu"),
    "relu_": _function("relu"),
    "relu6": _function("relu6"),
    "leaky_relu": _leaky_relu,
    "gelu": _function("gelu", approximate="none"),
    "silu": _function("silu"),
    "tanh": _function("tanh"),
    "softplus": _function("softplus", beta=1, threshold=20),
    "hardswish": _function("hardswish"),
    "sigmoid": _function("sigmoid"),
    "hardsigmoid": _function("hardsigmoid"),
}

METHODS: dict[str, Rule] = {
    **{name: _ACTIVATIONS[name] for name in ("relu", "relu_", "tanh", "sigmoid")},
    "add": _add,
    "mul": _multiply,
    "multiply": _multiply,
    "flatten": _reshape,
    "view": _reshape,
    "reshape": _reshape,
    "squeeze": _reshape,
    "unsqueeze": _reshape,
    "transpose": _swapped,
    "permute": _swapped,
    "swapaxes": _swapped,
    "mean": _mean,
    "amax": _amax,
    "contiguous": _same,
    "clone": _same,
}

FUNCTIONS: dict[Any, Rule] = {
    **{getattr(F, name): rule for name, rule in _ACTIVATIONS.items()},
    **{getattr(torch, name): _ACTIVATIONS[name] for name in ("relu", "relu_", "tanh", "sigmoid")},
    **dict.fromkeys((operator.add, torch.add), _add),
    **dict.fromkeys((operator.mul, torch.mul, torch.multiply), _multiply),
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), _concat),
    **dict.fromkeys((torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze), _reshape),
    **dict.fromkeys((torch.transpose, torch.permute, torch.swapaxes), _swapped),
    **dict.fromkeys((F.max_pool1d, torch.max_pool1d), _max_pool(1)),
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d), _max_pool(2)),
    **dict.fromkeys((F.max_pool3d, torch.max_pool3d), _max_pool(3)),
    F.avg_pool1d: _avg_pool(1),
    F.avg_pool2d: _avg_pool(2),
    F.avg_pool3d: _avg_pool(3),
    F.adaptive_avg_pool1d: _adaptive_function("avg", 1),
    F.adaptive_avg_pool2d: _adaptive_function("avg", 2),
    F.adaptive_avg_pool3d: _adaptive_function("avg", 3),
    F.adaptive_max_pool1d: _adaptive_function("max", 1),
    F.adaptive_max_pool2d: _adaptive_function("max", 2),
    F.adaptive_max_pool3d: _adaptive_function("max", 3),
    F.dropout: _dropout,
    torch.mean: _mean,
    torch.amax: _amax,
    torch.clone: _same,
}

IN_PLACE = frozenset({"relu_"})
"""Methods and functions that write into their input; others do where they are given ``inplace=True``."""


def writes_input(node: fx.Node, module: fx.GraphModule) -> bool:
    """Whether what a node computes takes the place of its first input."""
    if node.op == "call_module":
        return bool(getattr(module.get_submodule(str(node.target)), "inplace", False))
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    return name in IN_PLACE or bool(node.kwargs.get("inplace", False))


def _rule_of(node: fx.Node) -> Rule | None:
    if node.op == "call_method":
        return METHODS.get(str(node.target))
    return FUNCTIONS.get(node.target) if node.op == "call_function" else None


def _window_pool(kind: str, rank: int, kernel_size: Any, stride: Any, padding: Any) -> Pool:
    kernel = _per_axis(kernel_size, rank)
    return Pool(kind, kernel, kernel if stride is None else _per_axis(stride, rank), _per_axis(padding, rank))


def _adaptive_pool(kind: str, rank: int, output_size: Any, x: TensorSpec) -> AdaptivePool:
    sizes = output_size if isinstance(output_size, tuple | list) else (output_size,) * rank
    return AdaptivePool(tuple(n if s is None else s for s, n in zip(sizes, x.spatial, strict=True)), kind)


def _per_axis(value: Any, rank: int) -> tuple[int, ...]:
    """One entry per axis."""
    return (value,) * rank if isinstance(value, int) else tuple(value)
