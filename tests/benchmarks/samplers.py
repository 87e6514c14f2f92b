"""The quickstart's search with several samplers: the same objective, inheritance included, the same number of trials.

    python -m tests.benchmarks.samplers --seeds 5 --trials 30

Only the proposals differ. Prints, per sampler, the mean and standard deviation over seeds of the best validation
accuracy, of its network's test accuracy, and of the epochs behind it; and the paired differences to random search. The
last row is the seed architecture on its own, trained from scratch for as many epochs as there are behind the best
network of `MorphBOSampler`, with the best of four learning rates.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import optuna
import torch

from optuna_nas_morph import LineagePruner, MorphBOSampler, load_network

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from quickstart import (
    accuracy,
    best_from_scratch,
    digits,
    make_objective,
    small_space,
)  # an example is a script, not a package

SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "MorphBOSampler": lambda seed: MorphBOSampler(seed=seed),
    "TPESampler(group=True)": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True),
    "RandomSampler": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


ALONE = "seed architecture alone"


def run(name: str, seed: int, n_trials: int, epochs: int) -> tuple[float, float, float]:
    """Best validation accuracy, its test accuracy, and the epochs behind its weights."""
    torch.manual_seed(seed)
    data = digits()
    space = small_space()
    study = optuna.create_study(
        direction="maximize", sampler=SAMPLERS[name](seed), pruner=LineagePruner(), study_name=f"digits-{seed}"
    )
    study.optimize(make_objective(space, data, epochs), n_trials=n_trials)
    best = study.best_trial
    network = load_network(study, best)
    return study.best_value, accuracy(network, data.test), float(best.user_attrs["nasmorph:effective_epochs"])


def train_alone(seed: int, epochs: int) -> tuple[float, float, float]:
    """The same figures for the seed architecture, trained from scratch."""
    torch.manual_seed(seed)
    data = digits()
    network = best_from_scratch(small_space(), epochs, data)
    return accuracy(network, data.validation), accuracy(network, data.test), float(epochs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    torch.set_num_threads(1)

    results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in (*SAMPLERS, ALONE)}
    for seed in range(args.seeds):
        for name in SAMPLERS:
            results[name].append(run(name, seed, args.trials, args.epochs))
            print(f"seed {seed} {name:<24} {results[name][-1]}", flush=True)
        results[ALONE].append(train_alone(seed, round(results["MorphBOSampler"][-1][2])))
        print(f"seed {seed} {ALONE:<24} {results[ALONE][-1]}", flush=True)
    print(f"\n{'':<24} {'validation':>16} {'test':>16} {'epochs behind':>16} {'test - random':>16}")
    for name, rows in results.items():
        differences = [a[1] - b[1] for a, b in zip(rows, results["RandomSampler"], strict=True)]
        columns = [[100 * r[0] for r in rows], [100 * r[1] for r in rows], [r[2] for r in rows]]
        cells = [*columns, [100 * d for d in differences]]
        print(f"{name:<24} " + " ".join(f"{statistics.mean(c):>8.2f} ± {statistics.pstdev(c):<5.2f}" for c in cells))


if __name__ == "__main__":
    main()
