"""Grow a small convolutional network on scikit-learn's handwritten digits.

Run it with ``python examples/quickstart.py``. It keeps everything in ``quickstart.db`` and ``optuna-nas-morph/`` in the
current directory; run it again and the search goes on.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from optuna_nas_morph import (
    LineagePruner,
    MorphBOSampler,
    MorphSpace,
    Network,
    load_network,
    presets,
    publish_weights,
    suggest_network,
)
from optuna_nas_morph.visualization import lineage_to_svg

EPOCHS = 3
BATCH_SIZE = 50


@dataclass(frozen=True)
class Data:
    """Images and labels, for training, for choosing, and for the final figure."""

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def digits() -> Data:
    """1,797 images of 8 x 8 pixels, split into 1,000, 397 and 400."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    x = torch.as_tensor(images[order] / 16.0, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.as_tensor(labels[order])
    return Data((x[:1000], y[:1000]), (x[1000:1397], y[1000:1397]), (x[1397:], y[1397:]))


def small_space() -> MorphSpace:
    """From a seed of 1,442 parameters to at most 100,000."""
    return presets.cnn(input_shape=(1, 8, 8), n_classes=10, width=8, depth=2, max_parameters=100_000, max_morphisms=20)


# What a user brings: a training loop and an objective.


def train_one_epoch(
    network: nn.Module, optimizer: torch.optim.Optimizer, after_step: Callable[[], object], data: Data
) -> None:
    x, y = data.train
    network.train()
    for batch in torch.randperm(len(x)).split(BATCH_SIZE):
        optimizer.zero_grad()
        F.cross_entropy(network(x[batch]), y[batch]).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        after_step()


def accuracy(network: nn.Module, split: tuple[Tensor, Tensor]) -> float:
    x, y = split
    network.eval()
    with torch.no_grad():
        n_right = sum(int((network(a).argmax(1) == b).sum()) for a, b in zip(x.split(500), y.split(500), strict=True))
    return n_right / len(x)


def n_batches(data: Data) -> int:
    return math.ceil(len(data.train[0]) / BATCH_SIZE)


def sgd(network: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, weight_decay=1e-3)


def moving_average(network: nn.Module, n_steps: float) -> AveragedModel:
    """Of weights and running statistics, exponential, over about so many steps."""
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(1 - 1 / n_steps), use_buffers=True)


def make_objective(space: MorphSpace, data: Data, epochs: int = EPOCHS) -> Callable[[optuna.Trial], float]:
    """Training at a constant learning rate, which children go on with, judged by the average weights of an epoch."""

    def objective(trial: optuna.Trial) -> float:
        network = suggest_network(trial, space)  # carries its parent's weights
        lr = trial.suggest_float("lr", 1e-3, 0.3, log=True)  # tuned jointly with the architecture
        optimizer = sgd(network, lr)
        average = moving_average(network, n_batches(data))
        for epoch in range(epochs):
            train_one_epoch(network, optimizer, lambda: average.update_parameters(network), data)
            trial.report(accuracy(average.module, data.validation), epoch)
            if trial.should_prune():
                publish_weights(trial, network, average=average)
                raise optuna.TrialPruned
        publish_weights(trial, network, average=average)
        return accuracy(average.module, data.validation)

    return objective


# What comes out.


def print_table(study: optuna.Study) -> None:
    print(f"\n{'trial':>5} {'parent':>6} {'parameters':>10} {'inherited':>9} {'lr':>6} {'accuracy':>8}  morphisms")
    print(f"{'':>5} {'':>6} {'':>10} {'(epochs)':>9} {'':>6} {'(valid.)':>8}")
    for trial in study.get_trials(deepcopy=False):
        a = trial.user_attrs
        if "nasmorph:parameters" not in a or trial.value is None:
            continue
        morphisms = a["nasmorph:morphisms"] or ["trained on" if "nasmorph:parent" in a else "seed"]
        more = f" and {len(morphisms) - 3} more" if len(morphisms) > 3 else ""
        marker = "*" if trial.number == study.best_trial.number else " "
        print(
            f"{trial.number:>4}{marker} {a.get('nasmorph:parent', '-'):>6} {a['nasmorph:parameters']:>10,} "
            f"{a['nasmorph:inherited_epochs']:>9g} {trial.params['lr']:>6.3f} {trial.value:>8.1%}  "
            f"{', '.join(morphisms[:3])}{more}"
        )


def best_from_scratch(space: MorphSpace, epochs: int, data: Data) -> Network:
    """The seed architecture, trained without anything inherited, with the best of four learning rates."""
    networks: list[Network] = []
    for lr in (0.01, 0.03, 0.1, 0.3):
        network = suggest_network(optuna.trial.FixedTrial({"arch/n": 0}), space)  # outside of a study: fresh weights
        optimizer = sgd(network, lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * n_batches(data))
        for _ in range(epochs):
            train_one_epoch(network, optimizer, schedule.step, data)
        networks.append(network)
    return max(networks, key=lambda network: accuracy(network, data.validation))


def report(storage: str, study_name: str, space: MorphSpace, data: Data, picture: Path) -> None:
    """Load everything back from disk, and compare the winner with the seed architecture."""
    study = optuna.load_study(storage=storage, study_name=study_name)
    print_table(study)
    best = study.best_trial
    network = load_network(study, best)
    print(f"\nThe best architecture (trial {best.number}):\n\n{network.architecture}\n")

    # Its rival: the seed architecture alone, trained for as many epochs as the winner's whole lineage had.
    epochs = round(best.user_attrs["nasmorph:effective_epochs"])
    rival = best_from_scratch(space, epochs, data)
    first = next(t for t in study.get_trials(deepcopy=False) if t.user_attrs.get("nasmorph:steps") == [])
    rows = (
        (f"best, trial {best.number}, loaded from the store", network, epochs),
        (
            f"seed architecture, trial {first.number}",
            load_network(study, first),
            round(first.user_attrs["nasmorph:effective_epochs"]),
        ),
        ("seed architecture, trained as long as the best's lineage", rival, epochs),
    )
    print(f"{'':<58} {'test accuracy':>13} {'parameters':>10} {'epochs':>6}")
    for name, net, n_epochs in rows:
        print(f"{name:<58} {accuracy(net, data.test):>13.1%} {net.architecture.n_parameters:>10,} {n_epochs:>6}")
    picture.write_text(lineage_to_svg(study))
    print(f"\nIts family tree is drawn in {picture}.")
    print(f"Look at it:  pip install optuna-dashboard && optuna-dashboard {storage}")


def search(storage: str, study_name: str, space: MorphSpace, data: Data, n_trials: int, seed: int, epochs: int) -> None:
    torch.manual_seed(seed)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=storage,
        study_name=study_name,
        load_if_exists=True,
        direction="maximize",
        sampler=MorphBOSampler(seed=seed),
        pruner=LineagePruner(),
    )
    study.optimize(make_objective(space, data, epochs), n_trials=n_trials, show_progress_bar=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="epochs that every trial trains")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--storage", default="sqlite:///quickstart.db")
    args = parser.parse_args()

    torch.set_num_threads(1)  # networks as small as these gain nothing from more
    space, data = small_space(), digits()
    search(args.storage, "digits", space, data, args.trials, args.seed, args.epochs)
    report(args.storage, "digits", space, data, Path("quickstart.svg"))


if __name__ == "__main__":
    main()
