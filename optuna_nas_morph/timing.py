"""How long a network takes, measured."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.nets import Network, example_inputs, unwrapped


@dataclass(frozen=True)
class Latency:
    """Times of a forward pass.

    Args:
        median:
            Median over the measurements, in seconds.
        iqr:
            Their interquartile range, in seconds: where it is not far below the median, something else was running.
        n_measurements:
            How many there are; each is the mean over several passes.
        batch_size:
            Samples per pass.
        device:
            Where it was measured.
    """

    median: float
    iqr: float
    n_measurements: int
    batch_size: int
    device: str

    def __str__(self) -> str:
        spread = f"interquartile range {1e3 * self.iqr:.3g} ms, {self.n_measurements} measurements"
        return f"{1e3 * self.median:.3g} ms for a batch of {self.batch_size} on {self.device} ({spread})"


def latency(
    network: nn.Module | Architecture,
    batch_size: int = 1,
    *,
    inputs: Sequence[Tensor] | None = None,
    device: torch.device | str | None = None,
    n_threads: int = 1,
    min_run_time: float = 0.5,
) -> Latency:
    """Measure a forward pass in eval mode and without gradients.

    Times depend on the machine and on what else it does, so they belong into a constraint or an objective of a study
    whose workers are alike; parameters, FLOPs and activation bytes of an `Architecture` do not. In an objective::

        seconds = latency(network, device="cpu").median
        trial.set_constraint("latency", seconds - 0.005)  # at most 5 ms, or
        return accuracy, seconds  # directions=["maximize", "minimize"]

    Args:
        network:
            What to measure: a `Network`, wrapped or not, any module together with ``inputs``, or an architecture, whose
            weights do not matter. It keeps its mode and its place.
        batch_size:
            Samples per pass.
        inputs:
            What to call the network with; by default a random batch of its input shapes.
        device:
            Where to measure; by default where the network is. A network from elsewhere is copied there.
        n_threads:
            Threads of PyTorch on the CPU.
        min_run_time:
            Seconds to measure for, at least.

    Returns:
        Median and spread.

    Raises:
        TypeError: If ``inputs`` are left out and there is no `Network`.
        ValueError: If an argument is out of range.
    """
    if type(batch_size) is not int or batch_size < 1:
        raise ValueError(f"batch_size must be a positive integer but got {batch_size!r}.")
    if type(n_threads) is not int or n_threads < 1:
        raise ValueError(f"n_threads must be a positive integer but got {n_threads!r}.")
    if not min_run_time > 0:
        raise ValueError(f"min_run_time must be a positive number of seconds but got {min_run_time!r}.")
    module = Network(network) if isinstance(network, Architecture) else network
    here = next((t.device for t in module.state_dict().values()), torch.device("cpu"))
    there = torch.device(device) if device is not None else here
    if there != here:
        module = copy.deepcopy(module).to(there)
    batch = example_inputs(unwrapped(module).architecture, batch_size) if inputs is None else inputs
    names = {"network": module, "inputs": [x.to(there) for x in batch]}
    timer = Timer("network(*inputs)", globals=names, num_threads=n_threads)
    with torch.inference_mode(), _in_eval_mode(module):
        measured = timer.blocked_autorange(min_run_time=min_run_time)
    return Latency(measured.median, measured.iqr, len(measured.times), len(batch[0]), str(there))


@contextmanager
def _in_eval_mode(network: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
