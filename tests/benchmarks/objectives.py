"""Samplers with two objectives: accuracy and size of NAS-Bench-201's cells.

    python -m tests.benchmarks.objectives --table nas_bench_201_cifar10.npz --seeds 10

The table is the one of `tests.benchmarks.nas_bench_201` (its --help says where it comes from). Accuracy (mean over the
table's seeds, maximised) is scaled to 0 for the worst cell and 1 for the best; size (minimised) counts 9 for a 3x3
convolution and 1 for a 1x1 convolution, from 0 to 54, and is scaled to 0 to 1. What is reported is the hypervolume
between the cells found and the reference point of accuracy 0 and size 1, as a share of that of all cells of the table.
The worst cells only guess (10 %), so any front with one good small cell comes near 1: ``--floor 80`` moves accuracy 0
to 80 %, and what is below counts for nothing.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import optuna

from optuna_nas_morph import presets, suggest_architecture
from optuna_nas_morph.presets.nas_bench_201 import to_string
from tests.benchmarks import nas_bench_201, runs

SAMPLERS = (runs.MORPH_BO, runs.GP, runs.TPE, runs.NSGAII, runs.RANDOM)
LEVELS = (0.9, 0.95, 0.99)
UNITS = {"nor_conv_3x3": 9, "nor_conv_1x1": 1}
MOST_UNITS = 54


def n_units(cell: Mapping[str, str]) -> int:
    return sum(UNITS.get(op, 0) for op in cell.values())


def hypervolume(points: np.ndarray) -> float:
    """Area between points (accuracy to maximise, size to minimise, each of 0 to 1) and accuracy 0, size 1."""
    area, best = 0.0, 0.0
    for accuracy, size in sorted(points.tolist(), key=lambda p: (p[1], -p[0])):
        if accuracy > best:  # Of all smaller ones none is better: a step of the front.
            area += (accuracy - best) * max(0.0, 1 - size)
            best = accuracy
    return area


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Rows of (accuracy, units) to 0 to 1."""
    return np.column_stack([np.maximum(0.0, (values[:, 0] - low) / (high - low)), values[:, 1] / MOST_UNITS])


def run(path: Path, n: int, sampler: str, seed: int) -> runs.Record:
    table, space = nas_bench_201.load(path, "val"), presets.nas_bench_201()

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        cell = suggest_architecture(trial, space)
        return table[to_string(cell)], float(n_units(cell))

    study = runs.optimise(runs.SAMPLERS[sampler](seed), objective, n, directions=("maximize", "minimize"))
    return {"pairs": [t.values for t in study.get_trials(deepcopy=False)]}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    runs.add_arguments(parser, samplers=SAMPLERS, seeds=10, evaluations=200)
    parser.add_argument("--table", type=Path, required=True, help="the .npz file described above")
    parser.add_argument(
        "--floor", type=float, help="accuracy in per cent that counts as 0 (default: the table's worst)"
    )
    args = parser.parse_args(argv)
    settings = {"benchmark": "objectives", "table": args.table.name, "evaluations": args.evaluations}
    records = runs.run_all(
        functools.partial(run, args.table, args.evaluations),
        args.samplers,
        args.seeds,
        settings=settings,
        jobs=args.jobs,
        out=args.out,
    )
    table = nas_bench_201.load(args.table, "val")
    low = min(table.values()) if args.floor is None else args.floor
    high = max(table.values())
    space = presets.nas_bench_201()
    cells = [space.choices_of(cell) for cell in space.members()]
    everything = np.array([(table[to_string(cell)], n_units(cell)) for cell in cells if to_string(cell) in table])
    whole = hypervolume(scaled(everything, low, high))
    for record in records:
        points = scaled(np.array(record["pairs"]), low, high)
        record["values"] = [hypervolume(points[: i + 1]) / whole for i in range(len(points))]
    curves = runs.curves(records, args.samplers)
    levels = {f"{level:.0%}": level for level in LEVELS}
    title = f"Accuracy and size, {args.table.stem}, accuracy from {low:.1f} to {high:.1f} %"
    runs.print_levels(f"{title}: share of the table's hypervolume ({whole:.4f}), {args.seeds} seeds", curves, levels)
    if args.plot:
        missing = {name: 1 - curve for name, curve in curves.items()}
        runs.plot(args.plot, title, "share of hypervolume missing", missing, log_y=True)


if __name__ == "__main__":
    main()
