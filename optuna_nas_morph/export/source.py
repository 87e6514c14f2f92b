"""An architecture as one file of plain PyTorch."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from textwrap import fill

from safetensors.torch import save_file
from torch import Tensor, nn

from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.export.blocks import network_block
from optuna_nas_morph.export.classes import BlockClass, block_classes, state_names
from optuna_nas_morph.export.layout import LINE_LENGTH
from optuna_nas_morph.export.library import definitions_for, imports_for, names_in, own_classes
from optuna_nas_morph.export.naming import batch_of
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import Opaque
from optuna_nas_morph.weights.inherit import check_weights
from optuna_nas_morph.weights.wrappers import state_dict_of

_RESERVED = frozenset({"F", "Path", "Tensor", "WEIGHTS", "load", "load_file", "math", "nn", "torch"})


def export_source(
    architecture: Architecture,
    path: str | PathLike[str] | None = None,
    *,
    weights: nn.Module | Mapping[str, Tensor] | None = None,
    class_name: str = "Network",
) -> str:
    """Write an architecture as one Python file that needs PyTorch alone, to be read, kept and changed by people.

    What repeats in the graph becomes a class, or a loop; what runs one after another becomes an ``nn.Sequential``. The
    module computes exactly what the network computes, in eval and in train mode (where there is dropout, it may draw in
    another order). Nothing in the file depends on names of nodes.

    With ``weights``, a safetensors file of the same name is written beside it (``model.safetensors`` for ``model.py``),
    and the file gets a function ``load()`` that makes the module with these weights, in eval mode; that needs the
    package ``safetensors`` as well.

    Args:
        architecture:
            What to write.
        path:
            Where to; nothing is written if left out.
        weights:
            A network of the architecture, also wrapped by ``DataParallel``, ``DistributedDataParallel`` or
            ``torch.compile``, or its state dict. Needs a ``path``.
        class_name:
            What the class of the whole network is called.

    Returns:
        The text of the file.

    Raises:
        ArchitectureError: If an operation has no layer in ``torch.nn`` or in `optuna_nas_morph.nets`, or is an opaque
            part of a user's network.
        WeightsMismatchError: If the weights are not those of the architecture.
        ValueError: If an argument is out of range.
    """
    if not isinstance(architecture, Architecture):
        raise TypeError(f"architecture must be an Architecture but got {type(architecture).__name__}.")
    if not class_name.isidentifier() or keyword.iskeyword(class_name) or class_name in {*_RESERVED, *own_classes()}:
        raise ValueError(f"class_name must be the name of a class that the file does not use but got {class_name!r}.")
    for node in architecture.nodes:
        if isinstance(node.op, Opaque):
            raise ArchitectureError(
                f"node {node.name!r} is an opaque {node.op.kind}, whose code is in the network that the space was made "
                "from: it cannot be written as source; save the network, or use export_onnx or torch.export."
            )
    if weights is None:
        state: Mapping[str, Tensor] | None = None
    elif path is None:
        raise ValueError("path must be given where weights are: they are written beside it.")
    else:
        state = state_dict_of(weights, architecture) if isinstance(weights, nn.Module) else weights
        check_weights(architecture, state)
    classes = block_classes(network_block(architecture), class_name)
    text = _file(architecture, classes, with_weights=state is not None)
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
        if state is not None:
            save_file(_renamed(state, state_names(classes)), Path(path).with_suffix(".safetensors"))
    return text


def _renamed(state: Mapping[str, Tensor], paths: Mapping[str, str]) -> dict[str, Tensor]:
    """A state dict with the names of the exported module."""
    result = {}
    for name, tensor in state.items():
        node, _, parameter = name.partition(".")
        result[f"{paths[node]}{parameter}"] = tensor.detach().cpu().clone().contiguous()
    return result


def _file(architecture: Architecture, classes: list[BlockClass], *, with_weights: bool) -> str:
    name = classes[-1].name
    body = "\n\n\n".join(map(str, classes))
    own = list(definitions_for(sorted(names_in(body))))
    body = "\n\n\n".join([*own, body, *([_LOAD.format(name=name)] if with_weights else [])])
    arguments = classes[-1].arguments
    specs = [architecture.specs[name] for name in architecture.inputs]
    shapes = [
        f"{x} is of shape {batch_of(spec)} and type {spec.dtype}" for x, spec in zip(arguments, specs, strict=True)
    ]
    header = _HEADER.format(
        n_parameters=architecture.n_parameters,
        flops=architecture.flops,
        needs="PyTorch and safetensors" if with_weights else "PyTorch alone",
        build="load()" if with_weights else f"{name}()",
        arguments=", ".join(arguments),
        shapes=fill(
            f"{', '.join(shapes)}; y of shape {batch_of(architecture.specs[architecture.output])}.", LINE_LENGTH
        ),
    )
    imports = imports_for(body)
    if with_weights:
        imports = sorted([*imports, "from safetensors.torch import load_file"], key=_import_order)
        imports = ["from pathlib import Path", "", *imports]
        imports += ["", 'WEIGHTS = Path(__file__).with_suffix(".safetensors")']
    return f"{header}\n" + "\n".join(imports) + f"\n\n\n{body}\n"


def _import_order(statement: str) -> tuple[bool, str]:
    return statement.startswith("from"), statement.split()[1]


_HEADER = '''"""A network of {n_parameters:,} parameters; its matrix products take {flops:,} operations per sample.

Written by optuna-nas-morph; it needs {needs}.

    network = {build}
    y = network({arguments})

{shapes}
"""
'''
_LOAD = '''def load(path: str | Path = WEIGHTS) -> {name}:
    """Make the network with its trained weights, in eval mode."""
    network = {name}()
    network.load_state_dict(load_file(path))
    return network.eval()'''
