"""What the finished study of another task is worth: NAS-Bench-201 with `MorphBOSampler(prior_studies=...)`.

    python -m tests.benchmarks.transfer --table cifar10.npz --related cifar100.npz --distant imagenet.npz --seeds 20

Every run searches the same table with the same seed. Before it, another study of --prior-evaluations evaluations is
made, on

related    another table
distant    a third table
permuted   the related table, its values shuffled among the cells: nothing can be learned from it
opposite   the related table, its values negated: what was good is bad

and given to the sampler. So the last two show how soon a harmful prior is outgrown. ``early`` has no prior either, but
as short a startup as samplers with one. For tables see ``python -m tests.benchmarks.nas_bench_201 --help``.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna

from optuna_nas_morph import MorphBOSampler, presets, suggest_architecture
from optuna_nas_morph.presets.nas_bench_201 import to_string
from optuna_nas_morph.sampler import N_STARTUP_AFTER_PRIORS
from tests.benchmarks import runs
from tests.benchmarks.nas_bench_201 import load

ALONE, EARLY = "no prior", "early"
RELATED, DISTANT, PERMUTED, OPPOSITE = "related", "distant", "permuted", "opposite"
ARMS = (ALONE, EARLY, RELATED, DISTANT, PERMUTED, OPPOSITE)
MARKS = (5, 10, 15, 20, 30, 50)


def search(
    table: dict[str, float], n: int, seed: int, priors: Sequence[optuna.Study] = (), n_startup_trials: int = 10
) -> optuna.Study:
    """A study of so many evaluations."""
    space = presets.nas_bench_201()

    def objective(trial: optuna.Trial) -> float:
        return table[to_string(suggest_architecture(trial, space))]

    sampler = MorphBOSampler(
        seed=seed, prior_studies=priors, n_startup_trials=n_startup_trials, warn_independent_sampling=False
    )
    return runs.optimise(sampler, objective, n)


def prior_table(arm: str, related: Path, distant: Path | None, seed: int) -> dict[str, float]:
    """What the earlier study searches."""
    if arm == DISTANT:
        assert distant is not None
        return load(distant, "val")
    table = load(related, "val")
    values = np.array(list(table.values()))
    if arm == PERMUTED:
        values = np.random.default_rng(seed).permutation(values)
    if arm == OPPOSITE:
        values = -values
    return dict(zip(table, values.tolist(), strict=True))


def run(path: Path, related: Path, distant: Path | None, n: int, n_prior: int, arm: str, seed: int) -> runs.Record:
    table = load(path, "val")
    if arm in (ALONE, EARLY):
        study = search(table, n, seed, n_startup_trials=N_STARTUP_AFTER_PRIORS if arm == EARLY else 10)
    else:
        study = search(table, n, seed, [search(prior_table(arm, related, distant, seed), n_prior, 1000 + seed)])
    return {"values": [t.value for t in study.get_trials(deepcopy=False)]}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True, help="what is searched")
    parser.add_argument("--related", type=Path, required=True, help="what was searched before")
    parser.add_argument("--distant", type=Path, help="another table that was searched before")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--evaluations", type=int, default=50)
    parser.add_argument("--prior-evaluations", type=int, default=50)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--jobs", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--out", type=Path, help="JSON-lines file that runs are added to; what it has is not run again")
    args = parser.parse_args(argv)
    arms = [arm for arm in args.arms if arm != DISTANT or args.distant]
    settings = {
        "benchmark": "transfer",
        "tables": [path.name for path in (args.table, args.related, args.distant) if path],
        "evaluations": args.evaluations,
        "prior": args.prior_evaluations,
    }
    sizes = args.evaluations, args.prior_evaluations
    records = runs.run_all(
        functools.partial(run, args.table, args.related, args.distant, *sizes),
        arms,
        args.seeds,
        settings=settings,
        jobs=args.jobs,
        out=args.out,
    )
    best = max(load(args.table, "val").values())
    regret = {arm: best - curve for arm, curve in runs.curves(records, arms).items()}
    marks = [mark for mark in MARKS if mark <= args.evaluations]
    rows = []
    for arm in arms:
        row = [arm]
        for mark in marks:
            values = regret[arm][:, mark - 1]
            row.append(f"{values.mean():.3f} ± {values.std():.3f}")
            if arm != arms[0]:
                row[-1] += f" ({runs.difference(values, regret[arms[0]][:, mark - 1], 2)})"
        rows.append([*row, f"{np.mean(regret[arm][:, -1] < 1e-6):.2f}"])
    header = ["", *(f"after {mark}" for mark in marks), "at best"]
    runs.print_table(
        f"Simple regret in %, mean ± standard deviation of {args.seeds} seeds (difference to {arms[0]}, 95 %)",
        header,
        rows,
    )


if __name__ == "__main__":
    main()
