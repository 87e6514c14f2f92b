"""A region of a traced module as an opaque operation: a module of its own, and what tells it from others."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import _get_qualified_name
from torch.nn import functional as F

from optuna_nas_morph.errors import TranslationError
from optuna_nas_morph.ir import TensorSpec
from optuna_nas_morph.ir.ops import Opaque
from optuna_nas_morph.ir.ops.opaque import OpaqueTensor
from optuna_nas_morph.translation.regions import Region, has_weights
from optuna_nas_morph.translation.rules import Match
from optuna_nas_morph.translation.tracing import BATCH_SIZES, Trace, whereabouts

_DTYPES = {torch.float32: "float32", torch.int64: "int64", torch.bool: "bool"}
_DROPOUTS: Mapping[Any, type[nn.Module]] = {
    F.dropout: nn.Dropout,
    F.dropout1d: nn.Dropout1d,
    F.dropout2d: nn.Dropout2d,
    F.dropout3d: nn.Dropout3d,
    F.alpha_dropout: nn.AlphaDropout,
    F.feature_alpha_dropout: nn.FeatureAlphaDropout,
}
_PLUMBING = frozenset(
    {
        *("chunk", "contiguous", "expand", "flatten", "getattr", "getitem", "permute", "repeat", "reshape", "size"),
        *("split", "squeeze", "stack", "swapaxes", "transpose", "unbind", "unflatten", "unsqueeze", "view"),
    }
)
"""Functions and methods that move values without computing any."""


def opaque(traced: Trace, region: Region, specs: Mapping[fx.Node, TensorSpec]) -> Match:
    """A region as an operation that holds a module of its own, with the module's tensors.

    Raises:
        TranslationError: If a tensor is of a type that no weights are.
    """
    owner = _owner(region)
    module = _module(traced, region, owner)
    tensors: list[OpaqueTensor] = []
    state: dict[str, Tensor] = module.state_dict(keep_vars=True)
    known: set[int] = set()
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor) or tensor.dtype not in _DTYPES:
            what = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise TranslationError(
                f"{name!r} of {region.exit.format_node()}{whereabouts(region.exit)} must be a tensor of float32, int64 "
                f"or bool to be kept with the weights but is {what}: register it with persistent=False."
            )
        is_trained = isinstance(tensor, nn.Parameter) and id(tensor) not in known
        known.add(id(tensor))
        tensors.append((name, tuple(tensor.shape), _DTYPES[tensor.dtype], is_trained))
    spec = specs[region.exit]
    op = Opaque(
        _kind(traced, region, owner),
        tuple(specs[x].shape for x in region.inputs),
        spec.shape,
        _digest(module),
        spec.channel_axis,
        spec.dtype,
        tuple(tensors),
        sum(traced.flops.get(node, 0) for node in region.nodes) // BATCH_SIZES[0],
        copy.deepcopy(module),
    )
    return Match(op, region.inputs, state)


def name_of(traced: Trace, region: Region) -> str:
    """How its node is called: as the module that it is or lies in, where there is one."""
    modules = [node.name for node in region.nodes if has_weights(traced, node)]
    if len(modules) == 1:
        return modules[0]
    return _owner(region).replace(".", "_") or region.exit.name


def _module(traced: Trace, region: Region, owner: str) -> nn.Module:
    """What a region computes, from its inputs in order."""
    end = region.exit
    if len(region.nodes) == 1 and end.op == "call_module" and (end.args, end.kwargs) == (region.inputs, {}):
        return traced.module.get_submodule(str(end.target))
    graph, parts, values = fx.Graph(), dict[str, Any](), dict[fx.Node, fx.Node]()
    for i, node in enumerate(region.inputs):
        values[node] = graph.placeholder(f"x{i}")
    batch = graph.call_method("size", (values[region.inputs[0]], 0))
    device = graph.call_function(getattr, (values[region.inputs[0]], "device"))

    def value(node: fx.Node) -> Any:
        return values[node] if node in values else _sized(traced.sizes[node], batch, device)

    targets = [str(node.target) for node in region.nodes if node.op in ("call_module", "get_attr")]
    prefix = f"{owner}." if owner and all(target.startswith(f"{owner}.") for target in targets) else ""
    for node in region.nodes:
        new = values[node] = graph.node_copy(node, value)
        new.meta = {}
        if (node.op, node.target) == ("call_method", "view") and not isinstance(node.args[-1], torch.dtype):
            new.target = "reshape"  # What enters may lie in memory otherwise than in the user's network.
        if node.op in ("call_module", "get_attr"):
            new.target = str(node.target).removeprefix(prefix)
            parts[new.target] = _part(traced.module, str(node.target))
        elif node in traced.follows_mode:
            new.op, new.target = "call_module", f"dropout_{len(parts)}"
            parts[new.target] = _DROPOUTS[node.target](new.kwargs.get("p", 0.5))
            new.args, new.kwargs = new.args[:1] or (new.kwargs["input"],), {}
    graph.output(values[end])
    for node in (batch, device):
        if not node.users:
            graph.erase_node(node)
    return fx.GraphModule(parts, graph)


def _sized(size: Any, batch: fx.Node, device: fx.Node) -> Any:
    """A size as the region's graph has it: numbers, the batch where it is :obj:`None`, and the device of the input."""
    if isinstance(size, tuple):
        return tuple(_sized(n, batch, device) for n in size)
    if isinstance(size, torch.device):
        return device
    return batch if size is None else size


def _part(module: nn.Module, path: str) -> Any:
    """What a path of attributes leads to."""
    owner, _, name = path.rpartition(".")
    return getattr(module.get_submodule(owner), name)


# What it is, for people.


def _owner(region: Region) -> str:
    """Path of the innermost module that all of a region is computed in; empty for the whole."""
    paths = [list(node.meta.get("nn_module_stack", {}))[::-1] for node in region.nodes if node.op != "get_attr"]
    if len(region.nodes) == 1 and region.exit.op == "call_module":
        return str(region.exit.target)
    return next((path for path in paths[0] if all(path in others for others in paths)), "")


def _kind(traced: Trace, region: Region, owner: str) -> str:
    modules = [node for node in region.nodes if node.op == "call_module"]
    functions = [_function_name(node) for node in region.nodes if node.op in ("call_function", "call_method")]
    work = [name for name in functions if name not in _PLUMBING]
    trained = [_class_name(traced, str(node.target)) for node in modules if has_weights(traced, node)]
    if len({*trained, *work}) > 1 and owner:
        return _class_name(traced, owner)
    others = [_class_name(traced, str(node.target)) for node in modules]
    names = trained or work or others or functions[-1:]
    return re.sub(r"[^A-Za-z0-9_.\-]", "", "-".join(list(dict.fromkeys(names))[:3])).lstrip("_.-") or "part"


def _class_name(traced: Trace, path: str) -> str:
    return traced.classes.get(path) or type(traced.module.get_submodule(path)).__name__


def _function_name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target))


# What tells it from others.


def _digest(module: nn.Module) -> str:
    """Hash of what a module computes, as far as its graph, classes and attributes tell; not of its weights."""
    result = hashlib.blake2b(digest_size=16)
    state = module.state_dict()
    for path, part in module.named_modules():
        if isinstance(part, fx.GraphModule):
            lines = _lines(part.graph)
        else:
            public = {k: v for k, v in vars(part).items() if not k.startswith("_") and k != "training"}
            lines = [_qualified(type(part)), part.extra_repr(), *(f"{k}={_text(public[k])}" for k in sorted(public))]
        result.update(f"{path}: {lines}\n".encode())
    for name, tensor in module.named_buffers():
        if name not in state:
            result.update(f"{name}: {_text(tensor)}\n".encode())
    return result.hexdigest()


def _lines(graph: fx.Graph) -> list[str]:
    names = {node: f"v{i}" for i, node in enumerate(graph.nodes)}
    result = []
    for node in graph.nodes:
        target = node.target if isinstance(node.target, str) else _get_qualified_name(node.target)
        result.append(f"{node.op} {target} {_text((node.args, node.kwargs), names.__getitem__)}")
    return result


def _text(value: Any, name: Callable[[fx.Node], str] = str) -> str:
    """A setting as text that is the same in another process."""
    if isinstance(value, fx.Node):
        return name(value)
    if isinstance(value, tuple | list):
        return f"({', '.join(_text(v, name) for v in value)})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_text(k, name)}: {_text(v, name)}' for k, v in value.items())}}}"
    if isinstance(value, slice):
        return f"slice{_text((value.start, value.stop, value.step), name)}"
    if isinstance(value, Tensor):
        values = value.detach().cpu().contiguous()
        return f"{values.dtype} {tuple(values.shape)} {hashlib.blake2b(values.numpy().tobytes()).hexdigest()}"
    if value is None or isinstance(
        value, bool | int | float | complex | str | type(...) | torch.dtype | torch.device | torch.memory_format
    ):
        return repr(value)
    return _qualified(value if hasattr(value, "__qualname__") else type(value))


def _qualified(value: Any) -> str:
    return f"{getattr(value, '__module__', None)}.{value.__qualname__}"
