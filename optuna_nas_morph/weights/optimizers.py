"""What an optimizer of PyTorch's remembers: read by the names of parameters, and given to another optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from optuna_nas_morph.weights.moments import Moments

_SETTINGS: dict[type[Optimizer], tuple[str, ...]] = {
    SGD: ("momentum", "dampening", "maximize"),
    Adam: ("betas", "amsgrad", "maximize"),
    AdamW: ("betas", "amsgrad", "maximize"),
}
"""The optimizers whose moments can be inherited, and the settings that say what the moments are."""


def describe(optimizer: Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Any]:
    """What an optimizer's moments of a network's parameters are: its class and what it averages, as JSON.

    Moments may pass between optimizers for which this is equal. Learning rate, weight decay and the implementation
    (``foreach``, ``fused``) are no part of it.

    Raises:
        TypeError: If the optimizer is none of SGD, Adam and AdamW.
        ValueError: If it averages differently in different groups of parameters, or trains none of the named ones.
    """
    cls = next((cls for cls in type(optimizer).__mro__ if cls in _SETTINGS), None)
    if cls is None:
        known = ", ".join(cls.__name__ for cls in _SETTINGS)
        raise TypeError(f"optimizer must be one of {known} but got {type(optimizer).__name__}.")
    first, *others = [{name: _plain(group[name]) for name in _SETTINGS[cls]} for group in optimizer.param_groups]
    for other in others:
        if other != first:
            raise ValueError(f"optimizer must average alike in all groups but got {first} and {other}.")
    if not _names(optimizer, parameters):
        raise ValueError("optimizer must be of the network's parameters but holds none of them.")
    return {"class": cls.__name__, **first}


def read(optimizer: Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, dict[str, Tensor]]:
    """The moments that an optimizer holds of the named parameters; others that it trains are left out."""
    state = optimizer.state_dict()["state"]
    result: dict[str, dict[str, Tensor]] = {}
    for position, name in _names(optimizer, parameters).items():
        for moment, tensor in state.get(position, {}).items():
            result.setdefault(moment, {})[name] = tensor
    return result


def write(optimizer: Optimizer, parameters: Mapping[str, nn.Parameter], moments: Moments) -> None:
    """Give an optimizer moments of the named parameters, in place of all that it holds, on each parameter's device."""
    state = {
        position: {moment: tensors[name] for moment, tensors in moments.items() if name in tensors}
        for position, name in _names(optimizer, parameters).items()
    }
    content = optimizer.state_dict()
    optimizer.load_state_dict({**content, "state": {k: known for k, known in state.items() if known}})


def _names(optimizer: Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[int, str]:
    """Names of the parameters by their position in the optimizer's state dict."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {position: names[id(parameter)] for position, parameter in enumerate(trained) if id(parameter) in names}


def _plain(setting: Any) -> Any:
    """A setting as JSON gives it back; PyTorch takes numbers as tensors too."""
    if isinstance(setting, tuple | list):
        return [_plain(part) for part in setting]
    return float(setting) if isinstance(setting, Tensor) else setting
