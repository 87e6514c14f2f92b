"""Seconds per proposal, and memory, against the number of trials.

    python -m tests.benchmarks.cost_of_ask --sizes 10 30 100 300 1000 2000

Closed: NAS-Bench-201's cells with the values of `tests.benchmarks.joint` (no data is needed). A study is filled with
random trials; each sampler then asks and is told, in turns in one process on one thread, and the median of the ratios
of neighbouring asks is reported. The first ask of each is not counted: it pays for imports and caches. GPSampler is
faster where the package greenlet is installed, which the first line says. Seconds are of the processor, as everything
is on one thread: what else the machine does matters less.

Open: MorphBOSampler alone, after --open-trials residual networks of --nodes nodes or a few more, with its full tree
search.

Memory: the most that a fresh process with one sampler holds (resident set) after imports and after three asks at the
last of --sizes.
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import create_trial

from optuna_nas_morph import encoding, lineage, presets, suggest_architecture
from optuna_nas_morph.encoding import AnySpace, Member
from optuna_nas_morph.morphisms import AddSkip, Deepen, GrowKernel, InsertResidualBlock, Widen
from tests.benchmarks import joint, runs

SAMPLERS = (runs.MORPH_BO, runs.GP)
SIZES = (10, 30, 100, 300, 1000, 2000)
MORPHISMS = (Widen(1.5), Widen(2.0), InsertResidualBlock(3), Deepen("relu", 3), GrowKernel(2), AddSkip())

Value = Callable[[Member], float]
Draw = Callable[[np.random.Generator], Member]


def cell_value(cell: Member) -> float:
    return joint.quality(joint.SPACE.choices_of(cell))


def network_value(member: Member) -> float:
    """Best at 100,000 parameters."""
    return -abs(np.log(member.architecture.n_parameters / 100_000))


def filled(space: AnySpace, value: Value, sampler: str, n: int, draw: Draw) -> optuna.Study:
    """A study with random trials, which are the same for every sampler."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=runs.SAMPLERS[sampler](0))
    lineage.register_space(study, space)
    rng = np.random.default_rng(0)
    distributions = encoding.distributions(space)
    trials = []
    for _ in range(n):
        member = draw(rng)
        params = encoding.encode(space, member)
        trials.append(
            create_trial(params=params, distributions={k: distributions[k] for k in params}, value=value(member))
        )
    study.add_trials(trials)
    return study


def ask(study: optuna.Study, space: AnySpace, value: Value) -> float:
    """Seconds of the processor until an architecture is known; its value is then told."""
    start = time.process_time()
    trial = study.ask()
    suggest_architecture(trial, space)
    seconds = time.process_time() - start
    study.tell(trial, value(encoding.decode(space, trial.params)))
    return seconds


def asks(
    space: AnySpace, value: Value, samplers: Sequence[str], n: int, repeats: int, draw: Draw | None = None
) -> dict[str, list[float]]:
    """Per sampler the seconds of each ask after n trials, in turns."""
    studies = {name: filled(space, value, name, n, draw or space.random) for name in samplers}
    seconds: dict[str, list[float]] = {name: [] for name in samplers}
    for i in range(repeats + 1):
        for name, study in studies.items():
            took = ask(study, space, value)
            if i:
                seconds[name].append(took)
    return seconds


def closed(samplers: Sequence[str], sizes: Sequence[int], repeats: int, picture: Path | None) -> None:
    medians: dict[str, list[float]] = {name: [] for name in samplers}
    rows = []
    for n in sizes:
        seconds = asks(joint.SPACE, cell_value, samplers, n, repeats)
        row: list[object] = [n]
        for name in samplers:
            medians[name].append(statistics.median(seconds[name]))
            ratios = [a / b for a, b in zip(seconds[name], seconds[samplers[-1]], strict=True)]
            row += [f"{medians[name][-1]:.3f} ({max(seconds[name]):.3f})", f"{statistics.median(ratios):.2f}"]
        rows.append(row)
        print(f"{n} trials: {', '.join(f'{name} {medians[name][-1]:.3f} s' for name in samplers)}", flush=True)
    header = ["trials"]
    for name in samplers:
        header += [f"{name}, s (most)", f"/ {samplers[-1]}"]
    runs.print_table(f"Seconds per ask, NAS-Bench-201 cells, median of {repeats}", header, rows)
    if picture:
        lines = {name: np.array([values]) for name, values in medians.items()}
        runs.plot(picture, "Ask", "seconds", lines, x="trials", x_values=sizes, log_x=True, log_y=True)


def open_space(n_trials: int, n_nodes: int, repeats: int) -> None:
    space = presets.resnet((3, 32, 32), 10, max_morphisms=20, morphisms=MORPHISMS)
    sizes = []

    def draw(rng: np.random.Generator) -> Member:
        """A random walk from the seed to about so many nodes."""
        member = space.first()
        while len(member.architecture.nodes) < n_nodes:
            member = space.random_child(member, rng) or space.first()
        sizes.append(len(member.architecture.nodes))
        return member

    seconds = asks(space, network_value, [runs.MORPH_BO], n_trials, repeats, draw)[runs.MORPH_BO]
    print(
        f"\nOpen space, {n_trials} trials, graphs of {min(sizes)} to {max(sizes)} nodes: "
        f"{statistics.median(seconds):.2f} s per ask (most {max(seconds):.2f})"
    )


def peak_memory() -> float:
    """Most MiB that this process has held at once."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: what getrusage says there includes the process that started this one.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory_of(sampler: str, n: int) -> tuple[float, float]:
    """Peak memory before a study and after three asks of one with n trials."""
    warnings.simplefilter("ignore")
    runs.quiet()
    before = peak_memory()
    asks(joint.SPACE, cell_value, [sampler], n, 2)
    return before, peak_memory()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--samplers",
        nargs="+",
        default=SAMPLERS,
        choices=list(runs.SAMPLERS),
        metavar="NAME",
        help="ratios are to the last (default: %(default)s)",
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of trials (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="asks that are measured (default: %(default)s)")
    parser.add_argument("--open-trials", type=int, default=100, help="0 leaves it out (default: %(default)s)")
    parser.add_argument("--nodes", type=int, default=50, help="default: %(default)s")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--plot", type=Path, help="where to draw: x.html (and x.png beside it if kaleido is there)")
    args = parser.parse_args(argv)
    print(f"greenlet is {'' if importlib.util.find_spec('greenlet') else 'not '}installed")
    with warnings.catch_warnings():
        runs.quiet()
        closed(args.samplers, args.sizes, args.repeats, args.plot)
        if args.open_trials:
            open_space(args.open_trials, args.nodes, args.repeats)
    if not args.no_memory:
        rows = []
        for name in args.samplers:
            before, after = runs.in_new_process(memory_of, name, args.sizes[-1])
            rows.append((name, f"{before:.0f}", f"{after:.0f}", f"{after - before:.0f}"))
        header = ("", "after imports, MiB", "peak, MiB", "difference")
        runs.print_table(f"Memory at {args.sizes[-1]} trials", header, rows)


if __name__ == "__main__":
    main()
