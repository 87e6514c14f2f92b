"""The estimate of memory against what a step of training takes, and a limit on bytes against one on parameters.

    python -m tests.benchmarks.memory --networks 40 --seeds 20

Random networks of several presets take a step of training on the CPU (Adam), and PyTorch's profiler says what was
allocated at the peak. Then devices of different sizes are simulated, on which a training fails if its measured peak is
larger. The same rule learns from the same networks in the same order, once from estimates of bytes and once from
numbers of parameters, with peaks that can be measured (CUDA) and without: how many trainings fail, and what share of
the networks that fit is refused once half of them have been seen.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from optuna_nas_morph import Architecture, Network, presets
from optuna_nas_morph.capacity import Device, MemoryFact, Training, capacity
from optuna_nas_morph.memory import estimate
from optuna_nas_morph.nets import example_inputs

BATCH_SIZE = 64
TRAINING = Training(BATCH_SIZE, 2, 4)
SPACES = {
    "cnn": presets.cnn((3, 16, 16), 10),
    "resnet": presets.resnet((3, 16, 16), 10),
    "densenet": presets.densenet((3, 16, 16), 10),
    "conv1d": presets.conv1d((3, 128), 10),
    "mlp": presets.mlp((256,), 10),
    "mobilenet": presets.mobilenet((3, 16, 16), 10),
    "convnext": presets.convnext((3, 16, 16), 10),
    "vit": presets.vit((3, 16, 16), 10),
    "text": presets.text_transformer((64,), 10, n_tokens=1000),
}


@dataclass(frozen=True)
class Measured:
    """A network: its preset, its number of parameters, and bytes as estimated and as measured at the peak."""

    preset: str
    parameters: int
    estimate: int
    peak: int


def peak_of_a_step(architecture: Architecture) -> int:
    """Bytes allocated at the peak of a step of training, parameters, gradients and Adam's moments included."""
    network = Network(architecture)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, foreach=False)
    inputs = example_inputs(architecture, BATCH_SIZE)
    labels = torch.zeros(BATCH_SIZE, dtype=torch.long)

    def step() -> None:
        optimizer.zero_grad(set_to_none=False)
        F.cross_entropy(network(*inputs), labels).backward()
        optimizer.step()

    step()  # Gradients and moments exist from here on.
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    assert profile.profiler is not None
    events = profile.profiler.kineto_results.events()
    memory = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    held = sum(t.nbytes for t in (*network.parameters(), *network.buffers())) + 3 * sum(
        p.nbytes for p in network.parameters()
    )
    return held + int(max(np.cumsum([n for _, n in memory]), default=0))


def measure(n: int, rng: np.random.Generator) -> list[Measured]:
    found = []
    for preset, space in SPACES.items():
        for _ in range(n):
            architecture = space.random_lineage(rng)[-1].architecture
            total = estimate(architecture, BATCH_SIZE).total
            found.append(Measured(preset, architecture.n_parameters, total, peak_of_a_step(architecture)))
    return found


def learn(networks: Sequence[Measured], sizes: Sequence[int], total: int, measured: bool) -> tuple[int, float]:
    """Failures, and the share of fitting networks in the second half that the limit refuses."""
    device = Device("cuda", "simulated", total)
    facts: list[MemoryFact] = []
    refused = []
    for i, (network, size) in enumerate(zip(networks, sizes, strict=True)):
        fits = network.peak <= total
        tried = size <= capacity(facts, device)
        if tried:
            facts.append(MemoryFact(device, not fits, TRAINING, size, network.peak if fits and measured else None))
        if fits and 2 * i >= len(networks):
            refused.append(not tried)
    return sum(f.failed for f in facts), float(np.mean(refused)) if refused else 0.0


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=40, help="of each preset")
    parser.add_argument("--seeds", type=int, default=20, help="orders of the networks")
    args = parser.parse_args(argv)

    networks = measure(args.networks, np.random.default_rng(0))
    print("peak / estimate".ljust(20), "  5 %  median  95 %")
    for preset in SPACES:
        low, median, high = np.quantile(
            [m.peak / m.estimate for m in networks if m.preset == preset], [0.05, 0.5, 0.95]
        )
        print(f"{preset:20} {low:5.2f} {median:7.2f} {high:5.2f}")

    print("\ndevice (networks that fit)   limit on           failures      fitting ones refused")
    smallest = min(networks, key=lambda m: m.peak)  # as a search begins with its seed
    for share in (0.25, 0.5, 0.75):
        total = int(np.quantile([m.peak for m in networks], share))
        for name, measured in (("estimate", True), ("estimate", False), ("parameters", False)):
            runs = []
            for seed in range(args.seeds):
                order = np.random.default_rng(seed).permutation(len(networks))
                shuffled = [smallest, *(networks[i] for i in order)]
                runs.append(learn(shuffled, [getattr(m, name) for m in shuffled], total, measured))
            failures, refused = np.array(runs).T
            print(
                f"{total / 2**20:8.1f} MiB ({share:.0%})".ljust(28),
                f"{name + measured * ', peaks':16} {failures.mean():5.1f} ± {failures.std():4.1f}     "
                f"{refused.mean():6.1%} ± {refused.std():.1%}",
            )


if __name__ == "__main__":
    main()
