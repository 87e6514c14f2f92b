"""Does inheritance pay? Five ways to train the same proposals, by what they cost and what comes out.

    python -m tests.benchmarks.inheritance --seeds 5 --out inheritance.jsonl
    python -m tests.benchmarks.inheritance --seeds 5 --series --out inheritance.jsonl
    python -m tests.benchmarks.inheritance --seeds 5 --fashion fashion.npz --out inheritance.jsonl

A search proposes architectures, and every arm trains them:

inherited  short training with the weights of an ancestor; the search goes by these values and makes the proposals;
           with --cool-down the best network, as it was judged, is trained on at the end, its learning rate falling to 0
short      the same short training, each from scratch
full       full training, each from scratch
cut off    full training, each from scratch, in the order of the proposals until the FLOPs of ``inherited`` are spent;
           with --cut-off-epochs also trainings of other lengths: which is best at so many FLOPs nobody knows before
random     random architectures instead of proposals, full training until the FLOPs of ``inherited`` are spent

The last two stop before the training that would exceed the limit; what they reach with it is said as well.

Outcomes, both chosen by validation accuracy and reported in test accuracy:

deployable  the best network of the arm with its weights as the arm left them; --plot draws it after any number of FLOPs
finalists   the --top-k best architectures of the arm retrained from scratch, all for --final-epochs with --final-seeds
            seeds; the one with the best mean

Costs are those of the arm's trainings, without the finals, which are the same for all: FLOPs (a training step counts
three times the matrix products of a forward pass) and seconds. Also reported: how well several figures rank the
architectures by their accuracy after full training (Spearman over the proposals of a seed), such as the surrogate's
prediction at one reference training, and the full training itself with another seed, which is the ceiling.

Data: scikit-learn's digits; or MNIST-1D (Greydanus and Kobak, ICML 2024; ``pip install mnist1d``), series of 40 values
in which networks differ widely, 4,000 each to train, to validate and to test; or Fashion-MNIST as an .npz of
``x_train`` (60000, 28, 28), ``y_train``, ``x_test`` and ``y_test`` in uint8
(https://github.com/zalandoresearch/fashion-mnist), averaged to 14 x 14 pixels unless --whole, the first --train-images.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from optuna_nas_morph import (
    Architecture,
    MorphBOSampler,
    MorphSpace,
    Network,
    encoding,
    presets,
    publish_weights,
    suggest_network,
)
from optuna_nas_morph.history import HistoryReader
from optuna_nas_morph.hyperparameters import Cube
from optuna_nas_morph.kernels import WeisfeilerLehman
from optuna_nas_morph.lineage import DONOR, FINGERPRINT, INHERITED_EPOCHS
from optuna_nas_morph.morphisms import (
    AddSkip,
    ConcatSkip,
    Deepen,
    GrowKernel,
    InsertResidualBlock,
    Widen,
    fresh_weights,
)
from optuna_nas_morph.proposal import Settings, Task, predict_finished
from tests.benchmarks import runs

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from fashion_mnist import from_npz
from quickstart import Data, accuracy, digits, moving_average  # examples are scripts, not a package

INHERITED, SHORT, FULL, AGAIN, CUT_OFF, RANDOM = "inherited", "short", "full", "full again", "cut off", "random"
ARMS = (INHERITED, SHORT, FULL, CUT_OFF, RANDOM)
FINALS = "finals"
SIZE = "parameters"
ONE_MORE = ", and one more"
"""Of an arm that keeps to a limit, with the training that crosses it."""
SERIES_MORPHISMS = (
    Widen(1.5),
    Widen(2.0),
    Deepen("relu", 5),
    InsertResidualBlock(5),
    GrowKernel(2, 15),
    AddSkip(),
    ConcatSkip(),
)
"""Those of the experiment, whatever `presets.conv1d` has by default."""


@dataclass(frozen=True)
class Experiment:
    """What decides the outcome, but for the seed. See --help."""

    series: bool
    fashion: str | None
    train_images: int
    whole: bool
    preset: str
    width: int
    depth: int
    max_parameters: int
    max_morphisms: int
    trials: int
    startup: int
    control_share: float
    max_inherited_epochs: float | None
    line_epochs: float | None
    epochs: int
    first_epochs: int
    epochs_per_ancestor: int
    average: float | None
    cool_down: int
    full_epochs: int
    final_epochs: int
    final_seeds: int
    top_k: int
    lr: float
    child_lr: float
    momentum: float
    weight_decay: float
    batch_size: int

    def data(self) -> Data:
        """Images or series, and labels."""
        if self.series:
            return mnist_1d()
        if self.fashion is None:
            return digits()
        x, y, x_test, y_test = from_npz(Path(self.fashion))

        def ready(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            images = (images.float().unsqueeze(1) / 255 - 0.286) / 0.353
            return images if self.whole else F.avg_pool2d(images, 2), labels.long()

        n = self.train_images
        return Data(ready(x[:n], y[:n]), ready(x[-5000:], y[-5000:]), ready(x_test, y_test))

    def space(self, data: Data) -> MorphSpace:
        """Where architectures come from."""
        make = partial(presets.conv1d, morphisms=SERIES_MORPHISMS) if self.series else getattr(presets, self.preset)
        sizes = {} if self.preset == "densenet" else {"width": self.width, "depth": self.depth}
        limits = {"max_parameters": self.max_parameters, "max_morphisms": self.max_morphisms}
        return make(tuple(data.train[0].shape[1:]), 10, **sizes, **limits)


def mnist_1d() -> Data:
    """MNIST-1D, made as its authors make it, with more samples."""
    from mnist1d.data import get_dataset_args, make_dataset

    args = get_dataset_args()
    args.num_samples = 12_000
    made = make_dataset(args)
    x = torch.from_numpy(np.concatenate([made["x"], made["x_test"]])).float().unsqueeze(1)
    y = torch.from_numpy(np.concatenate([made["y"], made["y_test"]])).long()
    (x1, x2, x3), (y1, y2, y3) = x.chunk(3), y.chunk(3)
    return Data((x1, y1), (x2, y2), (x3, y3))


LOWEST = 0.05
"""Of the peak learning rate, where one schedule goes through a line."""


def train(
    network: nn.Module,
    data: Data,
    epochs: int,
    lr: float,
    seed: Sequence[int],
    e: Experiment,
    at: Callable[[float], float] | None = None,
    average: AveragedModel | None = None,
) -> float:
    """Momentum SGD, the learning rate falling to 0 along a cosine, or as ``at`` says of the epoch; seconds it took.

    An ``average`` of the network's weights follows them.
    """
    start = time.perf_counter()
    x, y = data.train
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence(list(seed)).generate_state(1)[0]))
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=e.momentum, weight_decay=e.weight_decay)
    n_steps = math.ceil(len(x) / e.batch_size)
    schedule: torch.optim.lr_scheduler.LRScheduler
    if at is None:
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * n_steps)
    else:
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: at(step / n_steps))
    network.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(x), generator=generator).split(e.batch_size):
            optimizer.zero_grad()
            F.cross_entropy(network(x[batch]), y[batch]).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if average is not None:
                average.update_parameters(network)
    return time.perf_counter() - start


def flops(architecture: Architecture, data: Data, epochs: int) -> float:
    """Of a training: a step takes about three times the matrix products of a forward pass."""
    return 3.0 * architecture.flops * len(data.train[0]) * epochs


def cost(rows: Iterable[Mapping[str, Any]]) -> float:
    """FLOPs of trainings."""
    return float(sum(line["flops"] for line in rows))


def row(network: Network, data: Data, epochs: int, seconds: float, params: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of one training."""
    architecture = network.architecture
    return {
        "params": dict(params),
        "fingerprint": architecture.fingerprint,
        "parameters": architecture.n_parameters,
        "epochs": epochs,
        "flops": flops(architecture, data, epochs),
        "training seconds": seconds,
        "validation": accuracy(network, data.validation),
        "test": accuracy(network, data.test),
    }


def from_scratch(
    architecture: Architecture, data: Data, epochs: int, seed: Sequence[int], e: Experiment, params: Mapping[str, Any]
) -> dict[str, Any]:
    network = Network(architecture)
    network.load_state_dict(fresh_weights(architecture, np.random.default_rng(list(seed))))
    return row(network, data, epochs, train(network, data, epochs, e.lr, seed, e), params)


# Stages: each arm is run for each seed, the inherited one first.


def search(e: Experiment, name: str, seed: int) -> runs.Record:
    """The search by inherited values; its trainings are the first arm."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    data = e.data()
    space = e.space(data)
    rows: list[dict[str, Any]] = []
    networks: list[Network] = []

    def objective(trial: optuna.Trial) -> float:
        network = suggest_network(trial, space, max_inherited_epochs=e.max_inherited_epochs)
        inherited = trial.study.trials[trial.number].user_attrs[INHERITED_EPOCHS]
        epochs, lr = (e.epochs, e.child_lr) if inherited else (e.first_epochs, e.lr)
        epochs += e.epochs_per_ancestor * n_ancestors(trial.study, trial.number)
        at = None if e.line_epochs is None else partial(in_line, inherited, e.line_epochs)
        average, judged = None, network
        if e.average is not None:
            at, average = constant, moving_average(network, e.average * math.ceil(len(data.train[0]) / e.batch_size))
            judged = average.module
        seconds = train(network, data, epochs, lr, (seed, trial.number), e, at, average)
        publish_weights(trial, network, epochs=epochs, average=average)
        rows.append(row(judged, data, epochs, seconds, trial.params) | {"inherited epochs": inherited})
        networks.append(judged)
        return float(rows[-1]["validation"])

    sampler = MorphBOSampler(seed=seed, n_startup_trials=e.startup, control_share=e.control_share)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=e.trials)
    for line, predicted, trial in zip(rows, predictions(study, space), study.trials, strict=True):
        assert line["fingerprint"] == trial.user_attrs[FINGERPRINT]
        line["predicted"] = predicted
    if e.cool_down:
        best = study.best_trial
        network = networks[best.number]
        seconds = train(network, data, e.cool_down, e.lr, (seed, e.trials), e)
        rows.append(row(network, data, e.cool_down, seconds, best.params) | {"cooled down": True})
    return {"rows": rows}


def proposed(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The trainings of a search that are of its proposals."""
    return [line for line in rows if "cooled down" not in line]


def n_ancestors(study: optuna.Study, number: int) -> int:
    """How many trials handed weights down to one, each to the next."""
    trials, n = study.trials, 0
    while (donor := trials[number].user_attrs.get(DONOR)) is not None:
        number, n = donor, n + 1
    return n


def constant(epoch: float) -> float:
    return 1.0


def in_line(inherited: float, line_epochs: float, epoch: float) -> float:
    """Factor of the learning rate in an epoch of a training that goes on with the schedule of its ancestors."""
    return max(LOWEST, 0.5 * (1 + math.cos(math.pi * min(1.0, (inherited + epoch) / line_epochs))))


def predictions(study: optuna.Study, space: MorphSpace) -> list[float]:
    """What the surrogate says of every trial at one reference training."""
    history = HistoryReader().read(study, space, -1)
    settings = Settings(WeisfeilerLehman(), None, None, deterministic=False)
    task = Task(space, Cube({}), {}, (1.0,))
    observed, means = predict_finished(task, history.observations, settings, np.random.default_rng(0))
    found = {o.number: float(mean) for o, mean in zip(observed, means[0], strict=True)}
    return [found[t.number] for t in study.trials]


def arm(e: Experiment, searches: Mapping[int, Sequence[Mapping[str, Any]]], name: str, seed: int) -> runs.Record:
    """An arm that trains from scratch what the search of a seed has proposed."""
    data = e.data()
    space = e.space(data)
    limit = cost(searches[seed])
    rows: list[dict[str, Any]] = []
    if name == RANDOM:
        rng = np.random.default_rng([seed, 1])
        member = space.random(rng)
        while cost(rows) <= limit:
            params = encoding.encode(space, member)
            rows.append(from_scratch(member.architecture, data, e.full_epochs, (seed, len(rows), 2), e, params))
            member = space.random(rng)
        return {"rows": rows}
    for i, proposal in enumerate(proposed(searches[seed])):
        epochs = proposal["epochs"] if name == SHORT else e.full_epochs
        member = encoding.decode(space, proposal["params"])
        draw = (seed, i, 3 if name == AGAIN else 4)
        rows.append(from_scratch(member.architecture, data, epochs, draw, e, proposal["params"]))
    return {"rows": rows}


def cut_off_arm(
    e: Experiment,
    searches: Mapping[int, Sequence[Mapping[str, Any]]],
    lengths: Mapping[str, int],
    name: str,
    seed: int,
) -> runs.Record:
    """Trainings of another length than full ones, until one has crossed the limit."""
    e = replace(e, full_epochs=lengths[name])
    planned = [{**line, "flops": line["flops"] / line["epochs"] * e.full_epochs} for line in proposed(searches[seed])]
    return arm(e, {seed: cut_off(planned, cost(searches[seed]), beyond=1)}, FULL, seed)


def finals(e: Experiment, entries: Mapping[int, Mapping[str, Mapping[str, Any]]], name: str, seed: int) -> runs.Record:
    """All finalists of a seed, from scratch, each once for all arms that have chosen it."""
    data = e.data()
    space = e.space(data)
    members = [(params, encoding.decode(space, params).architecture) for params in entries[seed].values()]
    return {
        "rows": [
            from_scratch(architecture, data, e.final_epochs, (seed, k, 5), e, params)
            for params, architecture in members
            for k in range(e.final_seeds)
        ]
    }


# What runs say.


def cut_off(full: Sequence[Mapping[str, Any]], limit: float, beyond: int = 0) -> list[Mapping[str, Any]]:
    """As many of the first trainings as the limit of FLOPs allows and some beyond it, at least one."""
    within = int(np.searchsorted(np.cumsum([line["flops"] for line in full]), limit * (1 + 1e-9), side="right"))
    return list(full[: max(1, within + beyond)])


def top(rows: Iterable[Mapping[str, Any]], k: int) -> dict[str, Mapping[str, Any]]:
    """The best by validation accuracy, each architecture once: parameters by fingerprint."""
    best_first = sorted(rows, key=lambda line: -line["validation"])
    found: dict[str, Mapping[str, Any]] = {}
    for line in best_first:
        found.setdefault(line["fingerprint"], line["params"])
    return dict(list(found.items())[:k])


def by_arm(records: Sequence[runs.Record]) -> dict[int, dict[str, list[Mapping[str, Any]]]]:
    """Trainings by seed and arm: the cut-off arm is made of the full one, and limits are kept, and crossed once."""
    result: dict[int, dict[str, list[Mapping[str, Any]]]] = {}
    for record in sorted(records, key=lambda r: int(r["seed"])):
        result.setdefault(record["seed"], {})[record["sampler"]] = record["rows"]
    for arms in result.values():
        limit = cost(arms[INHERITED])
        arms[CUT_OFF] = arms[FULL]
        for name in [name for name in arms if name.startswith((CUT_OFF, RANDOM))]:
            arms[name + ONE_MORE] = cut_off(arms[name], limit, beyond=1)
            arms[name] = cut_off(arms[name], limit)
    return result


SHARES = np.linspace(0.1, 1, 37)
"""Of the FLOPs of a search, where `anytime` looks."""


def anytime(rows: Sequence[Mapping[str, Any]], limit: float) -> np.ndarray:
    """Test accuracy in % of the best network after shares of the limit of FLOPs; of the first before it is trained."""
    best = [max(cut_off(rows, share * limit), key=lambda line: line["validation"]) for share in SHARES]
    return np.array([100 * line["test"] for line in best])


def finalist_test(rows: Sequence[Mapping[str, Any]], chosen: Iterable[str]) -> float:
    """Mean test accuracy of the finalist with the best mean validation accuracy."""
    best = max(
        chosen, key=lambda fingerprint: np.mean([r["validation"] for r in rows if r["fingerprint"] == fingerprint])
    )
    return float(np.mean([r["test"] for r in rows if r["fingerprint"] == best]))


def rankings(arms: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, tuple[float, float]]:
    """How well figures of the proposals rank them by test accuracy after full training; each architecture once.

    Spearman's correlation, and the partial one given the number of parameters: what a figure says beyond the size.
    """
    first = {line["fingerprint"]: i for i, line in reversed(list(enumerate(arms[INHERITED])))}
    rows = sorted(first.values())
    truth = [arms[FULL][i]["test"] for i in rows]
    figures = {
        "inherited value": [arms[INHERITED][i]["validation"] for i in rows],
        "predicted by the surrogate": [arms[INHERITED][i]["predicted"] for i in rows],
        "short training": [arms[SHORT][i]["validation"] for i in rows],
        SIZE: [arms[INHERITED][i]["parameters"] for i in rows],
    }
    if AGAIN in arms:
        figures["full training, another seed"] = [arms[AGAIN][i]["test"] for i in rows]
    found = {}
    for name, values in figures.items():
        r = spearmanr(np.column_stack([values, truth, figures[SIZE]]))[0]
        left = (1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2)
        found[name] = float(r[0, 1]), math.nan if left < 1e-9 else float((r[0, 1] - r[0, 2] * r[1, 2]) / left**0.5)
    return found


def report(results: Mapping[int, Mapping[str, Sequence[Mapping[str, Any]]]], e: Experiment) -> None:
    def column(arm_name: str, measure: Any) -> np.ndarray:
        return np.array([measure(arms[arm_name], arms) for arms in results.values()])

    def deployable(rows: Sequence[Mapping[str, Any]], _: Any) -> float:
        return 100 * float(max(rows, key=lambda line: line["validation"])["test"])

    def finalist(rows: Sequence[Mapping[str, Any]], arms: Mapping[str, Any]) -> float:
        return 100 * finalist_test(arms[FINALS], top(rows, e.top_k))

    def total(key: str, unit: float = 1.0) -> Any:
        return lambda rows, _: sum(line[key] for line in rows) / unit

    lines = []
    for name in [name for name in next(iter(results.values())) if name not in (AGAIN, FINALS)]:
        outcomes = [column(name, deployable)] + ([column(name, finalist)] if name in ARMS else [])
        ours = [column(INHERITED, deployable), column(INHERITED, finalist)]
        cells = [
            f"{column(name, lambda rows, _: len(rows)).mean():.1f}",
            f"{column(name, total('flops', 1e12)).mean():.3g}",
            f"{column(name, total('training seconds')).mean():.3g}",
        ]
        for outcome, our in zip(outcomes, ours, strict=False):
            cells += [f"{outcome.mean():.2f} ± {outcome.std():.2f}", runs.difference(our, outcome, digits=2)]
        lines.append([name, *cells, *[""] * (2 * len(ours) - 2 * len(outcomes))])
    header = [
        "",
        "networks",
        "TFLOPs",
        "seconds",
        "deployable %",
        "inherited - this",
        "finalists %",
        "inherited - this",
    ]
    runs.print_table(f"{len(results)} seeds: mean ± standard deviation, differences with 95 % intervals", header, lines)

    ranked = [rankings(arms) for arms in results.values()]
    lines = []
    for figure in ranked[0]:
        cells = []
        for values in np.array([r[figure] for r in ranked]).T:
            low, high = runs.interval(values)
            cells.append("" if figure == SIZE and cells else f"{values.mean():.2f} [{low:.2f}, {high:.2f}]")
        lines.append([figure, *cells])
    title = "Spearman with test accuracy after full training, mean over seeds"
    runs.print_table(title, ["", "", f"given the number of {SIZE}"], lines)


def draw(results: Mapping[int, Mapping[str, Sequence[Mapping[str, Any]]]], path: Path) -> None:
    """The best network so far against FLOPs, for each arm that spends no more than the search."""
    names = [n for n in next(iter(results.values())) if n not in (FULL, AGAIN, FINALS) and not n.endswith(ONE_MORE)]
    lines = {
        name: 100 - np.array([anytime(arms[name], cost(arms[INHERITED])) for arms in results.values()])
        for name in names
    }
    x = "FLOPs, as a share of those of the search"
    runs.plot(path, "Best network so far as it is", "test error %", lines, x=x, x_values=list(SHARES), log_y=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = partial(parser.add_argument)
    add("--seeds", type=int, default=5)
    add("--jobs", type=int, default=1, help="processes, one thread each")
    add("--out", type=Path, help="JSON-lines file that runs are added to; what it has is not run again")
    add("--plot", type=Path, help="where to draw: x.html (and x.png beside it if kaleido is there)")
    add("--ceiling", action="store_true", help="also train everything in full with another seed")
    add("--series", action="store_true", help="MNIST-1D, with presets.conv1d")
    add("--fashion", help="npz file; see above")
    add("--train-images", type=int, default=6000, help="of Fashion-MNIST")
    add("--whole", action="store_true", help="28 x 28 pixels")
    add("--preset", choices=("cnn", "resnet", "densenet"), default="cnn")
    add("--width", type=int, default=8)
    add("--depth", type=int, default=2)
    add("--max-parameters", type=int, default=200_000)
    add("--max-morphisms", type=int, default=12)
    add("--trials", type=int, default=40)
    add("--startup", type=int, default=10, help="trials before the surrogate is used")
    add("--control-share", type=float, default=0.1)
    add("--max-inherited-epochs", type=float)
    add("--line-epochs", type=float, help="in the search, one schedule of that length from the first of a line on")
    add("--epochs", type=int, default=3, help="of a child, and of a short training from scratch")
    add("--first-epochs", type=int, help="of a trial of the search that inherits nothing; by default --epochs")
    add("--epochs-per-ancestor", type=int, default=0, help="of the search, more for each one that weights came through")
    add("--average", type=float, help="epochs that the search averages weights over, at a constant learning rate")
    add("--cool-down", type=int, default=0, help="epochs that the best of the search is trained on for at the end")
    add("--full-epochs", type=int, default=20)
    add("--cut-off-epochs", type=int, nargs="+", default=[], help="other lengths of trainings that are cut off")
    add("--final-epochs", type=int, help="by default --full-epochs")
    add("--final-seeds", type=int, default=2)
    add("--top-k", type=int, default=3)
    add("--lr", type=float, default=0.1, help="peak learning rate from scratch")
    add("--child-lr", type=float, help="peak learning rate of what inherits; by default --lr")
    add("--momentum", type=float, default=0.9)
    add("--weight-decay", type=float, default=1e-4)
    add("--batch-size", type=int, default=50)
    args = parser.parse_args(arguments)
    args.first_epochs = args.first_epochs or args.epochs
    args.final_epochs = args.final_epochs or args.full_epochs
    args.child_lr = args.lr if args.child_lr is None else args.child_lr
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse(arguments)
    options = vars(args)
    e = Experiment(**{name: options[name] for name in Experiment.__dataclass_fields__})
    go = partial(runs.run_all, n_seeds=args.seeds, settings=asdict(e), jobs=args.jobs, out=args.out)

    records = go(partial(search, e), [INHERITED])
    searches = {r["seed"]: r["rows"] for r in records}
    names = [SHORT, FULL, RANDOM] + ([AGAIN] if args.ceiling else [])
    records += go(partial(arm, e, searches), names)
    lengths = {f"{CUT_OFF}, {n} epochs": n for n in args.cut_off_epochs}
    records += go(partial(cut_off_arm, e, searches, lengths), list(lengths))
    results = by_arm(records)
    chosen = {
        seed: {k: v for name in ARMS for k, v in top(arms[name], e.top_k).items()} for seed, arms in results.items()
    }
    for record in go(partial(finals, e, chosen), [FINALS]):
        results[record["seed"]][FINALS] = record["rows"]
    report(results, e)
    if args.plot:
        draw(results, args.plot)


if __name__ == "__main__":
    main()
