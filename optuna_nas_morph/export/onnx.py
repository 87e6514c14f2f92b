"""A network as an ONNX file."""

from __future__ import annotations

import copy
from os import PathLike, fspath

import numpy as np
import torch
from torch import Tensor, nn

from optuna_nas_morph.ir import Architecture, ops
from optuna_nas_morph.morphisms import fresh_weights
from optuna_nas_morph.nets import Network, example_inputs, unwrapped


class _AdaptivePool(nn.Module):
    """What ONNX has not: an adaptive pooling, here for a known size of the input."""

    def __init__(self, op: ops.AdaptivePool) -> None:
        super().__init__()
        self.pool = torch.mean if op.kind == "avg" else torch.amax
        self.output_size = op.output_size

    def forward(self, x: Tensor) -> Tensor:
        for axis, n in enumerate(self.output_size, 2):
            size = x.shape[axis]
            windows = [(i * size // n, -(-(i + 1) * size // n)) for i in range(n)]
            x = torch.cat([self.pool(x.narrow(axis, a, b - a), axis, keepdim=True) for a, b in windows], axis)
        return x


def export_onnx(network: nn.Module | Architecture, path: str | PathLike[str]) -> None:
    """Write a network in eval mode as one ONNX file, which takes batches of any size.

    Inputs have the names of the architecture's inputs, the output that of its last node. It goes through
    ``torch.onnx.export`` and needs ``pip install optuna-nas-morph[onnx]``.

    Args:
        network:
            A `Network`, also wrapped by ``DataParallel``, ``DistributedDataParallel`` or ``torch.compile``; it stays as
            it is. For an architecture weights are drawn from a fixed seed, as to measure it on another device.
        path:
            Where to; below 2 GB, as ONNX demands of one file.

    Raises:
        ImportError: If onnx or onnxscript is not installed.
        TypeError: If it is neither a network nor an architecture.
        ValueError: If it has no operation: its output would be its input.
    """
    try:
        import onnxscript  # noqa: F401  it imports onnx
    except ImportError as e:
        raise ImportError(
            f"export_onnx needs {e.name!r}, which is not installed: run `pip install optuna-nas-morph[onnx]`."
        ) from e
    if isinstance(network, Architecture):
        own = Network(network)
        own.load_state_dict(fresh_weights(network, np.random.default_rng(0)))
    else:
        own = copy.deepcopy(unwrapped(network)).cpu()
    architecture = own.architecture
    if architecture.output in architecture.inputs:
        raise ValueError(f"network must have an operation but is the input {architecture.output!r} alone.")
    for node in architecture.nodes:
        if isinstance(node.op, ops.AdaptivePool):
            setattr(own, node.name, _AdaptivePool(node.op))
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        own.float().eval(),
        example_inputs(architecture, 2),
        fspath(path),
        input_names=list(architecture.inputs),
        output_names=[architecture.output],
        dynamic_shapes=(tuple({0: batch} for _ in architecture.inputs),),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
