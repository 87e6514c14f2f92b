"""What pruners save and what they lose, on the same recorded learning curves of a search whose children inherit.

    python -m tests.benchmarks.pruners --seeds 3 --out curves.jsonl
    python -m tests.benchmarks.pruners --seeds 3 --series --out curves.jsonl

Searches without a pruner are recorded: the validation accuracy after each epoch, and the donor of each trial. They are
then replayed to every pruner in the same --orders random orders, in which a donor is always told before its heirs. A
trial that is pruned counts for the epochs it took and is no candidate for the best. The best child is the best trial of
the search but for its controls.

With ``--search-lr`` every trial also suggests its learning rate, from a thousandth of the usual one to its tenfold:
a study as Optuna's users have it, in which some trials are plainly bad.

The replay leaves out that heirs of a pruned trial would have inherited less, and that a search goes on from what it is
told; ``--live`` runs whole searches instead, with `LineagePruner` and without a pruner, paired by seed.

Data: see ``python -m tests.benchmarks.inheritance --help``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import optuna
import torch
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    WilcoxonPruner,
)
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from torch import nn
from torch.nn import functional as F

from optuna_nas_morph import LineagePruner, MorphBOSampler, publish_weights, suggest_network
from optuna_nas_morph.lineage import DONOR, INHERITED_EPOCHS, KIND, Kind
from tests.benchmarks import inheritance, runs
from tests.benchmarks.inheritance import Experiment, accuracy, moving_average

NONE, LINEAGE = "no pruner", "LineagePruner()"

PRUNERS: dict[str, Callable[[int], BasePruner]] = {
    NONE: lambda epochs: NopPruner(),
    LINEAGE: lambda epochs: LineagePruner(n_steps=epochs),
    "LineagePruner(alpha=0.1)": lambda epochs: LineagePruner(n_steps=epochs, alpha=0.1),
    "LineagePruner(top=0.25)": lambda epochs: LineagePruner(n_steps=epochs, top=0.25),
    "LineagePruner(alpha=0.4)": lambda epochs: LineagePruner(n_steps=epochs, alpha=0.4),
    "LineagePruner(alpha=0.4, top=0.3)": lambda epochs: LineagePruner(n_steps=epochs, alpha=0.4, top=0.3),
    "LineagePruner(checks=[0.25, 0.5])": lambda epochs: LineagePruner(n_steps=epochs, checks=[0.25, 0.5]),
    "LineagePruner(MedianPruner())": lambda epochs: LineagePruner(MedianPruner()),
    "LineagePruner(PercentilePruner(25))": lambda epochs: LineagePruner(PercentilePruner(25.0)),
    "MedianPruner()": lambda epochs: MedianPruner(),
    "PercentilePruner(25)": lambda epochs: PercentilePruner(25.0),
    "SuccessiveHalvingPruner()": lambda epochs: SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
    "HyperbandPruner()": lambda epochs: HyperbandPruner(max_resource=epochs, reduction_factor=2),
    "WilcoxonPruner()": lambda epochs: WilcoxonPruner(n_startup_steps=2),
}

Curve = dict[str, Any]
"""Of a trial: ``values`` after each epoch, ``donor`` (or :obj:`None`), ``inherited`` epochs, and its ``kind``."""


def search(e: Experiment, live: bool, search_lr: bool, name: str, seed: int) -> runs.Record:
    """A whole search; its curves."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    data = e.data()
    space = e.space(data)
    x, y = data.train

    def objective(trial: optuna.Trial) -> float:
        network = suggest_network(trial, space, budget=e.epochs)
        inherits = trial.study.trials[trial.number].user_attrs[INHERITED_EPOCHS] > 0
        lr = e.child_lr if inherits else e.lr
        if search_lr:
            lr *= trial.suggest_float("lr", 1e-3, 10.0, log=True)
        generator = torch.Generator().manual_seed(1000 * seed + trial.number)
        optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=e.momentum, weight_decay=e.weight_decay)
        n_steps = e.epochs * math.ceil(len(x) / e.batch_size)
        schedule: torch.optim.lr_scheduler.LRScheduler
        if e.average is None:
            schedule, average, judged = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps), None, network
        else:
            schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
            average = moving_average(network, e.average * n_steps / e.epochs)
            judged = average.module
        value = 0.0
        for epoch in range(e.epochs):
            network.train()
            for batch in torch.randperm(len(x), generator=generator).split(e.batch_size):
                optimizer.zero_grad()
                F.cross_entropy(network(x[batch]), y[batch]).backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                if average is not None:
                    average.update_parameters(network)
            value = accuracy(judged, data.validation)
            trial.report(value, epoch)
            if trial.should_prune():
                publish_weights(trial, network, average=average)
                raise optuna.TrialPruned
        publish_weights(trial, network, average=average)
        return value

    pruner = LineagePruner() if live and name == LINEAGE else NopPruner()
    sampler = MorphBOSampler(seed=seed, n_startup_trials=e.startup, control_share=e.control_share)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    study.optimize(objective, n_trials=e.trials)
    curves = [
        {
            "values": [value for _, value in sorted(t.intermediate_values.items())],
            "donor": t.user_attrs.get(DONOR),
            "inherited": t.user_attrs[INHERITED_EPOCHS],
            "kind": t.user_attrs[KIND],
            "pruned": t.state == TrialState.PRUNED,
        }
        for t in study.trials
    ]
    return {"curves": curves, "best": study.best_value}


def random_order(curves: Sequence[Curve], rng: np.random.Generator) -> list[int]:
    """Every trial once, donors before their heirs."""
    order: list[int] = []
    left = set(range(len(curves)))
    while left:
        ready = [i for i in sorted(left) if curves[i]["donor"] is None or curves[i]["donor"] not in left]
        order.append(ready[int(rng.integers(len(ready)))])
        left.remove(order[-1])
    return order


def replay(curves: Sequence[Curve], order: Sequence[int], pruner: BasePruner) -> list[int]:
    """Epochs that each trial takes, as many as it has if it is not pruned."""
    # The name decides which bracket of Hyperband a trial belongs to.
    study = optuna.create_study(study_name="replay", direction="maximize", sampler=RandomSampler(seed=0), pruner=pruner)
    taken = [0] * len(curves)
    for i in order:
        trial = study.ask()
        trial.set_user_attr(DONOR, curves[i]["donor"])
        trial.set_user_attr(KIND, curves[i]["kind"])
        state = TrialState.COMPLETE
        for step, value in enumerate(curves[i]["values"]):
            trial.report(value, step)
            taken[i] += 1
            if step + 1 < len(curves[i]["values"]) and trial.should_prune():
                state = TrialState.PRUNED
                break
        study.tell(trial, curves[i]["values"][-1] if state == TrialState.COMPLETE else None, state)
    return taken


def outcome(curves: Sequence[Curve], taken: Sequence[int]) -> dict[str, float]:
    """Shares in %, regret in points of accuracy."""
    lengths = np.array([len(c["values"]) for c in curves])
    final = np.array([c["values"][-1] for c in curves])
    pruned = np.array(taken) < lengths
    searched = np.array([c["kind"] == Kind.SEARCH for c in curves])
    is_best_child = searched & (final == final[searched].max())
    warm = np.array([c["donor"] is not None for c in curves])
    return {
        "epochs saved %": 100 * (1 - sum(taken) / lengths.sum()),
        "regret": 100 * float(final.max() - final[~pruned].max(initial=0.0)),
        "best child pruned %": 100 * float(pruned[is_best_child].all()),
        "fresh pruned %": 100 * float(pruned[~warm].mean()),
        "warm pruned %": 100 * float(pruned[warm].mean()) if warm.any() else math.nan,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--orders", type=int, default=100)
    parser.add_argument("--live", action="store_true")
    parser.add_argument("--search-lr", action="store_true")
    own, rest = parser.parse_known_args(arguments)
    args = inheritance.parse(["--trials", "60", "--epochs", "8", *rest])
    options = vars(args)
    e = Experiment(**{name: options[name] for name in Experiment.__dataclass_fields__})
    settings = asdict(e) | {"search lr": own.search_lr}
    go = partial(runs.run_all, n_seeds=args.seeds, settings=settings, jobs=args.jobs, out=args.out)

    records = sorted(
        go(partial(search, e, own.live, own.search_lr), [NONE, LINEAGE] if own.live else [NONE]),
        key=lambda r: r["seed"],
    )
    if own.live:
        rows = []
        for name in (NONE, LINEAGE):
            mine = [r for r in records if r["sampler"] == name]
            best = np.array([100 * r["best"] for r in mine])
            epochs = np.array([sum(len(c["values"]) for c in r["curves"]) for r in mine])
            rows.append([name, f"{best.mean():.2f} ± {best.std():.2f}", f"{epochs.mean():.0f} ± {epochs.std():.0f}"])
        runs.print_table(f"Whole searches, {args.seeds} seeds", ["", "best %", "epochs"], rows)
        return

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows = []
    for name, make in PRUNERS.items():
        found = []
        for record in records:
            for k in range(own.orders):
                order = random_order(record["curves"], np.random.default_rng([record["seed"], k]))
                found.append(outcome(record["curves"], replay(record["curves"], order, make(e.epochs))))
        figures = {key: np.array([f[key] for f in found]) for key in found[0]}
        rows.append([name, *(f"{v.mean():.2f} ± {v.std():.2f}" for v in figures.values())])
    title = (
        f"{args.seeds} searches of {e.trials} trials, {own.orders} orders each: mean ± standard deviation over orders"
    )
    runs.print_table(title, ["", *figures], rows)


if __name__ == "__main__":
    with runs.warnings.catch_warnings():
        runs.quiet()
        main()
