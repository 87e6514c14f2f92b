"""Tiny spaces and objectives for tests of studies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optuna

from optuna_nas_morph import MorphBOSampler, MorphSpace, Network, publish_weights, suggest_network
from optuna_nas_morph.ir.ops import BatchNorm, Conv, GlobalPool, Input, Linear
from optuna_nas_morph.morphisms import AddSkip, ConcatSkip, Deepen, GrowKernel, InsertResidualBlock, Widen
from optuna_nas_morph.search import TreeSearch
from tests.morphisms.architectures import RELU, graph

optuna.logging.set_verbosity(optuna.logging.ERROR)

MLP = graph(
    ("x", Input((5,))),
    ("a", Linear(4)),
    ("a_relu", RELU),
    ("b", Linear(3)),
    ("b_relu", RELU),
    ("fc", Linear(2)),
)
MLP_MORPHISMS = (Widen(1.5), Widen(2.0), Deepen("relu"), AddSkip(), ConcatSkip())
SPACE = MorphSpace(MLP, MLP_MORPHISMS, max_morphisms=3)

CNN = graph(
    ("image", Input((1, 5, 5))),
    ("conv_1", Conv.same(2, 3, 3, bias=False)),
    ("norm_1", BatchNorm()),
    ("relu_1", RELU),
    ("conv_2", Conv.same(2, 4, 3)),
    ("relu_2", RELU),
    ("pool", GlobalPool()),
    ("fc", Linear(2)),
)
CNN_MORPHISMS = (
    Widen(1.5),
    Widen(2.0, "zero"),
    Deepen("relu", 3),
    InsertResidualBlock(3),
    GrowKernel(2),
    AddSkip(),
    ConcatSkip(),
)
CNN_SPACE = MorphSpace(CNN, CNN_MORPHISMS, max_morphisms=4)


def quick_sampler(n_startup_trials: int = 2, seed: int = 0, **arguments: Any) -> MorphBOSampler:
    """A sampler that proposes in milliseconds."""
    search = arguments.pop("search", TreeSearch(n_candidates=20))
    return MorphBOSampler(n_startup_trials=n_startup_trials, seed=seed, search=search, **arguments)


def score(network: Network, lr: float) -> float:
    """A value without training: best at 90 parameters and a learning rate of 0.01."""
    return -abs(np.log(network.architecture.n_parameters / 90)) - 0.3 * abs(np.log10(lr) + 2)


def make_objective(
    space: MorphSpace = SPACE, *, lr_first: bool = False, publish: bool = True, sign: float = 1.0
) -> Callable[[optuna.trial.BaseTrial], float]:
    """An objective with an architecture and a hyperparameter."""

    def objective(trial: optuna.trial.BaseTrial) -> float:
        if lr_first:
            lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        network = suggest_network(trial, space)
        if not lr_first:
            lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        value = sign * score(network, lr)
        for epoch in range(2):
            trial.report(value, epoch)
            if trial.should_prune():
                if publish:
                    publish_weights(trial, network)
                raise optuna.TrialPruned
        if publish:
            publish_weights(trial, network)
        return value

    return objective


def key_of(trial: optuna.trial.FrozenTrial) -> tuple[str, tuple[tuple[str, Any], ...], str]:
    """What is not proposed twice: the fingerprint, the hyperparameters and what the trial is for."""
    hyperparameters = {k: v for k, v in trial.params.items() if not k.startswith("arch/")}
    kind = trial.user_attrs.get("nasmorph:kind", "search")
    return trial.user_attrs["nasmorph:fingerprint"], tuple(sorted(hyperparameters.items())), kind
