"""A network's tensors by the names that its architecture gives them, whatever it is wrapped in."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from optuna_nas_morph.errors import WeightsMismatchError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.weights.inherit import check_weights

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
            tensors.pop(f"{prefix}.n_averaged" if prefix else "n_averaged", None)
    return {_plain(n, architecture.params): tensor.detach() for n, tensor in tensors.items()}


def average_of(
    average: nn.Module, architecture: Architecture, weights: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    """Averaged weights; :obj:`None` while nothing has been averaged.

    What is not in floating point (an index, a counter) has no average and is taken from the weights themselves.

    Raises:
        WeightsMismatchError: If they are not of the architecture.
    """
    try:
        averaged = state_dict_of(average, architecture)
        check_weights(architecture, averaged)
    except WeightsMismatchError as e:
        raise WeightsMismatchError(f"average must be of the trial's network: {e}") from e
    if any(isinstance(m, AveragedModel) and not m.n_averaged for m in average.modules()):
        return None
    return {name: tensor if tensor.is_floating_point() else weights[name] for name, tensor in averaged.items()}


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
