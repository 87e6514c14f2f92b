"""Samplers in open spaces: architectures that grow by morphisms, and a best one that is known.

    python -m tests.benchmarks.open_space --problems size motif graph joint --seeds 20
    python -m tests.benchmarks.open_space --problems digits --seeds 5 --evaluations 60

The objectives are made up, so no data is needed and the best value is 1 by construction; 0 is that of the seed
architecture.

size    logarithm of the parameters and number of nodes, compared with those of a hidden architecture
motif   two concatenating skips, and a residual block that a wide convolution follows; past the parameters of the
        smallest of 1,000 random architectures that have it all, every doubling costs 0.2
graph   what the neighbourhoods of all nodes have in common with those of a hidden architecture, every kind of
        neighbourhood with its own random weight (a Weisfeiler-Lehman hash of its own, not the surrogate's)
joint   size, times a learning rate that is best at 3 / sqrt(parameters)
digits  no made-up one: validation accuracy of small networks on scikit-learn's digits, each trained from scratch for
        --epochs, its initial weights drawn by the number of the trial. The best is the best that any run has found.

An evaluation is a trial. Reported are the best value after all of them, and the evaluations to --levels of the way from
0 to the best.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

from optuna_nas_morph import Architecture, MorphSpace, Network, presets, suggest_architecture
from optuna_nas_morph.morphisms import AddSkip, Deepen, GrowKernel, InsertResidualBlock, Widen, fresh_weights
from tests.benchmarks import runs

SAMPLERS = (runs.MORPH_BO, runs.TPE_GROUP, runs.EVOLUTION, runs.EVOLUTION_BACK, runs.RANDOM)
LEVELS = (0.7, 0.9, 0.99)
MORPHISMS = (Widen(1.5), Widen(2.0), InsertResidualBlock(3), Deepen("relu", 3), GrowKernel(2), AddSkip())
"""Those of the problems, whatever `presets.resnet` has by default."""


@dataclass(frozen=True)
class Problem:
    """An objective with what is known of it.

    Attributes:
        space:
            Where architectures come from.
        objective:
            What is maximised.
        low:
            The value of the seed architecture.
        best:
            The best possible value; :obj:`None` if nobody knows.
    """

    space: MorphSpace
    objective: Callable[[optuna.trial.BaseTrial], float]
    low: float = 0.0
    best: float | None = 1.0


def hidden(space: MorphSpace, seed: int, n_steps: int) -> Architecture:
    """A random architecture at the end of exactly so many steps."""
    rng = np.random.default_rng(seed)
    member = space.first()
    while len(member.steps) < n_steps:
        member = space.random_child(member, rng) or member
    return member.architecture


def of_architecture(space: MorphSpace, value: Callable[[Architecture], float]) -> Problem:
    """The objective that a value of architectures makes, scaled so that the seed has 0; its best must be 1."""
    low = value(space.seed)
    return Problem(space, lambda trial: (value(suggest_architecture(trial, space)) - low) / (1 - low))


# size


def size_distance(a: Architecture, b: Architecture) -> float:
    """How differently large two architectures are."""
    return abs(math.log(a.n_parameters / b.n_parameters)) + 0.1 * abs(len(a.nodes) - len(b.nodes))


def size() -> Problem:
    space = presets.mlp((16,), 4, width=16, depth=2, max_morphisms=8)
    target = hidden(space, 1, 6)
    return of_architecture(space, lambda a: 1 - size_distance(a, target))


# motif


def motif_parts(architecture: Architecture) -> float:
    """How much of the motif is there: 0 to 1."""
    graph = architecture.kernel_graph()
    n_concats = sum(label.startswith("concat") for label in graph.labels)
    sums = {i for i, label in enumerate(graph.labels) if label.startswith("add")}
    followers = [graph.labels[j] for i, j in graph.edges if i in sums and "conv" in graph.labels[j]]
    width = max((int(label.split(".w")[1].split("+")[0]) for label in followers), default=0)  # a power of two
    followed = 0.5 * bool(followers) + 0.5 * (width >= 5)
    return 0.3 * (1 - min(abs(n_concats - 2), 2) / 2) + 0.3 * bool(sums) + 0.4 * followed


@functools.cache
def cheapest_motif(space: MorphSpace) -> int:
    """Parameters of the smallest of many random architectures that have the whole motif."""
    rng = np.random.default_rng(2)
    draws = (space.random(rng).architecture for _ in range(1000))
    return min(a.n_parameters for a in draws if motif_parts(a) > 1 - 1e-9)


def motif() -> Problem:
    space = presets.cnn((1, 8, 8), 10, width=8, depth=2, max_morphisms=10)
    free = cheapest_motif(space)

    def value(architecture: Architecture) -> float:
        return motif_parts(architecture) - 0.2 * max(0.0, math.log2(architecture.n_parameters / free))

    return of_architecture(space, value)


# graph


def neighbourhoods(architecture: Architecture, n_iter: int = 2) -> Counter[str]:
    """Weisfeiler-Lehman labels of all nodes, levels 0 to n_iter, of the graph before any folding."""

    def short(*parts: object) -> str:
        return hashlib.md5(repr(parts).encode(), usedforsecurity=False).hexdigest()

    def first(name: str) -> str:
        return short(
            type(architecture.nodes[architecture.index[name]].op).__name__,
            round(math.log2(architecture.specs[name].shape[0])),
        )

    labels = {node.name: first(node.name) for node in architecture.nodes}
    counts = Counter(labels.values())
    for _ in range(n_iter):
        labels = {
            node.name: short(
                labels[node.name],
                sorted(labels[name] for name in node.inputs),
                sorted(labels[name] for name in architecture.consumers[node.name]),
            )
            for node in architecture.nodes
        }
        counts.update(labels.values())
    return counts


def weight(feature: str) -> float:
    """A fixed random number, log-normal."""
    return math.exp(float(np.random.default_rng(int(feature, 16)).normal()))


def similarity(a: Counter[str], b: Counter[str]) -> float:
    """Weighted Jaccard similarity: 1 for equal counts."""
    weights = {feature: weight(feature) for feature in a | b}
    return sum(n * weights[f] for f, n in (a & b).items()) / sum(n * weights[f] for f, n in (a | b).items())


def graph() -> Problem:
    space = presets.cnn((1, 8, 8), 10, width=8, depth=2, max_morphisms=8)
    target = neighbourhoods(hidden(space, 3, 5))
    return of_architecture(space, lambda a: similarity(neighbourhoods(a), target))


# joint


def joint() -> Problem:
    space = presets.resnet((3, 16, 16), 10, width=8, max_morphisms=6, morphisms=MORPHISMS)
    target = hidden(space, 4, 4)

    def objective(trial: optuna.trial.BaseTrial) -> float:
        architecture = suggest_architecture(trial, space)
        lr = trial.suggest_float("lr", 1e-4, 1.0, log=True)
        off = math.log10(lr * math.sqrt(architecture.n_parameters) / 3)
        return 1 - size_distance(architecture, target) - off**2

    return Problem(space, objective, low=1 - size_distance(space.seed, target))


# digits


@functools.cache
def digits_data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """1,000 images to train on and 797 to validate on."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    x = torch.as_tensor(images[order] / 16.0, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.as_tensor(labels[order])
    return x[:1000], y[:1000], x[1000:], y[1000:]


def trained_accuracy(architecture: Architecture, lr: float, epochs: int, seed: int) -> float:
    """Validation accuracy after training from scratch."""
    x, y, x_validation, y_validation = digits_data()
    network = Network(architecture)
    network.load_state_dict(fresh_weights(architecture, np.random.default_rng(seed)))
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * math.ceil(len(x) / 64))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        network.train()
        for batch in torch.randperm(len(x), generator=generator).split(64):
            optimizer.zero_grad()
            F.cross_entropy(network(x[batch]), y[batch]).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        return float((network(x_validation).argmax(1) == y_validation).float().mean())


def digits(epochs: int) -> Problem:
    space = presets.cnn((1, 8, 8), 10, width=8, depth=2, max_parameters=50_000, max_flops=2_000_000, max_morphisms=10)

    def objective(trial: optuna.trial.BaseTrial) -> float:
        architecture = suggest_architecture(trial, space)
        return trained_accuracy(architecture, trial.suggest_float("lr", 1e-3, 0.3, log=True), epochs, trial.number)

    return Problem(space, objective, low=trained_accuracy(space.seed, 0.1, epochs, 0), best=None)


PROBLEMS: dict[str, Callable[[], Problem]] = {"size": size, "motif": motif, "graph": graph, "joint": joint}
DIGITS = "digits"


@functools.cache
def problem_of(name: str, epochs: int) -> Problem:
    return digits(epochs) if name == DIGITS else PROBLEMS[name]()


def run(problem: str, epochs: int, n: int, sampler: str, seed: int) -> runs.Record:
    study = runs.optimise(runs.SAMPLERS[sampler](seed), problem_of(problem, epochs).objective, n)
    return {"values": [t.value for t in study.get_trials(deepcopy=False)]}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    runs.add_arguments(parser, samplers=SAMPLERS, seeds=20, evaluations=100)
    parser.add_argument("--problems", nargs="+", choices=[*PROBLEMS, DIGITS], default=list(PROBLEMS))
    parser.add_argument("--epochs", type=int, default=3, help="of every training on digits (default: %(default)s)")
    parser.add_argument("--levels", type=float, nargs="+", default=LEVELS, help="default: %(default)s")
    args = parser.parse_args(argv)
    for name in args.problems:
        settings = {"benchmark": "open_space", "problem": name, "evaluations": args.evaluations}
        if name == DIGITS:
            settings["epochs"] = args.epochs
        records = runs.run_all(
            functools.partial(run, name, args.epochs, args.evaluations),
            args.samplers,
            args.seeds,
            settings=settings,
            jobs=args.jobs,
            out=args.out,
        )
        problem = problem_of(name, args.epochs)
        curves = runs.curves(records, args.samplers)
        best = max(float(c.max()) for c in curves.values()) if problem.best is None else problem.best
        levels = {f"{level:.0%}": problem.low + level * (best - problem.low) for level in args.levels}
        runs.print_levels(
            f"{name}: seed architecture {problem.low:.3f}, best {best:.4f}, {args.seeds} seeds", curves, levels
        )
        if args.plot:
            path = args.plot.with_stem(f"{args.plot.stem}-{name}")
            runs.plot(path, f"Open space, {name}", "best so far", curves)


if __name__ == "__main__":
    main()
