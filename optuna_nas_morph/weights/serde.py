"""What a trial publishes, as the bytes of one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import safetensors.torch
import torch

from optuna_nas_morph.errors import WeightsError, WeightsNotFiniteError
from optuna_nas_morph.weights.moments import Moments

MOMENT = "optimizer:"
"""Moments are named ``optimizer:<moment>:<parameter>``; no node has a colon in its name."""

AVERAGE = "average:"
"""Averaged weights are named ``average:<parameter>``."""

_EIGHT_BIT_FLOATS = {torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz}
_FLOATS = {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64} | _EIGHT_BIT_FLOATS
_INTEGERS = {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8}
_STORABLE = _FLOATS | _INTEGERS | {torch.bool}  # What safetensors both writes and reads.


@dataclass(frozen=True)
class Publication:
    """Tensors that belong together.

    Args:
        weights:
            Those that heirs go on from, by name.
        moments:
            What the optimizer remembers, by moment and parameter.
        average:
            Averaged weights, by name; empty where there is no average.
    """

    weights: Mapping[str, torch.Tensor]
    moments: Moments = field(default_factory=dict)
    average: Mapping[str, torch.Tensor] = field(default_factory=dict)


def pack(publication: Publication) -> bytes:
    """Writes a publication.

    Raises:
        WeightsError:
            If a tensor cannot be stored or is not finite. The message names the tensor.
    """
    for name in publication.weights:
        if isinstance(name, str) and name.startswith((MOMENT, AVERAGE)):
            raise WeightsError(f"name of a tensor must start with neither {MOMENT!r} nor {AVERAGE!r} but got {name!r}.")
    tensors = dict(publication.weights)
    for moment, parameters in publication.moments.items():
        tensors |= {f"{MOMENT}{moment}:{name}": tensor for name, tensor in parameters.items()}
    tensors |= {f"{AVERAGE}{name}": tensor for name, tensor in publication.average.items()}
    return safetensors.torch.save({name: _storable_copy(name, tensor) for name, tensor in tensors.items()})


def unpack(body: bytes) -> Publication:
    """Reads a publication. What it raises for bytes that are no safetensors is up to their parser."""
    weights: dict[str, torch.Tensor] = {}
    moments: dict[str, dict[str, torch.Tensor]] = {}
    average: dict[str, torch.Tensor] = {}
    for name, tensor in safetensors.torch.load(body).items():
        if name.startswith(MOMENT):
            moment, _, parameter = name.removeprefix(MOMENT).partition(":")
            moments.setdefault(moment, {})[parameter] = tensor
        elif name.startswith(AVERAGE):
            average[name.removeprefix(AVERAGE)] = tensor
        else:
            weights[name] = tensor
    return Publication(weights, moments, average)


def _storable_copy(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if not isinstance(name, str) or name == "__metadata__":
        raise WeightsError(f"name of a tensor must be a string other than '__metadata__' but got {name!r}.")
    if not isinstance(tensor, torch.Tensor):
        raise WeightsError(f"weights {name!r} must be a torch.Tensor but got {type(tensor).__name__}.")
    if tensor.dtype not in _STORABLE or tensor.layout is not torch.strided or tensor.is_meta:
        raise WeightsError(
            f"weights {name!r} must be dense and of a dtype that safetensors stores "
            f"but got {tensor.dtype}, {tensor.layout}, on {tensor.device}."
        )
    # A copy of its own for each tensor: safetensors refuses tensors that share memory.
    copy = tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    if copy.dtype in _FLOATS:
        values = copy.to(torch.float32) if copy.dtype in _EIGHT_BIT_FLOATS else copy
        n_bad = copy.numel() - int(torch.isfinite(values).sum())
        if n_bad > 0:
            raise WeightsNotFiniteError(
                f"weights {name!r} must be finite but got {n_bad} of {copy.numel()} that are NaN or inf."
            )
    return copy
