"""The surrogate on NAS-Bench-201: how well it ranks cells that it has not seen, and whether its intervals hold.

    python -m tests.benchmarks.surrogate --table nas_bench_201_cifar10.npz --seeds 50

The table is that of `tests.benchmarks.nas_bench_201`. Every seed draws cells to learn from and 400 others. Reported are

Spearman   rank correlation of the predicted means with the values of the 400
coverage   share of the values within the 90 % interval of an observation
NLL        mean negative log likelihood of a value, and that of a constant: the normal distribution of the cells learnt
           from. Both on the surrogate's own scale, see `optuna_nas_morph.targets.LogRegret`

each as mean ± standard deviation over seeds. That scale is known between the worst and the best cell learnt from; the
last two leave out values beyond, whose share is shown.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from optuna_nas_morph import presets
from optuna_nas_morph.kernels import WeisfeilerLehman
from optuna_nas_morph.surrogate import Points, Quantity, fit_surrogate
from optuna_nas_morph.targets import LogRegret
from tests.benchmarks import runs
from tests.benchmarks.nas_bench_201 import load

INPUTS = {"graph and choices": (True, True), "graph alone": (True, False), "choices alone": (False, True)}
"""What the surrogate sees; the first is what `MorphBOSampler` gives it."""

N_HELD_OUT = 400
_WITHIN = stats.norm.ppf(0.95)


def points_of(cells: Sequence[Sequence[str]], see_graph: bool, see_choices: bool) -> Points:
    """Cells as points of the surrogate."""
    space = presets.nas_bench_201()
    members = [space.cell(dict(zip(space.choices, cell, strict=True))) for cell in cells]
    index = {graph: i for i, graph in enumerate(dict.fromkeys(m.graph for m in members))} if see_graph else {}
    owner = np.array([index[m.graph] if see_graph else 0 for m in members])
    z = np.array([space.features(m) for m in members]) if see_choices else np.empty((len(members), 0))
    return Points(tuple(index), owner, z)


def run(path: Path, value: str, n: int, inputs: str, seed: int) -> runs.Record:
    table = load(path, value)
    rng = np.random.default_rng(seed)
    names = rng.choice(list(table), size=n + N_HELD_OUT, replace=False)
    values = np.array([table[name] for name in names])
    cells = [operations(name) for name in names]
    known, held_out = values[:n], values[n:]
    scale = LogRegret.of(known)

    see_graph, see_choices = INPUTS[inputs]
    observed = points_of(cells[:n], see_graph, see_choices)
    surrogate = fit_surrogate(
        observed,
        [Quantity(np.arange(n), scale.targets(known))],
        Points((), np.empty(0, dtype=int), observed.z[:0]),
        np.ones(observed.z.shape[1], dtype=bool),
        kernel=WeisfeilerLehman(),
        deterministic=False,
        rng=rng,
    )
    (means,), (variances,) = surrogate.predict(points_of(cells[n:], see_graph, see_choices))
    deviations = np.sqrt(variances + surrogate.posteriors[0].hyperparameters.noise)

    inside = (held_out >= known.min()) & (held_out <= known.max())
    truth = scale.targets(held_out)
    return {
        "Spearman": float(stats.spearmanr(means, held_out).statistic),
        "coverage": float(np.mean(np.abs(truth - means)[inside] < _WITHIN * deviations[inside])),
        "NLL": float(-stats.norm.logpdf(truth, means, deviations)[inside].mean()),
        "NLL of a constant": float(-stats.norm.logpdf(truth)[inside].mean()),
        "left out": float(1 - inside.mean()),
    }


def operations(cell: str) -> list[str]:
    """From a cell's string to its operations, edge by edge."""
    return [edge.split("~")[0] for part in cell.split("+") for edge in part.strip("|").split("|")]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True, help="the .npz file described above")
    parser.add_argument("--value", choices=("val", "test"), default="val", help="which accuracy is learnt")
    parser.add_argument("--sizes", type=int, nargs="+", default=[25, 50, 100], help="cells to learn from")
    parser.add_argument("--seeds", type=int, default=50, help="seeds 0 to this number - 1 (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="JSON-lines file that runs are added to; what it has is not run again")
    args = parser.parse_args(argv)
    for n in args.sizes:
        settings = {"benchmark": "surrogate", "table": args.table.name, "value": args.value, "n": n}
        one = functools.partial(run, args.table, args.value, n)
        records = runs.run_all(one, list(INPUTS), args.seeds, settings=settings, jobs=args.jobs, out=args.out)
        keys = ("Spearman", "coverage", "NLL", "NLL of a constant", "left out")
        rows = []
        for name in INPUTS:
            columns = [[r[key] for r in records if r["sampler"] == name] for key in keys]
            rows.append((name, *(f"{np.mean(column):.3f} ± {np.std(column):.3f}" for column in columns)))
        title = f"{n} cells to learn from, {N_HELD_OUT} held out, {args.table.stem}, {args.value}, {args.seeds} seeds"
        runs.print_table(title, ("", *keys), rows)


if __name__ == "__main__":
    main()
