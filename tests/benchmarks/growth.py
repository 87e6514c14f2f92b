"""Does a network that grew learn as well as one that was drawn?

    python -m tests.benchmarks.growth --seeds 8
    python -m tests.benchmarks.growth --seeds 8 --series --width 4 --max-parameters 20000

A morphism keeps the function, and by that decides where the training of the child begins. Here nothing is trained
before: of a seed, random morphisms lead from a small network to a larger one, and the larger one is trained in the same
way from

drawn  fresh weights, as from scratch
pairs  fresh weights of the small network, all morphisms replayed on them
copy   the same, where `Widen` copies units
zero   the same, where nobody reads the units that `Widen` adds

So what is compared is the places that growth leads to, and not what was learned on the way. Printed are the accuracies
on training and test data, mean and standard deviation over seeds, and differences to ``drawn``, paired by seed.

Data and other options: see ``python -m tests.benchmarks.inheritance --help``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial

import numpy as np

from optuna_nas_morph import MorphSpace, Network
from optuna_nas_morph.morphisms import Widen, fresh_weights
from optuna_nas_morph.spaces import Step
from optuna_nas_morph.weights.inherit import inherit
from tests.benchmarks import inheritance, runs
from tests.benchmarks.inheritance import Experiment, accuracy

DRAWN = "drawn"
SIDES = ("pairs", "copy", "zero")


def with_side(step: Step, side: str) -> Step:
    """The step with new units of another kind, if it adds any."""
    return replace(step, morphism=replace(step.morphism, side=side)) if isinstance(step.morphism, Widen) else step


def run(e: Experiment, name: str, seed: int) -> runs.Record:
    """The larger network of a seed, trained from where an arm begins."""
    data = e.data()
    space = e.space(data)
    rng = np.random.default_rng(seed)
    member = space.first()
    for _ in range(e.max_morphisms):
        member = space.random_child(member, rng) or member
    weights = fresh_weights(member.architecture if name == DRAWN else space.seed, np.random.default_rng([seed, 1]))
    if name != DRAWN:
        steps = [with_side(step, name) for step in member.steps]
        grown = MorphSpace(
            space.seed,
            tuple(dict.fromkeys(step.morphism for step in steps)),
            max_morphisms=e.max_morphisms,
            max_parameters=e.max_parameters,
        )
        weights = inherit(grown, steps, 0, weights, np.random.default_rng([seed, 2]))
    network = Network(member.architecture)
    network.load_state_dict(weights)
    inheritance.train(network, data, e.epochs, e.lr, (seed, 3), e)
    return {
        "parameters": member.architecture.n_parameters,
        "training": 100 * accuracy(network, data.train),
        "test": 100 * accuracy(network, data.test),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    args = inheritance.parse(["--epochs", "12", *(sys.argv[1:] if arguments is None else arguments)])
    options = vars(args)
    e = Experiment(**{name: options[name] for name in Experiment.__dataclass_fields__})
    records = runs.run_all(
        partial(run, e), [DRAWN, *SIDES], args.seeds, settings=asdict(e), jobs=args.jobs, out=args.out
    )
    by_arm = {
        name: sorted((r for r in records if r["sampler"] == name), key=lambda r: int(r["seed"]))
        for name in (DRAWN, *SIDES)
    }
    rows = []
    for name, mine in by_arm.items():
        row = [name]
        for split in ("training", "test"):
            values, drawn = (np.array([r[split] for r in part]) for part in (mine, by_arm[DRAWN]))
            row += [runs.show(values, 1), runs.difference(values, drawn, digits=1)]
        rows.append(row)
    sizes = [r["parameters"] for r in by_arm[DRAWN]]
    runs.print_table(
        f"{args.seeds} networks of {min(sizes):,} to {max(sizes):,} parameters after {e.epochs} epochs",
        ["", "training %", f"- {DRAWN}", "test %", f"- {DRAWN}"],
        rows,
    )


if __name__ == "__main__":
    with runs.warnings.catch_warnings():
        runs.quiet()
        main()
