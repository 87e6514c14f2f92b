"""Whether a child that shrank approximately gains from what its parent computed: distillation, before and in training.

    python -m tests.benchmarks.distillation --seeds 8

A parent (`presets.cnn` without batch norm, `presets.resnet` with it) is trained on scikit-learn's digits. Every
morphism that is not exact (LEMONADE's; Elsken et al., ICLR 2019, section 3.1) is applied at one random site, and its
child goes one of these ways, with the same batches:

- ``as it is``: trained on labels for some epochs, 0 included;
- ``distilled first``: 20 steps of Adam on the mean squared difference to the parent's outputs, with batch norms in eval
  mode, on half of a batch of 256 images without labels; the step that is best on the other half is trained as above;
- ``soft targets``: trained on an even mixture of labels and the parent's outputs (Hinton et al., 2015, T = 2);
- ``longer``: as it is, with as many steps more as cost what distilling first does (0 epochs: these steps alone).

Printed are means and standard deviations over seeds of test accuracy in per cent, each seed the mean over its children,
then paired differences, and how far the function moved (`nasmorph:drift`).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from optuna_nas_morph import Architecture, MorphSpace, Network, presets
from optuna_nas_morph.morphisms import DropBranch, DropLayer, MakeSeparable, PruneChannels
from optuna_nas_morph.morphisms.tensors import fresh_weights
from optuna_nas_morph.spaces import Step
from optuna_nas_morph.weights.inherit import inherit
from optuna_nas_morph.weights.probe import drift
from tests.benchmarks import runs

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from quickstart import Data, accuracy, digits  # examples are scripts, not a package

Weights = Mapping[str, Tensor]

SHRINKS = (DropLayer(), DropBranch(), PruneChannels(), MakeSeparable())
BATCH_SIZE = 50
N_PROBE = 256
N_STEPS = 20
TEMPERATURE = 2.0
LONGER = math.ceil(N_STEPS * (N_PROBE // 2 * 3 + N_PROBE // 2) / 3 / BATCH_SIZE)
"""Steps of training that cost what distilling does: 3 for a forward and a backward pass, 1 for the other half."""
AS_IS, DISTILLED, SOFT, LONG = "as it is", "distilled first", "soft targets", "longer"


def network_of(architecture: Architecture, weights: Weights) -> Network:
    network = Network(architecture)
    network.load_state_dict(dict(weights))
    return network


def batches(n: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Rows of epoch after epoch, without an end."""
    while True:
        yield from torch.randperm(n, generator=generator).split(BATCH_SIZE)


def train(
    network: Network, data: Data, epochs: int, lr: float, seed: int, *, more: int = 0, soft: Tensor | None = None
) -> float:
    """Train with SGD along a cosine, ``more`` steps in addition; test accuracy in per cent."""
    x, y = data.train
    order = torch.Generator().manual_seed(seed)
    n_steps = epochs * math.ceil(len(x) / BATCH_SIZE) + more
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    network.train()
    for batch in islice(batches(len(x), order), n_steps):
        scores = network(x[batch])
        loss = F.cross_entropy(scores, y[batch])
        if soft is not None:
            pair = (F.log_softmax(s / TEMPERATURE, 1) for s in (scores, soft[batch]))
            loss = (loss + TEMPERATURE**2 * F.kl_div(*pair, log_target=True, reduction="batchmean")) / 2
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return 100 * accuracy(network, data.test)


def outputs(network: Network, x: Tensor) -> Tensor:
    network.eval()
    with torch.no_grad():
        y: Tensor = network(x)
    return y


def distil(network: Network, probe: Tensor, target: Tensor, lr: float) -> None:
    """Move the weights of a network until it computes ``target``, or as near to it as it got."""
    half = len(probe) // 2
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    network.eval()
    best, kept = math.inf, dict(network.state_dict())
    for step in range(N_STEPS + 1):
        error = (network(probe) - target).square()
        if (held_out := float(error[half:].detach().mean())) < best:
            best, kept = held_out, {name: w.clone() for name, w in network.state_dict().items()}
        if step < N_STEPS:
            optimizer.zero_grad()
            error[:half].mean().backward()
            optimizer.step()
    network.load_state_dict(kept)


def run(seed: int, data: Data, epochs: tuple[int, ...], parent_epochs: int, lr: float, distil_lr: float) -> runs.Record:
    """Means over all children of one seed; keys are a way and its epochs of training."""
    x = data.train[0]
    shape = tuple(x.shape[1:])
    seen: list[dict[str, float]] = []
    for seed_architecture in (presets.cnn(shape, 10, width=8, depth=2).seed, presets.resnet(shape, 10).seed):
        rng = np.random.default_rng(seed)
        space = MorphSpace(seed_architecture, SHRINKS)
        parent = network_of(space.seed, fresh_weights(space.seed, rng))
        of_parent = train(parent, data, parent_epochs, lr, seed)
        before = parent.state_dict()
        soft = outputs(parent, x)
        for morphism in SHRINKS:
            sites = space.sites(space.seed, morphism)
            if not sites:
                continue
            step = Step(morphism, sites[int(rng.integers(len(sites)))])
            child = space.replay((step,))
            after = inherit(space, (step,), 0, before, rng)
            probe = rng.choice(len(x), N_PROBE, replace=False)
            near = network_of(child, after)
            distil(near, x[probe], soft[probe], distil_lr)
            distilled = near.state_dict()
            found = {
                "parent": of_parent,
                "drift": drift(space.seed, before, child, after, data.test[:1]) or 0.0,
                "drift, distilled": drift(space.seed, before, child, distilled, data.test[:1]) or 0.0,
            }
            for n in epochs:
                for way, weights, more, targets in (
                    (AS_IS, after, 0, None),
                    (DISTILLED, distilled, 0, None),
                    (SOFT, after, 0, soft),
                    (LONG, after, LONGER, None),
                ):
                    network = network_of(child, weights)
                    found[f"{way}, {n}"] = train(network, data, n, lr, seed + 1, more=more, soft=targets)
            seen.append(found)
    return {name: float(np.mean([found[name] for found in seen])) for name in seen[0]}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--epochs", type=int, nargs="+", default=[0, 1, 3], help="of children")
    parser.add_argument("--parent-epochs", type=int, default=6)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--distil-lr", type=float, default=1e-3)
    args = parser.parse_args(arguments)
    runs.quiet()
    data = digits()
    records = []
    for seed in range(args.seeds):
        records.append(run(seed, data, tuple(args.epochs), args.parent_epochs, args.lr, args.distil_lr))
        print(f"seed {seed} done", flush=True)
    of = {name: np.array([record[name] for record in records]) for name in records[0]}

    show = partial(runs.show, digits=2)
    print(f"\nparents {show(of['parent'])} %; drift {show(of['drift'])}, distilled {show(of['drift, distilled'])}")
    ways = (AS_IS, DISTILLED, SOFT, LONG)
    header = ["", *(f"{n} epochs" for n in args.epochs)]
    rows = [[way, *(show(of[f"{way}, {n}"]) for n in args.epochs)] for way in ways]
    runs.print_table("Test accuracy", header, rows)
    rows = [[way, *(show(of[f"{way}, {n}"] - of[f"{AS_IS}, {n}"], sign="+") for n in args.epochs)] for way in ways[1:]]
    runs.print_table(f"Differences to {AS_IS}", header, rows)


if __name__ == "__main__":
    main()
