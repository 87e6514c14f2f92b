"""A user's module as an architecture with exactly its weights."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, fx, nn

from optuna_nas_morph.errors import ArchitectureError, TranslationError
from optuna_nas_morph.ir import Architecture, Node, TensorSpec
from optuna_nas_morph.ir.ops import Input
from optuna_nas_morph.nets import Network
from optuna_nas_morph.translation.layout import channel_axis
from optuna_nas_morph.translation.opaque import name_of
from optuna_nas_morph.translation.opaque import opaque as opaque_part
from optuna_nas_morph.translation.regions import Region, partition
from optuna_nas_morph.translation.rules import Match, Place, match, writes_input
from optuna_nas_morph.translation.tracing import Trace, batch_of, trace

TOLERANCE = 1e-4
"""Largest difference between the outputs of the module and of its network, relative to the largest output.

They are the same bits, unless the module has weights in an unusual memory format, say."""

Module: TypeAlias = nn.Module
Example: TypeAlias = Tensor | Sequence[Tensor]

_DTYPES = {torch.float32: "float32", torch.int64: "int64"}


@dataclass(frozen=True)
class Translation:
    """A module as an architecture.

    Args:
        architecture:
            What it computes.
        weights:
            Its parameters and buffers, by their names in the network of the architecture; copies.
    """

    architecture: Architecture
    weights: Mapping[str, Tensor]


def translate(module: Module, example_input: Example, opaque: Sequence[type[Module]] = ()) -> Translation:
    """Translate a module; what no operation of an architecture computes becomes `Opaque`.

    Args:
        module:
            Any module whose ``forward`` torch.fx can trace; it is not changed.
        example_input:
            What it takes: a tensor with the batch on its first axis, or several.
        opaque:
            Classes of modules that are not looked into: each of these modules becomes opaque as a whole.

    Raises:
        TranslationError: If it cannot be traced, two nodes would have the same weights, or its network does not compute
            the same as it does on the example. The message says where, and what to do.
    """
    example = (example_input,) if isinstance(example_input, Tensor) else tuple(example_input)
    _check(module, example, opaque)
    # On the CPU, as everything that searches; a copy, since tracing and shapes take other modes.
    module = copy.deepcopy(module).cpu()
    example = tuple(x.detach().cpu() for x in example)
    traced = trace(module, example, tuple(opaque))
    matches, specs = _matches(traced, tuple(opaque))
    parts = partition(traced, matches, specs.keys())
    stems = {node: node.name for node in traced.inputs}
    for part in parts:
        if isinstance(part, Region):
            matches[part.exit] = opaque_part(traced, part, specs)
            stems[part.exit] = name_of(traced, part)
        else:
            stems[part] = part.name
    names = _names(stems)
    nodes, weights = [], {}
    for node in traced.inputs:
        shape, dtype = traced.shapes[node]
        nodes.append(Node(names[node], Input(shape, channel_axis(traced, node), _DTYPES[dtype])))
    for part in parts:
        node = part.exit if isinstance(part, Region) else part
        found = matches[node]
        if found.op is None:
            names[node] = names[found.inputs[0]]
            continue
        nodes.append(Node(names[node], found.op, tuple(names[x] for x in found.inputs)))
        weights.update({f"{names[node]}.{name}": tensor for name, tensor in found.tensors.items()})
    try:
        architecture = Architecture(tuple(nodes))
    except ArchitectureError as e:
        raise TranslationError(f"{type(module).__name__} is no architecture: {e}") from e
    _check_sharing(weights)
    translation = Translation(architecture, {name: tensor.detach().clone() for name, tensor in weights.items()})
    _check_outputs(module, translation, example)
    return translation


def _check(module: nn.Module, example: Sequence[Tensor], opaque: Sequence[type[nn.Module]]) -> None:
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be an nn.Module but got {type(module).__name__}.")
    if not all(isinstance(cls, type) and issubclass(cls, nn.Module) for cls in opaque):
        raise TypeError(f"opaque must be classes of modules but got {opaque!r}.")
    if not example or not all(isinstance(x, Tensor) for x in example):
        raise TypeError("example_input must be a tensor or a sequence of tensors.")
    for x in example:
        if x.ndim < 2 - (x.dtype == torch.int64) or x.dtype not in _DTYPES or len(x) < 1:
            raise ValueError(
                "example_input must be of dtype float32 or int64 (token ids), with a batch on the first axis and at "
                f"least one more, but got {x.dtype} of shape {tuple(x.shape)}."
            )
    for name, tensor in module.state_dict(keep_vars=True).items():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise TranslationError(
                f"weights must be float32 but {name!r} is {tensor.dtype}: call module.float() before."
            )


def _matches(
    traced: Trace, opaque: tuple[type[nn.Module], ...]
) -> tuple[dict[fx.Node, Match], dict[fx.Node, TensorSpec]]:
    """The operation of every node that has one, and what of the graph can flow along an edge of an architecture."""
    specs = {
        node: TensorSpec(traced.shapes[node][0], channel_axis(traced, node), _DTYPES[traced.shapes[node][1]])
        for node in traced.inputs
    }
    constants = {node: _attribute(traced.module, str(node.target)) for node in traced.nodes if node.op == "get_attr"}
    matches: dict[fx.Node, Match] = {}
    for node in traced.nodes:
        if node.args and isinstance(node.args[0], fx.Node) and writes_input(node, traced.module):
            for user in [user for user in node.args[0].users if user > node]:
                user.replace_input_with(node.args[0], node)
        shape, dtype = traced.shapes.get(node, (None, None))
        if not shape or 0 in shape or dtype not in _DTYPES:
            continue
        is_opaque = node.op == "call_module" and isinstance(traced.module.get_submodule(str(node.target)), opaque)
        place = Place(node, shape, specs, constants, node in traced.follows_mode)
        found = None if is_opaque else match(place, traced.module)
        if found is not None:
            matches[node] = found
            inputs = [specs[x] for x in found.inputs]
            specs[node] = inputs[0] if found.op is None else found.op.infer(inputs)
        else:
            specs[node] = TensorSpec(shape, channel_axis(traced, node), _DTYPES[dtype])
    return matches, specs


def _attribute(module: nn.Module, path: str) -> Tensor:
    """The tensor that a path of attributes leads to."""
    owner, _, name = path.rpartition(".")
    tensor: Tensor = getattr(module.get_submodule(owner), name)
    return tensor


def _names(stems: Mapping[fx.Node, str]) -> dict[fx.Node, str]:
    """Names that an architecture allows and that are no attributes of its network: as in the module where possible."""
    used: set[str] = set()

    def free(name: str) -> Iterator[str]:
        yield name
        k = 1
        while True:
            yield f"{name}_{k}"
            k += 1

    result = {}
    for node, stem in stems.items():
        name = re.sub(r"\W", "_", stem).strip("_")
        if not name[:1].isalpha() or hasattr(_PLAIN, name):
            name = f"layer_{name}"
        result[node] = next(n for n in free(name) if n not in used)
        used.add(result[node])
    return result


_PLAIN = Network(Architecture((Node("input", Input((1,))),)))


def _check_sharing(weights: Mapping[str, Tensor]) -> None:
    owners: dict[int, str] = {}
    for name, tensor in weights.items():
        other = owners.setdefault(tensor.data_ptr(), name) if tensor.numel() else name
        if other.partition(".")[0] != name.partition(".")[0]:
            raise TranslationError(
                f"{name!r} and {other!r} are the same weights, but every node of an architecture has its own: give "
                "each place a module of its own, with copied weights."
            )


def _check_outputs(module: nn.Module, translation: Translation, example: Sequence[Tensor]) -> None:
    network = Network(translation.architecture)
    network.load_state_dict(dict(translation.weights))
    batch = [batch_of(x, max(2, len(x))) for x in example]
    for mode in ("eval", "train"):
        outputs = []
        for net in (module, network):
            with torch.random.fork_rng(devices=()), torch.no_grad():
                torch.manual_seed(0)
                outputs.append(net.train(mode == "train")(*batch))
        expected, found = outputs
        error = (expected - found).abs().max().item()
        if not error <= TOLERANCE * expected.abs().max().item():
            raise TranslationError(
                f"the network of {type(module).__name__} must compute what the module does but differs by {error:.1e} "
                f"in {mode} mode. Operations that write into their input (inplace=True, x.add_(y)) are one reason: "
                "leave that out where the input is still in use."
            )
