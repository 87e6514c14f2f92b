"""A network's tensors by the names that its architecture gives them, whatever it is wrapped in."""

from __future__ import annotations

import re
from collections.abc import Collection

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from optuna_nas_morph.errors import WeightsMismatchError
from optuna_nas_morph.ir import Architecture

_WRAPPER = re.compile(r"(^|\.)(module|_orig_mod)\.")
"""What ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile`` put into a name."""


def state_dict_of(network: nn.Module, architecture: Architecture) -> dict[str, Tensor]:
    """A state dict without the prefixes and the counters that wrappers add.

    Raises:
        WeightsMismatchError: If the network is sharded, so that this process holds only a part.
    """
    sharded = [
        type(m).__name__
        for m in network.modules()
        if "FullyShardedDataParallel" in _bases(m) or "FSDPModule" in _bases(m)
    ]
    if sharded:
        raise WeightsMismatchError(
            f"network must be whole on this process but is sharded ({sharded[0]}): gather a full state dict into a "
            "network from suggest_network, and publish that."
        )
    tensors = network.state_dict()
    for prefix, module in network.named_modules():
        if isinstance(module, AveragedModel):
            del tensors[f"{prefix}.n_averaged" if prefix else "n_averaged"]
    return {_plain(n, architecture.params): tensor.detach() for n, tensor in tensors.items()}


def parameters_of(network: nn.Module, architecture: Architecture) -> dict[str, nn.Parameter]:
    """Its parameters by the same names."""
    return {_plain(name, architecture.params): parameter for name, parameter in network.named_parameters()}


def _plain(name: str, known: Collection[str]) -> str:
    """A name without the wrappers in it, from the outermost on; but a node may be called ``module`` itself."""
    while name not in known and (shorter := _WRAPPER.sub(r"\1", name, count=1)) != name:
        name = shorter
    return name


def _bases(module: nn.Module) -> set[str]:
    return {cls.__name__ for cls in type(module).__mro__}
