"""A short search in each family of networks, against its seed architecture trained at the same total cost.

    python -m tests.benchmarks.families --seeds 3
    tox run -e bench -- tests.benchmarks.families --families cnn conv1d mlp

Each search is like the quickstart's: --trials trials of --epochs epochs with inheritance, the learning rate tuned
along; SGD, or AdamW where networks have no batch norms. Its best architecture is also retrained from scratch, for
--retrain-epochs, and the seed architecture is trained from scratch both for as many epochs and for as many FLOPs as the
whole search has spent (matrix products, a step counts three forward passes). From scratch means with the learning rate
of the search's best trial and with a usual one (0.1, or 0.003 with AdamW); the one with the better validation accuracy
counts. Reported is test accuracy, chosen by validation accuracy.

Data: scikit-learn's digits (8 x 8 images), its breast cancer table (30 numbers, 2 classes), MNIST-1D (series of 40
values; ``pip install mnist1d``), and the docstrings of what NumPy, SciPy, scikit-learn and PyTorch export, by package
(first 32 words of each, as installed, so figures differ between versions of these packages).
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from optuna_nas_morph import (
    Architecture,
    LineagePruner,
    MorphBOSampler,
    MorphSpace,
    Network,
    load_network,
    presets,
    publish_weights,
    suggest_network,
)
from optuna_nas_morph.morphisms import fresh_weights
from tests.benchmarks import runs
from tests.benchmarks.inheritance import mnist_1d

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from quickstart import BATCH_SIZE, Data, accuracy, digits, train_one_epoch  # a script, not a package


def breast_cancer() -> Data:
    """569 rows of 30 numbers, split into 300, 135 and 134."""
    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = x[order], y[order]
    x = (x - x[:300].mean(0)) / x[:300].std(0)
    inputs, labels = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(y)
    (x1, x2, x3), (y1, y2, y3) = inputs.split([300, 135, 134]), labels.split([300, 135, 134])
    return Data((x1, y1), (x2, y2), (x3, y3))


MODULES = {
    "numpy": ("numpy", "numpy.linalg", "numpy.fft", "numpy.ma", "numpy.polynomial.polynomial", "numpy.char"),
    "scipy": ("scipy.signal", "scipy.stats", "scipy.optimize", "scipy.special", "scipy.ndimage", "scipy.linalg"),
    "sklearn": ("sklearn.metrics", "sklearn.linear_model", "sklearn.ensemble", "sklearn.datasets", "sklearn.cluster"),
    "torch": ("torch", "torch.nn", "torch.nn.functional", "torch.linalg", "torch.distributions", "torch.optim"),
}
N_WORDS = 500
LENGTH = 32


def docstrings() -> Data:
    """First words of docstrings and the package of each; 60 % to train, 20 % to validate and to test.

    Words are the commonest of the training texts, from 2; 1 is any other, 0 is padding.
    """
    texts: dict[tuple[str, ...], int] = {}
    for label, modules in enumerate(MODULES.values()):
        for name in modules:
            module = importlib.import_module(name)
            documents = (inspect.getdoc(getattr(module, key, None)) for key in sorted(dir(module)) if key[0] != "_")
            for document in documents:
                words = tuple(re.findall(r"[a-z]+", (document or "").lower())[:LENGTH])
                if len(words) >= LENGTH // 2:
                    texts.setdefault(words, label)
    order = np.random.default_rng(0).permutation(len(texts))
    rows = [list(texts.items())[i] for i in order]
    n_train, n_test = 6 * len(rows) // 10, 2 * len(rows) // 10
    sizes = [n_train, len(rows) - n_train - n_test, n_test]
    counts = Counter(word for words, _ in rows[:n_train] for word in words)
    ids = {word: i + 2 for i, (word, _) in enumerate(counts.most_common(N_WORDS - 2))}
    x = torch.zeros(len(rows), LENGTH, dtype=torch.int64)
    for i, (words, _) in enumerate(rows):
        x[i, : len(words)] = torch.tensor([ids.get(word, 1) for word in words])
    y = torch.tensor([label for _, label in rows])
    (x1, x2, x3), (y1, y2, y3) = x.split(sizes), y.split(sizes)
    return Data((x1, y1), (x2, y2), (x3, y3))


@dataclass(frozen=True)
class Family:
    """Where to search, on which data, and how to train."""

    data: Callable[[], Data]
    space: Callable[[], MorphSpace]
    optimizer: type[Optimizer] = SGD


OPTIMIZERS: dict[type[Optimizer], tuple[dict[str, float], tuple[float, float], float]] = {
    SGD: ({"momentum": 0.9, "weight_decay": 1e-4}, (1e-3, 0.3), 0.1),
    AdamW: ({"weight_decay": 1e-2}, (1e-4, 1e-2), 3e-3),
}
"""Of each: its arguments, from where to where learning rates are searched, and a usual one."""

MOST: dict[str, Any] = {"max_morphisms": 12}
IMAGE: dict[str, Any] = {"input_shape": (1, 8, 8), "n_classes": 10, "max_parameters": 100_000} | MOST
FAMILIES: dict[str, Family] = {
    "cnn": Family(digits, lambda: presets.cnn(width=8, depth=2, **IMAGE)),
    "resnet": Family(digits, lambda: presets.resnet(width=8, depth=2, **IMAGE)),
    "densenet": Family(digits, lambda: presets.densenet(**IMAGE)),
    "mobilenet": Family(digits, lambda: presets.mobilenet(width=8, **IMAGE)),
    "convnext": Family(digits, lambda: presets.convnext(width=8, n_stages=2, **IMAGE), AdamW),
    "vit": Family(digits, lambda: presets.vit(**IMAGE), AdamW),
    "text": Family(
        docstrings,
        lambda: presets.text_transformer(
            (LENGTH,), len(MODULES), n_tokens=N_WORDS, depth=1, max_parameters=150_000, **MOST
        ),
        AdamW,
    ),
    "conv1d": Family(mnist_1d, lambda: presets.conv1d((1, 40), 10, width=4, depth=2, max_parameters=20_000, **MOST)),
    "mlp": Family(breast_cancer, lambda: presets.mlp((30,), 2, max_parameters=100_000, **MOST)),
}


def train(family: Family, network: nn.Module, lr: float, epochs: int, data: Data) -> Iterator[float]:
    """Accuracy on the validation split after each epoch; the learning rate falls to 0 along a cosine."""
    kwargs, _, _ = OPTIMIZERS[family.optimizer]
    optimizer = family.optimizer(network.parameters(), lr=lr, **kwargs)  # type: ignore[call-arg]
    n_steps = epochs * math.ceil(len(data.train[0]) / BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for _ in range(epochs):
        train_one_epoch(network, optimizer, schedule.step, data)
        yield accuracy(network, data.validation)


def run(trials: int, epochs: int, retrain_epochs: int, name: str, seed: int) -> runs.Record:
    """Test accuracies in %, parameters, and the epochs that the seed architecture was trained for."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.manual_seed(seed)
    family = FAMILIES[name]
    data, space = family.data(), family.space()
    sampler = MorphBOSampler(seed=seed, warn_independent_sampling=False)
    study = optuna.create_study(
        direction="maximize", sampler=sampler, pruner=LineagePruner(), study_name=f"{name}-{seed}"
    )

    def objective(trial: optuna.Trial) -> float:
        network = suggest_network(trial, space)
        lr = trial.suggest_float("lr", *OPTIMIZERS[family.optimizer][1], log=True)
        value = 0.0
        for epoch, value in enumerate(train(family, network, lr, epochs, data)):
            trial.report(value, epoch)
            if trial.should_prune():
                publish_weights(trial, network)
                raise optuna.TrialPruned
        publish_weights(trial, network)
        return value

    study.optimize(objective, n_trials=trials)
    best = study.best_trial
    trained = [t for t in study.trials if t.state.is_finished()]
    total = sum(t.user_attrs["nasmorph:flops"] / space.seed.flops * len(t.intermediate_values) for t in trained)
    n_epochs = math.ceil(total)
    rates = {OPTIMIZERS[family.optimizer][2], best.params["lr"]}
    found = load_network(study, best)
    again, alone, long = (
        100 * max(train_alone(family, architecture, data, n, lr, seed) for lr in sorted(rates))[1]
        for architecture, n in (
            (found.architecture, retrain_epochs),
            (space.seed, retrain_epochs),
            (space.seed, n_epochs),
        )
    )
    return {
        "best %": 100 * accuracy(found, data.test),
        "retrained %": again,
        "parameters": best.user_attrs["nasmorph:parameters"],
        "seed %": alone,
        "seed at equal cost %": long,
        "seed parameters": space.seed.n_parameters,
        "seed epochs": n_epochs,
    }


def train_alone(
    family: Family, architecture: Architecture, data: Data, epochs: int, lr: float, seed: int
) -> tuple[float, float]:
    """Validation and test accuracy of an architecture that is trained from scratch."""
    network = Network(architecture)
    network.load_state_dict(fresh_weights(architecture, np.random.default_rng(seed)))
    *_, value = train(family, network, lr, epochs, data)
    return value, accuracy(network, data.test)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--retrain-epochs", type=int, default=60)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--jobs", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--out", type=Path, help="JSON-lines file that runs are added to; what it has is not run again")
    args = parser.parse_args(arguments)
    settings = {"trials": args.trials, "epochs": args.epochs, "retrain_epochs": args.retrain_epochs}
    measure = partial(run, *settings.values())
    records = runs.run_all(measure, args.families, n_seeds=args.seeds, settings=settings, jobs=args.jobs, out=args.out)
    rows = []
    for name in args.families:
        mine = [r for r in records if r["sampler"] == name]

        def column(key: str, mine: Sequence[runs.Record] = mine) -> np.ndarray:
            return np.array([r[key] for r in mine], dtype=float)

        seed, found = column("seed at equal cost %"), (column("best %"), column("retrained %"))
        rows.append(
            [
                name,
                *(runs.show(column(key), digits=2) for key in ("best %", "retrained %")),
                f"{column('parameters').mean():,.0f}",
                runs.show(column("seed %"), digits=2),
                runs.show(seed, digits=2),
                f"{column('seed parameters').mean():,.0f}",
                f"{column('seed epochs').mean():.0f}",
                *(runs.difference(values, seed, digits=2) for values in found),
            ]
        )
    header = ["", "best", "retrained", "parameters", "seed", "at equal cost", "parameters", "epochs"]
    header += ["best - equal cost", "retrained - equal cost"]
    runs.print_table(f"Test accuracy, {args.seeds} seeds: mean ± standard deviation", header, rows)


if __name__ == "__main__":
    with runs.warnings.catch_warnings():
        runs.quiet()
        main()
