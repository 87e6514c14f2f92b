"""Motif effects on NAS-Bench-201: are they those of the whole table, and do their intervals hold?

    python -m tests.benchmarks.motifs --table nas_bench_201_cifar10.npz --seeds 20 --evaluations 100 300

The table is that of `tests.benchmarks.nas_bench_201`. A search of `MorphBOSampler` evaluates some cells; `explain` then
gives every motif in at least five of them its effect. The true effect is the average over all cells of the table with
the motif minus that over those without, on the scale of the surrogate, `optuna_nas_morph.targets.LogRegret`. Reported
as mean ± standard deviation over seeds:

correlation   of estimated and true effects
coverage      share of the true effects within their 90 % intervals
clear         share of the effects whose interval excludes 0
right sign    of these, the share whose sign is that of the true effect
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
from scipy import stats

from optuna_nas_morph import presets, suggest_architecture
from optuna_nas_morph.interpret.effects import differences, features_of, with_minus_without
from optuna_nas_morph.interpret.model import fit_model, reference_pool
from optuna_nas_morph.kernels import WeisfeilerLehman
from optuna_nas_morph.presets.nas_bench_201 import to_string
from tests.benchmarks import runs
from tests.benchmarks.nas_bench_201 import load

MIN_SUPPORT = 5


@functools.cache
def whole(path: Path, value: str) -> tuple[list[object], np.ndarray]:
    """Graphs and accuracies of all cells of the table."""
    table, space = load(path, value), presets.nas_bench_201()
    cells = list(space.members())
    return [cell.graph for cell in cells], np.array([table[to_string(space.choices_of(cell))] for cell in cells])


def run(path: Path, value: str, n: int, n_pool: int, sampler: str, seed: int) -> runs.Record:
    table, space = load(path, value), presets.nas_bench_201()

    def objective(trial: optuna.Trial) -> float:
        return table[to_string(suggest_architecture(trial, space))]

    study = runs.optimise(runs.SAMPLERS[sampler](seed), objective, n)
    kernel, rng = WeisfeilerLehman(), np.random.default_rng(seed)
    model = fit_model(study, None, 0, kernel, rng)
    pool = reference_pool(model, n_pool, rng)
    graphs, accuracies = whole(path, value)
    everywhere = features_of(kernel, graphs)
    in_pool = features_of(kernel, [member.graph for member in pool.members])
    supported = [
        feature
        for feature, has in features_of(kernel, model.graphs).items()
        if MIN_SUPPORT <= has.sum() <= n - MIN_SUPPORT and feature in in_pool and not in_pool[feature].all()
    ]
    means, deviations = differences(model, pool, np.array([in_pool[feature] for feature in supported]))
    has = np.array([everywhere[feature] for feature in supported])
    truth = with_minus_without(has, np.full(len(graphs), 1 / len(graphs))) @ model.scale.targets(accuracies)
    width = stats.norm.ppf(0.95) * deviations
    clear = np.abs(means) > width
    return {
        "motifs": len(supported),
        "correlation": float(np.corrcoef(means, truth)[0, 1]),
        "coverage": float(np.mean(np.abs(means - truth) < width)),
        "clear": float(clear.mean()),
        "right sign": float(np.mean(np.sign(means) == np.sign(truth), where=clear)),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True, help="the .npz file described above")
    parser.add_argument("--value", choices=("val", "test"), default="val", help="which accuracy is maximised")
    parser.add_argument("--evaluations", type=int, nargs="+", default=[100, 300], help="default: %(default)s")
    parser.add_argument("--pool", type=int, default=1000, help="size of the reference pool (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=20, help="seeds 0 to this number - 1 (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="JSON-lines file that runs are added to; what it has is not run again")
    args = parser.parse_args(argv)
    rows = []
    keys = ("motifs", "correlation", "coverage", "clear", "right sign")
    for n in args.evaluations:
        settings = {
            "benchmark": "motifs",
            "table": args.table.name,
            "value": args.value,
            "evaluations": n,
            "pool": args.pool,
        }
        one = functools.partial(run, args.table, args.value, n, args.pool)
        records = runs.run_all(one, [runs.MORPH_BO], args.seeds, settings=settings, jobs=args.jobs, out=args.out)
        columns = [[r[key] for r in records] for key in keys]
        rows.append((n, *(f"{np.mean(column):.3f} ± {np.std(column):.3f}" for column in columns)))
    runs.print_table(
        f"Motif effects, {args.table.stem}, {args.value}, {args.seeds} seeds", ("evaluations", *keys), rows
    )


if __name__ == "__main__":
    main()
