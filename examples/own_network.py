"""Grow a network of one's own: a small residual network that has been trained already, written as anybody would.

Run it with ``python examples/own_network.py`` (``pip install optuna-nas-morph[dashboard]``). It keeps everything in
``own_network.db`` and ``optuna-nas-morph/`` in the current directory, and writes the report ``own_network.html``.
"""

from __future__ import annotations

import argparse

import optuna
import torch
from quickstart import (  # the data and the training loop
    Data,
    accuracy,
    digits,
    moving_average,
    n_batches,
    sgd,
    train_one_epoch,
)
from torch import Tensor, nn

from optuna_nas_morph import (
    LineagePruner,
    MorphBOSampler,
    MorphSpace,
    best_network,
    dashboard,
    publish_weights,
    report,
    suggest_network,
)


class Block(nn.Module):
    """A residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(x + self.norm2(self.conv2(y)))


class OwnNetwork(nn.Module):
    """Two blocks of the same width."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU())
        self.blocks = nn.ModuleList([Block(width), Block(width)])
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


def trained_once(data: Data, epochs: int) -> nn.Module:
    """The network that one has; the same one in every process that shares the study."""
    torch.manual_seed(0)
    network = OwnNetwork()
    optimizer = sgd(network, 0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * n_batches(data))
    for _ in range(epochs):
        train_one_epoch(network, optimizer, schedule.step, data)
    return network.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=25)
    parser.add_argument("--epochs", type=int, default=3, help="epochs that every trial trains")
    args = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    data = digits()
    own = trained_once(data, 10)
    space = MorphSpace.from_module(own, data.train[0][:2], max_parameters=60_000)
    print(space.growth)

    def objective(trial: optuna.Trial) -> float:
        network = suggest_network(trial, space)  # the first trial computes what `own` does
        optimizer = sgd(network, trial.suggest_float("lr", 1e-3, 0.3, log=True))
        average = moving_average(network, n_batches(data))
        for epoch in range(args.epochs):
            train_one_epoch(network, optimizer, lambda: average.update_parameters(network), data)
            trial.report(accuracy(average.module, data.validation), epoch)
        publish_weights(trial, network, average=average)
        return accuracy(average.module, data.validation)

    study = optuna.create_study(
        storage="sqlite:///own_network.db",
        study_name="own",
        load_if_exists=True,
        direction="maximize",
        sampler=MorphBOSampler(seed=0),
        pruner=LineagePruner(),
    )
    study.optimize(objective, n_trials=args.trials, callbacks=[dashboard.attach(study)])
    dashboard.attach(study)  # the figures of the end
    report(study, "own_network.html")

    best = best_network(study)
    print(f"\n{'':<40} {'test accuracy':>13} {'parameters':>10}")
    for name, network in (("the network of one's own", own), (f"best, trial {best.trial.number}", best.network)):
        n_parameters = sum(p.numel() for p in network.parameters())
        print(f"{name:<40} {accuracy(network, data.test):>13.1%} {n_parameters:>10,}")
    print("\nAll of the search: own_network.html, or")
    print("optuna-dashboard sqlite:///own_network.db --artifact-dir optuna-nas-morph/weights")


if __name__ == "__main__":
    main()
