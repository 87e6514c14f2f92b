"""Samplers where a cell and its training are tuned together.

    python -m tests.benchmarks.joint --seeds 20

The cells are those of NAS-Bench-201, the accuracy is made up, so no data is needed: a cell's own quality (convolutions
on the ways from input to output, a bonus for a residual connection, a fixed random part per way) times how well it is
trained. The best learning rate falls with the number of convolutions, by a factor of 30 from none to six, and is 30
times lower for Adam than for SGD; SGD has a momentum, which is asked for with SGD only, and which interacts with its
learning rate. The best possible value is known and scaled to 1; 0 is the mean over random trials.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna

from optuna_nas_morph import presets, suggest_architecture
from tests.benchmarks import runs

SAMPLERS = (runs.MORPH_BO, runs.GP, runs.TPE_GROUP, runs.EVOLUTION, runs.RANDOM)
LEVELS = (0.8, 0.9, 0.95)

WAYS = (("0-3",), ("0-1", "1-3"), ("0-2", "2-3"), ("0-1", "1-2", "2-3"))  # through a cell
WORTH = {"avg_pool_3x3": 0.2, "nor_conv_1x1": 0.7, "nor_conv_3x3": 1.0}
ADAM_PENALTY = 0.02
SPACE = presets.nas_bench_201()


def quality(cell: Mapping[str, str]) -> float:
    """What a cell reaches at its best training: from 0, if it lets nothing through, to about 1.

    A function of what the cell computes: of the operations along each way, without identities.
    """
    ways = [[cell[edge] for edge in way] for way in WAYS]
    open_ways = [tuple(op for op in way if op != "skip_connect") for way in ways if "none" not in way]
    if not open_ways:
        return 0.0
    depth = max(sum(WORTH[op] for op in way) for way in open_ways)
    breadth = math.tanh(sum(sum(WORTH[op] for op in way) / max(1, len(way)) for way in open_ways))
    residual = () in open_ways and depth > 1
    taste = sum(_taste(way) for way in open_ways)
    return max(0.0, 0.1 + 0.4 * (1 - math.exp(-depth)) + 0.4 * breadth + 0.1 * residual + taste)


@functools.cache
def _taste(way: tuple[str, ...]) -> float:
    """A small part without reason, so that the best cell is not the one that anybody would guess."""
    return float(np.random.default_rng(list("/".join(way).encode())).normal(0, 0.03))


def accuracy(cell: Mapping[str, str], training: Mapping[str, Any]) -> float:
    """The made-up accuracy."""
    n_convolutions = sum("conv" in label for label in SPACE.cell(cell).graph.labels)
    best_lr = -0.5 - 1.5 * n_convolutions / 6  # on a scale of powers of ten
    loss = (math.log10(training["weight_decay"]) + 4) ** 2 / 20
    if training["optimizer"] == "adam":
        loss += ADAM_PENALTY
        best_lr -= 1.5
    else:
        # What counts is the step in the end, lr / (1 - momentum), seen from the usual 0.9.
        best_lr += math.log10((1 - training["momentum"]) / 0.1)
        loss += (training["momentum"] - 0.9) ** 2
    loss += (math.log10(training["lr"]) - best_lr) ** 2 / 2
    return quality(cell) * math.exp(-loss)


@functools.cache
def best_accuracy() -> float:
    """Every loss is 0 for SGD with the best settings, whatever the cell: so that of the best cell."""
    return max(quality(SPACE.choices_of(cell)) for cell in SPACE.members())


def suggest_training(trial: optuna.trial.BaseTrial) -> dict[str, Any]:
    training = {
        "lr": trial.suggest_float("lr", 1e-5, 1.0, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True),
        "optimizer": trial.suggest_categorical("optimizer", ("sgd", "adam")),
    }
    if training["optimizer"] == "sgd":
        training["momentum"] = trial.suggest_float("momentum", 0.0, 0.99)
    return training


@functools.cache
def mean_of_random() -> float:
    study = runs.optimise(optuna.samplers.RandomSampler(seed=0), objective, 1000)
    return float(np.mean([t.value for t in study.get_trials(deepcopy=False)]))


def objective(trial: optuna.Trial) -> float:
    return accuracy(suggest_architecture(trial, SPACE), suggest_training(trial))


def run(n: int, sampler: str, seed: int) -> runs.Record:
    study = runs.optimise(runs.SAMPLERS[sampler](seed), objective, n)
    return {"values": [t.value for t in study.get_trials(deepcopy=False)]}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    runs.add_arguments(parser, samplers=SAMPLERS, seeds=20, evaluations=150)
    parser.add_argument(
        "--levels", type=float, nargs="+", default=LEVELS, help="shares of the best (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    settings = {"benchmark": "joint", "evaluations": args.evaluations}
    records = runs.run_all(
        functools.partial(run, args.evaluations),
        args.samplers,
        args.seeds,
        settings=settings,
        jobs=args.jobs,
        out=args.out,
    )
    low, high = mean_of_random(), best_accuracy()
    curves = {name: (curve - low) / (high - low) for name, curve in runs.curves(records, args.samplers).items()}
    levels = {f"{level:.0%}": level for level in args.levels}
    runs.print_levels(f"Cell and training together, {args.seeds} seeds, best possible 1", curves, levels)
    if args.plot:
        runs.plot(args.plot, "Cell and training together", "best so far", curves)


if __name__ == "__main__":
    main()
