"""Memory that training takes: estimated before, measured during, and learned from where it runs out."""

from __future__ import annotations

import gc
import math
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields

import optuna
import torch
from optuna.trial import BaseTrial
from torch import nn

from optuna_nas_morph import lineage
from optuna_nas_morph.capacity import Device, MemoryFact, Training, capacity, usual_training
from optuna_nas_morph.ir import Architecture

OPTIMIZERS = {"sgd": 0, "momentum": 1, "adam": 2}
"""Numbers per parameter that optimizers keep: SGD without and with momentum, and Adam in all its forms."""


# Before training.


@dataclass(frozen=True)
class Estimate:
    """Bytes that training a network takes, by what they hold.

    Args:
        activations:
            Tensors that autograd saves for the backward pass, network inputs among them, but neither parameters nor
            buffers.
        parameters:
            Parameters.
        gradients:
            Their gradients.
        optimizer:
            What the optimizer keeps.
        buffers:
            Buffers, such as running statistics.
        inputs:
            The part of a batch that autograd does not save.
    """

    activations: int
    parameters: int
    gradients: int
    optimizer: int
    buffers: int
    inputs: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(getattr(self, field.name) for field in fields(self))


def estimate(
    network: Architecture | nn.Module,
    batch_size: int,
    *,
    optimizer: str | torch.optim.Optimizer = "adam",
    dtype: torch.dtype | None = None,
) -> Estimate:
    """Estimate the memory that training a network takes, without building it.

    ``activations`` are exactly what autograd saves in eager mode on the CPU, in float32 and float64. On CUDA the mask
    of a dropout takes a quarter of that, and batch norm and attention may keep a few more statistics. Mixed precision,
    checkpointing and compilation save less.
    Not estimated: the loss, gradients of activations (about the largest layers' at the peak), averaged copies of the
    parameters, and what libraries take (the CUDA context, cuDNN's workspaces, fragmentation). The sampler learns from
    measured peaks how much all that is.

    Args:
        network:
            An architecture, or a network from `suggest_network`, wrapped or not.
        batch_size:
            Samples per step.
        optimizer:
            One of `OPTIMIZERS`, or an optimizer of the network. What it keeps is seen from another one of its class and
            settings; where that cannot take a step by itself, as with LBFGS, it counts as Adam, with a warning.
        dtype:
            Type of parameters and activations; by default the network's own, or float32.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If the network is not of an architecture.
    """
    architecture = network if isinstance(network, Architecture) else _architecture_of(network)
    if architecture is None:
        raise TypeError(f"network must be of an Architecture but got {type(network).__name__}.")
    if dtype is None:
        dtype = torch.float32 if isinstance(network, Architecture) else _dtype_of(network)
    return _estimate(architecture, _training(batch_size, optimizer, dtype))


def fits(facts: Sequence[MemoryFact], device: Device) -> Callable[[Architecture], bool]:
    """Whether an architecture can be trained on a device, as far as the facts of a study tell.

    Args:
        facts:
            What earlier trials have shown; how they were trained is how the next one will be.
        device:
            Where it is to be trained.
    """
    training, limit = usual_training(facts, device), capacity(facts, device)
    if training is None or limit == math.inf:
        return lambda architecture: True
    return lambda architecture: _estimate(architecture, training).total <= limit


def _estimate(architecture: Architecture, training: Training) -> Estimate:
    sizes = {"float32": training.float_bytes, "int64": 8, "bool": 1}
    saved = architecture.saved_tensors
    inputs = [architecture.specs[name] for name in architecture.inputs if name not in saved.nodes]
    parameters = training.float_bytes * architecture.n_parameters
    return Estimate(
        activations=training.batch_size * (sizes["float32"] * saved.floats + sizes["int64"] * saved.integers)
        + sizes["float32"] * saved.constants,
        parameters=parameters,
        gradients=parameters,
        optimizer=math.ceil(training.optimizer_copies * parameters),
        buffers=sum(sizes[p.dtype] * math.prod(p.shape) for p in architecture.params.values() if p.buffer),
        inputs=training.batch_size * sum(sizes[spec.dtype] * spec.numel for spec in inputs),
    )


def _training(batch_size: int, optimizer: str | torch.optim.Optimizer, dtype: torch.dtype) -> Training:
    if type(batch_size) is not int or batch_size < 1:
        raise ValueError(f"batch_size must be a positive integer but got {batch_size!r}.")
    if isinstance(optimizer, torch.optim.Optimizer):
        copies = _copies(optimizer)
    elif optimizer in OPTIMIZERS:
        copies = OPTIMIZERS[optimizer]
    else:
        raise ValueError(f"optimizer must be a torch optimizer or one of {sorted(OPTIMIZERS)} but got {optimizer!r}.")
    return Training(batch_size, copies, dtype.itemsize)


def _dtype_of(network: nn.Module) -> torch.dtype:
    return next((p.dtype for p in network.parameters()), torch.float32)


def _copies(optimizer: torch.optim.Optimizer) -> float:
    """Numbers per parameter that an optimizer keeps; as many as Adam's where it does not show."""
    try:
        return _shown_copies(optimizer)
    except Exception as e:  # It may be anybody's code, and an estimate is no reason to end a study.
        name = type(optimizer).__name__
        warnings.warn(
            f"{name} is estimated to keep what Adam does: one like it could not take a step: {e!r}", stacklevel=2
        )
        return OPTIMIZERS["adam"]


def _shown_copies(optimizer: torch.optim.Optimizer) -> float:
    """Numbers per parameter that an optimizer keeps, seen when one like it takes a step with a small matrix."""
    group = {k: v for k, v in optimizer.param_groups[0].items() if k not in ("fused", "foreach", "capturable")}
    probe = nn.Parameter(torch.zeros(32, 32))
    probe.grad = torch.zeros_like(probe)
    twin = type(optimizer)([{**group, "params": [probe]}], lr=group["lr"])  # type: ignore[call-arg]
    twin.step()
    tensors = [value for value in twin.state[probe].values() if isinstance(value, torch.Tensor) and value.dim() > 0]
    return sum(tensor.numel() for tensor in tensors) / probe.numel()


def _architecture_of(network: nn.Module | None) -> Architecture | None:
    """The architecture of a network, also of one wrapped by ``DataParallel``, DDP or ``torch.compile``."""
    while network is not None:
        architecture = getattr(network, "architecture", None)
        if isinstance(architecture, Architecture):
            return architecture
        network = getattr(network, "module", None) or getattr(network, "_orig_mod", None)
    return None


# While training.


@contextmanager
def guard(
    trial: BaseTrial,
    network: nn.Module | None = None,
    *,
    batch_size: int | None = None,
    optimizer: str | torch.optim.Optimizer = "adam",
) -> Iterator[None]:
    """Train inside of it: running out of memory then ends the trial, not the study, and the search learns from it.

    Records ``nasmorph:mem`` (device, its memory, estimate, measured peak), from which `MorphBOSampler` derives, for
    each device by itself, what may be proposed. Where memory runs out it records ``nasmorph:oom`` (the reason) as well,
    gives back what PyTorch holds, and raises :class:`optuna.TrialPruned`, a state that stops no study (an error does,
    unless ``study.optimize`` is told to catch it). A trial that is pruned before it has reported a value has none: to
    `MorphBOSampler` it says nothing about how good an architecture is. Where a trial is pruned for another reason it
    counts as trained if it has reported a value inside of the guard; else nothing is recorded.

    The peak is measured on CUDA, and is that of the process: two trials at once on one GPU in one process blur it. On
    other devices the estimate alone is recorded. Where the operating system kills a process that runs out of memory,
    as Linux often does on the CPU, nothing can be recorded.

    Args:
        trial:
            The running trial. For a :class:`~optuna.trial.FixedTrial` or :class:`~optuna.trial.FrozenTrial` nothing is
            recorded and errors stay as they are.
        network:
            The network. For one that is not from `suggest_network` there is no estimate.
        batch_size:
            Samples per step; without it there is no estimate.
        optimizer:
            As in `estimate`.

    Raises:
        TrialPruned: Where memory runs out.
    """
    if not isinstance(trial, optuna.Trial):
        yield
        return
    architecture = _architecture_of(network)
    training, estimated = None, None
    if network is not None and architecture is not None and batch_size is not None:
        training = _training(batch_size, optimizer, _dtype_of(network))
        estimated = _estimate(architecture, training).total

    def fact(failed: bool) -> MemoryFact:
        # Asked for at the end: the network may be moved to its device inside of the guard.
        device = _device_of(network)
        return MemoryFact(describe(device), failed, training, estimated, _peak_of(device))

    n_reported = _n_reported(trial)
    free_memory()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        for i in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(i)
    try:
        yield
    except optuna.TrialPruned:
        if _n_reported(trial) > n_reported:  # Before its first report nobody knows whether it has been trained.
            lineage.record_memory(trial, fact(failed=False), None)
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error)
        traceback.clear_frames(error.__traceback__)  # Their variables hold what is to be freed.
    else:
        lineage.record_memory(trial, fact(failed=False), None)
        return
    lineage.record_memory(trial, fact(failed=True), reason)
    free_memory()
    raise optuna.TrialPruned(f"Out of memory on {describe(_device_of(network)).name}: {reason}")


def _n_reported(trial: optuna.Trial) -> int:
    """How many values a trial has; a retry may begin with some."""
    return len(trial.storage.get_trial(trial._trial_id).intermediate_values)


def free_memory() -> None:
    """Give back what PyTorch holds without using it.

    Python's garbage comes first: an exception and the frames that it came through hold each other, and so the network
    of a trial that was pruned.
    """
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


# Devices.


def describe(device: str | torch.device) -> Device:
    """A device of this process by its name in PyTorch, such as ``"cuda:1"``.

    Raises:
        RuntimeError: If there is no such device.
    """
    device = torch.device(device)
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return Device("cuda", properties.name, properties.total_memory)
    if device.type == "mps":
        return Device("mps", "mps", torch.mps.recommended_max_memory())
    # Windows does not say: there is then no limit but what has failed.
    has_sizes = hasattr(os, "sysconf")
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if has_sizes else sys.maxsize
    return Device(device.type, device.type, total)


def current_device() -> Device:
    """Where a worker trains unless it says otherwise: on the current GPU, where there is one."""
    if torch.cuda.is_available():
        return describe(torch.device("cuda", torch.cuda.current_device()))
    return describe("mps" if torch.backends.mps.is_available() else "cpu")


def _peak_of(device: torch.device) -> int | None:
    """Most bytes that tensors have taken on a device since the last reset; :obj:`None` where nobody counts."""
    return (torch.cuda.max_memory_allocated(device) or None) if device.type == "cuda" else None


def _device_of(network: nn.Module | None) -> torch.device:
    parameter = None if network is None else next(network.parameters(), None)
    if parameter is not None:
        return parameter.device
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


# Errors.

_OUT_OF_MEMORY = re.compile(
    r"\b(CUDA|Cuda|HIP|MPS|XPU)\b.{0,20}\bout of memory"
    r"|DefaultCPUAllocator: (can't allocate|not enough) memory"
    r"|\b(CU|HIP)[A-Z]+_\w*ALLOC(ATION)?_FAILED\b"
    r"|\b(cudaErrorMemoryAllocation|hipErrorOutOfMemory)\b"
    r"|\b(std::bad_alloc|bad allocation)\b"
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error says that a device, or the computer itself, has run out of memory.

    Recognised are :class:`torch.OutOfMemoryError`, :class:`MemoryError`, and errors of PyTorch's CPU allocator, C++
    (``std::bad_alloc``), CUDA, cuBLAS, cuDNN, NCCL, ROCm, Metal and Intel GPUs whose message says that an allocation
    failed; also where one of these is the cause of the error. What can mean other things is not, though want of memory
    may be behind it: ``CUDNN_STATUS_NOT_SUPPORTED``, ``CUBLAS_STATUS_NOT_INITIALIZED``, and ``could not create a
    primitive`` of oneDNN, which is also what one gets where the system forbids generated code.
    """
    while error is not None:
        known = isinstance(error, torch.cuda.OutOfMemoryError | MemoryError)
        if known or (isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error))):
            return True
        error = error.__cause__
    return False
