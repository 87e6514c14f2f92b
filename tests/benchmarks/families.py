"""A short search in each family of networks, against its seed architecture trained at the same total cost.

    python -m tests.benchmarks.families --seeds 3
    tox run -e bench -- tests.benchmarks.families --families cnn conv1d mlp

Each search is the quickstart's: --trials trials of --epochs epochs with inheritance, the learning rate tuned along. The
seed architecture is trained from scratch for as many FLOPs as the whole search has spent (matrix products, a step
counts three forward passes), or --most-epochs epochs if that is less, with the learning rate of the search's best trial
and with 0.1; the one with the better validation accuracy counts. Reported is test accuracy, chosen by validation
accuracy.

Data: scikit-learn's digits (8 x 8 images), its breast cancer table (30 numbers, 2 classes), and MNIST-1D (series of 40
values; ``pip install mnist1d``).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from sklearn.datasets import load_breast_cancer

from optuna_nas_morph import LineagePruner, MorphBOSampler, MorphSpace, Network, load_network, presets
from optuna_nas_morph.morphisms import fresh_weights
from tests.benchmarks import runs
from tests.benchmarks.inheritance import mnist_1d

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from quickstart import Data, accuracy, digits, make_objective, sgd, train_one_epoch  # a script, not a package


def breast_cancer() -> Data:
    """569 rows of 30 numbers, split into 300, 135 and 134."""
    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = x[order], y[order]
    x = (x - x[:300].mean(0)) / x[:300].std(0)
    inputs, labels = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(y)
    (x1, x2, x3), (y1, y2, y3) = inputs.split([300, 135, 134]), labels.split([300, 135, 134])
    return Data((x1, y1), (x2, y2), (x3, y3))


@dataclass(frozen=True)
class Family:
    """Where to search, and on which data."""

    data: Callable[[], Data]
    space: Callable[[], MorphSpace]


IMAGE: dict[str, Any] = {"input_shape": (1, 8, 8), "n_classes": 10, "max_parameters": 100_000}
FAMILIES: dict[str, Family] = {
    "cnn": Family(digits, lambda: presets.cnn(width=8, depth=2, **IMAGE)),
    "resnet": Family(digits, lambda: presets.resnet(width=8, depth=2, **IMAGE)),
    "densenet": Family(digits, lambda: presets.densenet(**IMAGE)),
    "conv1d": Family(mnist_1d, lambda: presets.conv1d((1, 40), 10, width=4, depth=2, max_parameters=20_000)),
    "mlp": Family(breast_cancer, lambda: presets.mlp((30,), 2, max_parameters=100_000)),
}


def run(trials: int, epochs: int, most_epochs: int, name: str, seed: int) -> runs.Record:
    """Test accuracies in %, parameters, and the epochs that the seed architecture was trained for."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.manual_seed(seed)
    family = FAMILIES[name]
    data, space = family.data(), family.space()
    sampler = MorphBOSampler(seed=seed, warn_independent_sampling=False)
    study = optuna.create_study(
        direction="maximize", sampler=sampler, pruner=LineagePruner(), study_name=f"{name}-{seed}"
    )
    study.optimize(make_objective(space, data, epochs), n_trials=trials)
    best = study.best_trial
    trained = [t for t in study.trials if t.state.is_finished()]
    total = sum(t.user_attrs["nasmorph:flops"] / space.seed.flops * len(t.intermediate_values) for t in trained)
    n_epochs = min(most_epochs, math.ceil(total))
    alone = [train_alone(space, data, n_epochs, lr, seed) for lr in {0.1, best.params["lr"]}]
    return {
        "best %": 100 * accuracy(load_network(study, best), data.test),
        "parameters": best.user_attrs["nasmorph:parameters"],
        "seed %": 100 * max(alone)[1],
        "seed parameters": space.seed.n_parameters,
        "seed epochs": n_epochs,
    }


def train_alone(space: MorphSpace, data: Data, epochs: int, lr: float, seed: int) -> tuple[float, float]:
    """Validation and test accuracy of the seed architecture, trained from scratch."""
    network = Network(space.seed)
    network.load_state_dict(fresh_weights(space.seed, np.random.default_rng(seed)))
    optimizer, schedule = sgd(network, lr, epochs, data)
    for _ in range(epochs):
        train_one_epoch(network, optimizer, schedule, data)
    return accuracy(network, data.validation), accuracy(network, data.test)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--most-epochs", type=int, default=500)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--jobs", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--out", type=Path, help="JSON-lines file that runs are added to; what it has is not run again")
    args = parser.parse_args(arguments)
    settings = {"trials": args.trials, "epochs": args.epochs, "most_epochs": args.most_epochs}
    measure = partial(run, *settings.values())
    records = runs.run_all(measure, args.families, n_seeds=args.seeds, settings=settings, jobs=args.jobs, out=args.out)
    rows = []
    for name in args.families:
        mine = [r for r in records if r["sampler"] == name]

        def column(key: str, mine: Sequence[runs.Record] = mine) -> np.ndarray:
            return np.array([r[key] for r in mine], dtype=float)

        rows.append(
            [
                name,
                f"{column('best %').mean():.2f} ± {column('best %').std():.2f}",
                f"{column('parameters').mean():,.0f}",
                f"{column('seed %').mean():.2f} ± {column('seed %').std():.2f}",
                f"{column('seed parameters').mean():,.0f}",
                f"{column('seed epochs').mean():.0f}",
                f"{(column('best %') - column('seed %')).mean():+.2f}",
            ]
        )
    header = ["", "best of search %", "parameters", "seed architecture %", "parameters", "its epochs", "difference"]
    runs.print_table(f"Test accuracy, {args.seeds} seeds: mean ± standard deviation", header, rows)


if __name__ == "__main__":
    with runs.warnings.catch_warnings():
        runs.quiet()
        main()
