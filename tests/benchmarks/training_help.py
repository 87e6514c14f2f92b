"""What a child gains from its donor's optimizer and from a learning rate that goes on instead of starting again.

    python -m tests.benchmarks.training_help --seeds 8
    python -m tests.benchmarks.training_help --seeds 5 --fashion fashion.npz

A lineage is a small convolutional network that grows: every generation but the first takes two random morphisms,
inherits the weights of the one before and trains on. Of a seed, all arms have the same lineage, fresh weights and
batches; they differ in

- ``moments``: new optimizer in every generation, or `inherit_optimizer`;
- ``schedule``: a cosine from the full learning rate to 0 in every generation (restart); one cosine over the whole
  lineage, in which a generation begins at its `inherited_epochs` (continue); or the full learning rate all the time,
  with the network judged by a moving average of its weights over an epoch, and the next generation going on from the
  weights themselves (average: ``publish_weights(..., average=...)``).

Every arm has every learning rate; the table has each arm at its own best one by the validation accuracy of the last
generation, mean over seeds. Printed are means and standard deviations over seeds: of the test accuracy of the last
generation and of the mean over all generations, the test cross-entropy of the last, and the training loss of its first
ten steps; then paired differences.

Data: scikit-learn's digits, or Fashion-MNIST as an .npz of ``x_train`` (60000, 28, 28), ``y_train``, ``x_test`` and
``y_test`` in uint8 (https://github.com/zalandoresearch/fashion-mnist), averaged to 14 x 14 pixels, the first
``--train-images``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from optuna_nas_morph import (
    MorphSpace,
    encoding,
    inherit_optimizer,
    inherited_epochs,
    presets,
    publish_weights,
    suggest_network,
)
from optuna_nas_morph.spaces import Descendant
from tests.benchmarks import runs

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from fashion_mnist import from_npz
from quickstart import Data, digits, moving_average  # examples are scripts, not a package

BATCH_SIZE = 50
MORPHISMS_PER_GENERATION = 2
SCHEDULES = ("restart", "continue", "average")
OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], tuple[float, ...]]] = {
    "SGD": (partial(torch.optim.SGD, momentum=0.9, weight_decay=1e-4), (0.03, 0.1, 0.3)),
    "AdamW": (partial(torch.optim.AdamW, weight_decay=1e-2), (0.003, 0.01, 0.03)),
}


@dataclass(frozen=True)
class Arm:
    """How the generations of a lineage are trained."""

    optimizer: str
    lr: float
    schedule: str
    moments: str

    @property
    def name(self) -> str:
        return f"{self.optimizer}, {self.schedule}, moments {self.moments}"


def arms(optimizers: Sequence[str]) -> list[Arm]:
    """All of these optimizers."""
    return [
        Arm(optimizer, lr, schedule, moments)
        for optimizer, (_, lrs) in OPTIMIZERS.items()
        if optimizer in optimizers
        for schedule, moments, lr in itertools.product(SCHEDULES, ("new", "inherited"), lrs)
    ]


def fashion(path: Path, n_train: int) -> Data:
    """A part of Fashion-MNIST at half its resolution."""
    x, y, x_test, y_test = from_npz(path)

    def ready(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return F.avg_pool2d((images.float().unsqueeze(1) / 255 - 0.286) / 0.353, 2), labels.long()

    return Data(ready(x[:n_train], y[:n_train]), ready(x[-2000:], y[-2000:]), ready(x_test[:4000], y_test[:4000]))


def lineage(space: MorphSpace, n_generations: int, seed: int) -> list[Descendant]:
    """The seed architecture and its descendants."""
    rng = np.random.default_rng(seed)
    result = [space.first()]
    while len(result) < n_generations:
        child = result[-1]
        for _ in range(MORPHISMS_PER_GENERATION):
            child = space.random_child(child, rng) or child
        result.append(child)
    return result


def evaluate(network: nn.Module, split: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Accuracy and mean cross-entropy."""
    x, y = split
    network.eval()
    with torch.no_grad():
        scores = torch.cat([network(part) for part in x.split(500)])
    return float((scores.argmax(1) == y).float().mean()), float(F.cross_entropy(scores, y))


def run(arm: Arm, seed: int, data: Data, n_generations: int, epochs: int) -> dict[str, Any]:
    """Train a lineage; validation and test accuracy per generation, and losses of the last one."""
    x, y = data.train
    space = presets.cnn(tuple(x.shape[1:]), 10, width=8, depth=2, max_parameters=60_000, max_morphisms=20)
    steps = math.ceil(len(x) / BATCH_SIZE)
    make, _ = OPTIMIZERS[arm.optimizer]
    validation: list[float] = []
    test: list[tuple[float, float]] = []
    first_losses: list[float] = []

    def objective(trial: optuna.Trial) -> float:
        network = suggest_network(trial, space, budget=epochs)
        optimizer = make(network.parameters(), lr=arm.lr)
        if arm.moments == "inherited":
            inherit_optimizer(trial, network, optimizer)
        start, horizon = {
            "restart": (0, epochs),
            "continue": (inherited_epochs(trial), n_generations * epochs),
            "average": (0, math.inf),
        }[arm.schedule]
        schedule = LambdaLR(
            optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(1, (start + step / steps) / horizon)))
        )
        average = moving_average(network, steps) if arm.schedule == "average" else None
        order = torch.Generator().manual_seed(1000 * seed + trial.number)
        losses: list[float] = []
        for _ in range(epochs):
            network.train()
            for batch in torch.randperm(len(x), generator=order).split(BATCH_SIZE):
                optimizer.zero_grad()
                loss = F.cross_entropy(network(x[batch]), y[batch])
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                if average is not None:
                    average.update_parameters(network)
                losses.append(float(loss.detach()))
        publish_weights(trial, network, epochs=epochs, optimizer=optimizer, average=average)
        first_losses.append(float(np.mean(losses[:10])))
        judged = network if average is None else average.module
        validation.append(evaluate(judged, data.validation)[0])
        test.append(evaluate(judged, data.test))
        return validation[-1]

    # The name seeds the fresh weights and the draws of morphisms.
    study = optuna.create_study(study_name=f"lineage-{seed}", sampler=optuna.samplers.RandomSampler(seed=seed))
    for descendant in lineage(space, n_generations, seed):
        study.enqueue_trial(encoding.encode(space, descendant))
    study.optimize(objective, n_trials=n_generations)
    donors = [t.user_attrs.get("nasmorph:donor") for t in study.trials]
    assert donors == [None, *range(n_generations - 1)]
    return {
        "validation": validation[-1],
        "accuracy": test[-1][0],
        "accuracy of all": float(np.mean([accuracy for accuracy, _ in test])),
        "cross-entropy": test[-1][1],
        "first losses": first_losses[-1],
    }


COLUMNS = {"accuracy": 100.0, "accuracy of all": 100.0, "cross-entropy": 1.0, "first losses": 1.0}
"""What is printed, and in which unit."""


def at_best_lr(records: list[dict[str, Any]]) -> dict[str, tuple[float, dict[str, np.ndarray]]]:
    """Per arm its best learning rate, and per column the figures of all seeds."""
    result: dict[str, tuple[float, dict[str, np.ndarray]]] = {}
    for name in dict.fromkeys(r["arm"] for r in records):
        by_lr: dict[float, list[dict[str, Any]]] = {}
        for record in sorted((r for r in records if r["arm"] == name), key=lambda r: r["seed"]):
            by_lr.setdefault(record["lr"], []).append(record)
        lr = max(by_lr, key=lambda lr: float(np.mean([r["validation"] for r in by_lr[lr]])))
        result[name] = lr, {c: unit * np.array([r[c] for r in by_lr[lr]]) for c, unit in COLUMNS.items()}
    return result


def differences(optimizers: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """What is compared: a title, and the arms with and without it."""
    for optimizer in optimizers:
        for schedule in SCHEDULES:
            base = f"{optimizer}, {schedule}, moments "
            yield f"{optimizer}, {schedule}: moments inherited - new", f"{base}inherited", f"{base}new"
        for moments in ("new", "inherited"):
            arm = f"{optimizer}, {{}}, moments {moments}".format
            for schedule in SCHEDULES[1:]:
                yield f"{optimizer}, moments {moments}: {schedule} - restart", arm(schedule), arm("restart")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS), choices=list(OPTIMIZERS))
    parser.add_argument("--generations", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=3, help="per generation")
    parser.add_argument("--fashion", type=Path, help="npz file; see above")
    parser.add_argument("--train-images", type=int, default=3000, help="of Fashion-MNIST")
    parser.add_argument("--out", type=Path, help="JSON-lines file of single runs, appended to")
    args = parser.parse_args(arguments)
    runs.quiet()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    data = fashion(args.fashion, args.train_images) if args.fashion else digits()

    records: list[dict[str, Any]] = []
    for seed in range(args.seeds):
        for arm in arms(args.optimizers):
            measured = run(arm, seed, data, args.generations, args.epochs)
            records.append({"arm": arm.name, "lr": arm.lr, "seed": seed, **measured})
            if args.out:
                with args.out.open("a") as file:
                    file.write(json.dumps(records[-1]) + "\n")
        print(f"seed {seed} done", flush=True)

    show = partial(runs.show, digits=3)
    best = at_best_lr(records)
    rows = [[name, f"{lr:g}", *map(show, columns.values())] for name, (lr, columns) in best.items()]
    runs.print_table("Each arm at its best learning rate", ["", "lr", *COLUMNS], rows)
    rows = [
        [title, *(show(best[with_it][1][c] - best[without][1][c], sign="+") for c in COLUMNS)]
        for title, with_it, without in differences(args.optimizers)
    ]
    runs.print_table("Paired differences", ["", *COLUMNS], rows)


if __name__ == "__main__":
    main()
