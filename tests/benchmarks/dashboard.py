"""What `dashboard.attach` costs a trial.

    python -m tests.benchmarks.dashboard --sizes 10 100 500

A study in an SQLite file is filled with random trials of the open space of `tests.benchmarks.open_space`, and shown.
Then ten trials more end, each with the callback. What is reported is the wall-clock time of the callback without and
with renewing the figures, the former as a share of a trial of ten seconds; renewals are as rare as it takes for both to
stay within ``share``, 5 % by default.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import optuna

from optuna_nas_morph import dashboard
from tests.benchmarks.open_space import problem_of

TRIAL_SECONDS = 10.0


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100, 500], help="trials before")
    parser.add_argument("--trials", type=int, default=10, help="trials that are timed")
    arguments = parser.parse_args(argv)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    objective = problem_of("joint", 0).objective
    print("trials  % of a 10-second trial  seconds per renewal  first time, seconds")
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as folder:
            study = optuna.create_study(
                storage=f"sqlite:///{folder}/nas.db",
                direction="maximize",
                sampler=optuna.samplers.RandomSampler(seed=0),
                pruner=optuna.pruners.NopPruner(),
            )
            study.optimize(objective, n_trials=size)
            began = time.perf_counter()
            callback = dashboard.attach(study, artifact_store=Path(folder, "artifacts"), share=1e-9)
            first = time.perf_counter() - began
            seconds = []
            for _ in range(arguments.trials):
                study.optimize(objective, n_trials=1)
                began = time.perf_counter()
                callback(study, study.trials[-1])
                seconds.append(time.perf_counter() - began)
            began = time.perf_counter()
            dashboard.attach(study, artifact_store=Path(folder, "artifacts"))
            renewal = time.perf_counter() - began
            share = 100 * statistics.mean(seconds) / TRIAL_SECONDS
            print(f"{size:6}  {share:22.1f}  {renewal:19.1f}  {first:19.1f}", flush=True)


if __name__ == "__main__":
    main()
