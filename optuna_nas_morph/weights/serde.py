"""Weights and an optimizer's moments as the bytes of one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping

import safetensors.torch
import torch

from optuna_nas_morph.errors import WeightsError, WeightsNotFiniteError
from optuna_nas_morph.weights.moments import Moments

PREFIX = "optimizer:"
"""Moments are named ``optimizer:<moment>:<parameter>``; no node has a colon in its name."""

_EIGHT_BIT_FLOATS = {torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz}
_FLOATS = {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64} | _EIGHT_BIT_FLOATS
_INTEGERS = {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8}
_STORABLE = _FLOATS | _INTEGERS | {torch.bool}  # What safetensors both writes and reads.


def pack(weights: Mapping[str, torch.Tensor], moments: Moments) -> bytes:
    """Writes weights and moments.

    Raises:
        WeightsError:
            If a tensor cannot be stored or is not finite. The message names the tensor.
    """
    for name in weights:
        if isinstance(name, str) and name.startswith(PREFIX):
            raise WeightsError(f"name of a tensor must not start with {PREFIX!r} but got {name!r}.")
    tensors = dict(weights)
    for moment, parameters in moments.items():
        tensors |= {f"{PREFIX}{moment}:{name}": tensor for name, tensor in parameters.items()}
    return safetensors.torch.save({name: _storable_copy(name, tensor) for name, tensor in tensors.items()})


def unpack(body: bytes) -> tuple[dict[str, torch.Tensor], dict[str, dict[str, torch.Tensor]]]:
    """Reads weights and moments. What it raises for bytes that are no safetensors is up to their parser."""
    weights: dict[str, torch.Tensor] = {}
    moments: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in safetensors.torch.load(body).items():
        if name.startswith(PREFIX):
            moment, _, parameter = name.removeprefix(PREFIX).partition(":")
            moments.setdefault(moment, {})[parameter] = tensor
        else:
            weights[name] = tensor
    return weights, moments


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
