"""What the benchmarks share: samplers by name, seeds x samplers in processes with a file to resume from, tables, plots.

A run is a study with one sampler and one seed. Its record is a dict: the sampler, the seed, the settings, what it
measured (``values``: one number per evaluation), the seconds it took, and a digest of the package's source, so that a
file that mixes versions says so.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import math
import multiprocessing
import os
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import threadpoolctl
import torch
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

import optuna_nas_morph
from optuna_nas_morph import MorphBOSampler, acquisition, search
from tests.benchmarks.evolution import RegularizedEvolutionSampler

Record = dict[str, Any]


def _code_digest() -> str:
    """Digest of the source of the package."""
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted(Path(optuna_nas_morph.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


CODE = _code_digest()  # As it is when this process imports it.

# Samplers by name.


def _morph_bo(**arguments: Any) -> Callable[[int], BaseSampler]:
    return lambda seed: MorphBOSampler(seed=seed, warn_independent_sampling=False, **arguments)


def _wl(**arguments: Any) -> Callable[[int], BaseSampler]:
    def make(seed: int) -> BaseSampler:
        from optuna_nas_morph.kernels import WeisfeilerLehman

        return _morph_bo(kernel=WeisfeilerLehman(**arguments))(seed)

    return make


MORPH_BO = "MorphBOSampler"
GP = "GPSampler"
TPE = "TPESampler"
TPE_GROUP = "TPESampler(group=True)"
EVOLUTION = "RegularizedEvolution"
EVOLUTION_BACK = "RegularizedEvolution(backtrack=0.5)"
NSGAII = "NSGAIISampler"
RANDOM = "RandomSampler"

BASELINES: dict[str, Callable[[int], BaseSampler]] = {
    GP: lambda seed: GPSampler(seed=seed, warn_independent_sampling=False),
    "GPSampler(deterministic)": lambda seed: GPSampler(
        seed=seed, warn_independent_sampling=False, deterministic_objective=True
    ),
    TPE: lambda seed: TPESampler(seed=seed, multivariate=True),
    TPE_GROUP: lambda seed: TPESampler(seed=seed, multivariate=True, group=True),
    EVOLUTION: lambda seed: RegularizedEvolutionSampler(population_size=10, sample_size=10, seed=seed),
    EVOLUTION_BACK: lambda seed: RegularizedEvolutionSampler(10, 10, seed, backtrack=0.5),
    NSGAII: lambda seed: NSGAIISampler(seed=seed, population_size=20),
    RANDOM: lambda seed: RandomSampler(seed=seed),
}

VARIANTS: dict[str, Callable[[int], BaseSampler]] = {
    MORPH_BO: _morph_bo(),
    # Ablations: what differs from the defaults.
    "MorphBO/deterministic": _morph_bo(deterministic_objective=True),
    "MorphBO/startup-5": _morph_bo(n_startup_trials=5),
    "MorphBO/startup-20": _morph_bo(n_startup_trials=20),
    "MorphBO/ahead": _morph_bo(max_staleness=1),
    "MorphBO/ei": _morph_bo(acquisition=acquisition.LogExpectedImprovement()),
    "MorphBO/ucb": _morph_bo(acquisition=acquisition.UpperConfidenceBound()),
    "MorphBO/thompson": _morph_bo(acquisition=acquisition.ThompsonSampling()),
    "MorphBO/exhaustive": _morph_bo(search=search.ExhaustiveSearch()),
    "MorphBO/neighbours": _morph_bo(search=search.NeighbourSearch()),
    "MorphBO/mutation": _morph_bo(search=search.MutationSearch()),
    "MorphBO/random": _morph_bo(search=search.RandomSearch()),
    "MorphBO/tree": _morph_bo(search=search.TreeSearch()),
    "MorphBO/tree-back": _morph_bo(search=search.TreeSearch(taken_back=0.5)),
    "MorphBO/wl-0": _wl(n_iter=0),
    "MorphBO/wl-1": _wl(n_iter=1),
    "MorphBO/wl-3": _wl(n_iter=3),
    "MorphBO/wl-out": _wl(direction="out"),
}
"""`MorphBOSampler` as it is, and with one thing changed. To add an ablation: a line here."""

SAMPLERS = VARIANTS | BASELINES


# One run.


def optimise(
    sampler: BaseSampler,
    objective: Callable[[optuna.Trial], Any],
    n: int,
    *,
    batch: int = 1,
    directions: Sequence[str] = ("maximize",),
) -> optuna.Study:
    """A study of ``n`` trials, of which ``batch`` at a time are asked for before any of them is told."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=list(directions), sampler=sampler)
    n_done = 0
    while n_done < n:
        trials = [study.ask() for _ in range(min(batch, n - n_done))]
        # Samplers propose at the first suggest_*, so at the call of the objective: all of them before the first tell.
        values = [objective(trial) for trial in trials]
        for trial, value in zip(trials, values, strict=True):
            study.tell(trial, value)
        n_done += len(trials)
    return study


def quiet() -> None:
    """One thread, and no word of what samplers think of their options."""
    torch.set_num_threads(1)
    threadpoolctl.threadpool_limits(1)
    warnings.simplefilter("ignore")


# Many runs.


def add_arguments(
    parser: argparse.ArgumentParser, *, samplers: Sequence[str], seeds: int, evaluations: int
) -> argparse.ArgumentParser:
    parser.add_argument(
        "--samplers",
        nargs="+",
        default=list(samplers),
        choices=list(SAMPLERS),
        metavar="NAME",
        help=f"of: {', '.join(SAMPLERS)}; by default {', '.join(samplers)}",
    )
    parser.add_argument("--seeds", type=int, default=seeds, help="seeds 0 to this number - 1 (default: %(default)s)")
    parser.add_argument("--evaluations", type=int, default=evaluations, help="per study (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="JSON-lines file that runs are added to; what it has is not run again")
    parser.add_argument("--plot", type=Path, help="where to draw: x.html (and x.png beside it if kaleido is there)")
    return parser


def run_all(
    run: Callable[[str, int], Record],
    samplers: Sequence[str],
    n_seeds: int,
    *,
    settings: Mapping[str, Any],
    jobs: int,
    out: Path | None,
) -> list[Record]:
    """Every sampler with every seed, seed by seed so that an interrupted benchmark is still paired.

    Args:
        run:
            From a sampler's name and a seed to what is measured. Other processes must be able to import it.
        samplers:
            Their names.
        n_seeds:
            How many seeds.
        settings:
            What else decides the outcome: a record in the file counts if it has the same.
        jobs:
            Processes; 1 runs everything in this one.
        out:
            The file to resume from and to add to.

    Raises:
        SystemExit: If a run failed, after all others are done and written.
    """
    records = list(read(out, settings)) if out else []
    done = {(r["sampler"], r["seed"]) for r in records}
    tasks = [(name, seed) for seed in range(n_seeds) for name in samplers if (name, seed) not in done]
    failures: list[str] = []
    for i, (record, failure) in enumerate(_results(run, tasks, jobs)):
        if failure:
            failures.append(failure)
            continue
        record["settings"] = dict(settings)
        records.append(record)
        if out:
            with out.open("a") as file:
                file.write(json.dumps(record) + "\n")
        done_so_far = f"[{i + 1}/{len(tasks)}]"
        print(f"{done_so_far} {record['sampler']}, seed {record['seed']}: {record['seconds']:.1f} s", flush=True)
    if failures:
        raise SystemExit("\n".join([f"{len(failures)} of {len(tasks)} runs failed:", *failures]))
    records = [r for r in records if r["sampler"] in samplers and r["seed"] < n_seeds]
    for name in samplers:
        versions = {r["code"] for r in records if r["sampler"] == name}
        if len(versions) > 1:
            print(f"Beware: runs of {name} in {out} are by {len(versions)} versions of the package.")
    return records


def read(out: Path, settings: Mapping[str, Any]) -> Iterator[Record]:
    """Records of a file that were made with these settings. What an interruption cut short is ignored, and ended."""
    if not out.exists():
        return
    text = out.read_text()
    if text and not text.endswith("\n"):
        with out.open("a") as file:
            file.write("\n")
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            print(f"A damaged line of {out} is ignored: {line[:60]}")
            continue
        if record["settings"] == json.loads(json.dumps(dict(settings))):
            yield record


def _results(
    run: Callable[[str, int], Record], tasks: Sequence[tuple[str, int]], jobs: int
) -> Iterator[tuple[Record, str]]:
    if jobs == 1:
        yield from (_timed(run, *task) for task in tasks)
        return
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # inherited
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"))
    try:
        for future in as_completed([pool.submit(_timed, run, *task) for task in tasks]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _timed(run: Callable[[str, int], Record], sampler: str, seed: int) -> tuple[Record, str]:
    """A record, or why there is none."""
    with warnings.catch_warnings():
        quiet()
        start = time.perf_counter()
        try:
            measured = run(sampler, seed)
        except Exception:
            return {}, f"{sampler}, seed {seed}: {traceback.format_exc()}"
        seconds = time.perf_counter() - start
        return {"sampler": sampler, "seed": seed, "seconds": seconds, "code": CODE, **measured}, ""


def in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """A call in a process of its own, with nothing in its memory but imports."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


# What runs say.


def curves(records: Iterable[Record], samplers: Sequence[str], key: str = "values") -> dict[str, np.ndarray]:
    """Per sampler the best value so far after each evaluation, larger is better, seeds in order, (seeds, n)."""
    ordered = sorted(records, key=lambda r: r["seed"])
    return {
        name: np.maximum.accumulate(np.array([r[key] for r in ordered if r["sampler"] == name]), axis=1)
        for name in samplers
    }


def evaluations_to(best_so_far: np.ndarray, level: float) -> np.ndarray:
    """Per run, evaluations until a level is reached; infinite if it never is."""
    reached = best_so_far >= level
    return np.where(reached.any(axis=1), reached.argmax(axis=1) + 1.0, math.inf)


def interval(sample: np.ndarray, n_draws: int = 5000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean."""
    draws = np.random.default_rng(0).integers(len(sample), size=(n_draws, len(sample)))
    low, high = np.percentile(sample[draws].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def difference(ours: np.ndarray, theirs: np.ndarray, digits: int = 3) -> str:
    """Mean of paired differences and its interval."""
    low, high = interval(ours - theirs)
    return f"{np.mean(ours - theirs):+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def ratio(theirs: np.ndarray, ours: np.ndarray, n: int) -> str:
    """Geometric mean of paired ratios of evaluations; a run that never got there counts as n + 1 evaluations.

    That makes it a bound from below (≥) or above (≤), or with such runs on both sides no more than a guess (~).
    """
    logs = np.log(np.minimum(theirs, n + 1) / np.minimum(ours, n + 1))
    low, high = interval(logs)
    bound = {(True, False): "≥", (False, True): "≤", (True, True): "~"}.get(
        (bool(np.isinf(theirs).any()), bool(np.isinf(ours).any())), ""
    )
    return f"{bound}{math.exp(logs.mean()):.2f} [{math.exp(low):.2f}, {math.exp(high):.2f}]"


def median_evaluations(evaluations: np.ndarray, n: int) -> str:
    """The median over seeds, of which some may never get there."""
    median = float(np.median(evaluations))  # Of an infinite and a finite one: infinite.
    return f"{median:g}" if math.isfinite(median) else f">{n}"


def show(values: np.ndarray, digits: int, sign: str = "") -> str:
    """Mean ± standard deviation over seeds."""
    return f"{values.mean():{sign}.{digits}f} ± {values.std(ddof=1) if len(values) > 1 else 0:.{digits}f}"


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as wide as they must be, the first one to the left."""
    lines = [list(map(str, header)), *(list(map(str, row)) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    print(f"\n{title}")
    for line in lines:
        print("  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]))


def print_levels(
    title: str, best_so_far: Mapping[str, np.ndarray], levels: Mapping[str, float], reference: str = MORPH_BO
) -> None:
    """Evaluations to given values, and how many times more than the reference that is, paired by seed."""
    n = next(iter(best_so_far.values())).shape[1]
    if reference not in best_so_far:
        reference = next(iter(best_so_far))
    header = ["", f"best after {n}", "difference [95 %]"]
    for name in levels:
        header += [f"to {name}", "reached", "ratio [95 %]"]
    rows = []
    for name, curve in best_so_far.items():
        final = curve[:, -1]
        row = [name, f"{final.mean():.4f} ± {final.std():.4f}", difference(final, best_so_far[reference][:, -1])]
        for level in levels.values():
            theirs, ours = evaluations_to(curve, level), evaluations_to(best_so_far[reference], level)
            row += [median_evaluations(theirs, n), f"{np.isfinite(theirs).mean():.2f}", ratio(theirs, ours, n)]
        rows.append(row)
    print_table(f"{title}\nDifferences and ratios are to {reference}, paired by seed.", header, rows)


def plot(
    path: Path,
    title: str,
    y: str,
    lines: Mapping[str, np.ndarray],
    *,
    x: str = "evaluations",
    x_values: Sequence[float] | None = None,
    log_x: bool = False,
    log_y: bool = False,
) -> None:
    """Mean over seeds against evaluations, with the middle half of the seeds as a band.

    Args:
        path:
            An .html file; a .png beside it where kaleido is installed.
        title:
            Above the plot.
        y:
            What the values are.
        lines:
            Per sampler its runs, (seeds, n).
        x:
            What is along the other axis.
        x_values:
            Where; by default 1, 2, ...
        log_x:
            Whether that axis is logarithmic.
        log_y:
            Whether the other is.
    """
    import plotly.colors
    import plotly.graph_objects as go

    figure = go.Figure()
    palette = plotly.colors.qualitative.Plotly
    for i, (name, runs) in enumerate(lines.items()):
        at = list(range(1, runs.shape[1] + 1)) if x_values is None else list(x_values)
        low, high = np.percentile(runs, (25, 75), axis=0)
        red, green, blue = plotly.colors.hex_to_rgb(palette[i % len(palette)])
        band = {"fill": "toself", "fillcolor": f"rgba({red},{green},{blue},0.15)", "line_width": 0, "mode": "lines"}
        figure.add_scatter(
            x=[*at, *at[::-1]], y=[*low, *high[::-1]], legendgroup=name, showlegend=False, hoverinfo="skip", **band
        )
        figure.add_scatter(
            x=at,
            y=runs.mean(axis=0),
            name=name,
            legendgroup=name,
            line_color=f"rgb({red},{green},{blue})",
            mode="lines",
        )
    figure.update_layout(title=f"{title} (mean over seeds; band: middle half)", xaxis_title=x, yaxis_title=y)
    figure.update_xaxes(type="log" if log_x else "linear")
    figure.update_yaxes(type="log" if log_y else "linear")
    figure.write_html(path, include_plotlyjs="cdn")
    print(f"Drawn in {path}.")
    if importlib.util.find_spec("kaleido"):
        figure.write_image(path.with_suffix(".png"))
