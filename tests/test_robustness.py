"""Whatever a study holds, the next proposal is a valid architecture that has not been tried."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_nas_morph import (
    Architecture,
    CellSpace,
    LabelledGraph,
    MorphBOSampler,
    MorphSpace,
    Node,
    encoding,
    presets,
    suggest_architecture,
)
from optuna_nas_morph.ir.ops import Activation, Add, Input, Linear
from optuna_nas_morph.morphisms import Deepen, Widen
from optuna_nas_morph.spaces.cells import graph_of_edge_operations
from tests.studies import CNN, CNN_MORPHISMS, quick_sampler

Space = CellSpace | MorphSpace

OPEN = MorphSpace(CNN, CNN_MORPHISMS, max_morphisms=8)
CLOSED = presets.nas_bench_201()
SPACES: dict[str, Space] = {"open": OPEN, "closed": CLOSED}

COMPLETE, PRUNED, FAIL, RUNNING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING


def random_params(space: Space, rng: np.random.Generator) -> dict[str, Any]:
    return encoding.encode(space, space.random(rng))


def trials(
    space: Space, states: Sequence[TrialState], values: Sequence[float | None], curve: bool = False
) -> list[FrozenTrial]:
    rng, known = np.random.default_rng(0), encoding.distributions(space)
    result = []
    for state, value in zip(states, values, strict=True):
        params = random_params(space, rng)
        steps = {0: value, 1: value} if curve and value is not None else {}
        kept = value if state == COMPLETE else None
        distributions = {name: known[name] for name in params}
        result.append(
            create_trial(state=state, value=kept, params=params, distributions=distributions, intermediate_values=steps)
        )
    return result


def next_is_valid_and_new(space: Space, history: Sequence[FrozenTrial], direction: str = "maximize") -> None:
    study = optuna.create_study(sampler=quick_sampler(3), direction=direction)
    study.add_trials(history)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            suggest_architecture(study.ask(), space)
    *before, first, second = [
        encoding.decode(space, t.params).fingerprint for t in study.get_trials(deepcopy=False) if t.params
    ]
    assert first not in before
    assert second not in [*before, first]


MANY_VALUES: dict[str, list[float | None]] = {
    "infinities": [math.inf, -math.inf, 0.5, 0.7, math.inf, 0.6, -math.inf],
    "only infinities": [math.inf] * 3 + [-math.inf] * 3,
    "huge": [1e308, -1e308, 1e308, 0.0, -1e308, 1.0],
    "largest": [np.finfo(float).max, np.finfo(float).min, 0.0, 5e-324, 1.0],
    "constant": [0.9] * 8,
    "nearly constant": [0.9 + 1e-12 * i for i in range(8)],
    "one diverged": [0.9, 0.91, 0.92, 0.93, -1e30],
}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("values", MANY_VALUES.values(), ids=MANY_VALUES)
def test_any_values(space: Space, direction: str, values: list[float | None]) -> None:
    next_is_valid_and_new(space, trials(space, [COMPLETE] * len(values), values), direction)


STATES: dict[str, tuple[list[TrialState], list[float | None], bool]] = {
    "none": ([], [], False),
    "one": ([COMPLETE], [0.5], False),
    "one that failed": ([FAIL], [None], False),
    "all failed": ([FAIL] * 8, [None] * 8, False),
    "all pruned": ([PRUNED] * 8, [0.1 * i for i in range(8)], True),
    "all pruned before they reported": ([PRUNED] * 8, [None] * 8, False),
    "all pruned with NaN": ([PRUNED] * 8, [math.nan] * 8, True),
    "50 running, none finished": ([RUNNING] * 50, [None] * 50, False),
    "50 running": ([COMPLETE] * 6 + [RUNNING] * 50, [0.1 * i for i in range(6)] + [None] * 50, False),
    "all kinds": ([COMPLETE, PRUNED, FAIL, RUNNING] * 5, [0.5, math.nan, None, None] * 5, True),
}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("history", STATES.values(), ids=STATES)
def test_any_states(space: Space, history: tuple[list[TrialState], list[float | None], bool]) -> None:
    states, values, curve = history
    next_is_valid_and_new(space, trials(space, states, values, curve))


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_100_trials_of_one_architecture(space: Space) -> None:
    params = random_params(space, np.random.default_rng(1))
    known = encoding.distributions(space)
    distributions = {name: known[name] for name in params}
    history = [create_trial(value=0.01 * i, params=params, distributions=distributions) for i in range(100)]
    next_is_valid_and_new(space, history)


def test_an_architecture_of_one_node() -> None:
    graph = LabelledGraph(("only",), ())
    sizes = {"one": graph, "two": LabelledGraph(("only", "other"), ((0, 1),)), "none": LabelledGraph((), ())}
    space = CellSpace({"size": tuple(sizes)}, lambda choices: sizes[choices["size"]])
    study = optuna.create_study(sampler=quick_sampler(1))
    study.optimize(lambda trial: float(len(suggest_architecture(trial, space)["size"])), n_trials=3)
    assert {t.params["arch/size"] for t in study.trials} == set(sizes)


@pytest.mark.slow
def test_architectures_of_1000_nodes() -> None:
    nodes = [Node("x", Input((8,)))]
    last = "x"
    for i in range(333):
        nodes += [
            Node(f"fc_{i}", Linear(8), (last,)),
            Node(f"relu_{i}", Activation("relu"), (f"fc_{i}",)),
            Node(f"add_{i}", Add(), (f"relu_{i}", last)),
        ]
        last = f"add_{i}"
    seed = Architecture((*nodes, Node("out", Linear(2), (last,))))
    assert len(seed.nodes) > 1000
    space = MorphSpace(seed, (Widen(2.0), Deepen("relu")), max_morphisms=3, max_nodes=2000)
    study = optuna.create_study(sampler=quick_sampler(2), direction="maximize")
    study.optimize(lambda trial: float(suggest_architecture(trial, space).n_parameters), n_trials=5)
    assert len({t.user_attrs["nasmorph:fingerprint"] for t in study.trials}) == 5


def mirrored(space: Space, sign: float, make: Callable[[], MorphBOSampler]) -> list[dict[str, Any]]:
    def objective(trial: optuna.Trial) -> float:
        suggest_architecture(trial, space)
        lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        member = encoding.decode(space, trial.params)
        # An odd function of nothing that the sampler knows, not symmetric in itself.
        value = float(int(member.fingerprint[:6], 16) % 97) ** 2 + math.log(lr)
        return sign * value

    study = optuna.create_study(sampler=make(), direction="maximize" if sign > 0 else "minimize")
    study.optimize(objective, n_trials=9)
    return [t.params for t in study.trials]


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_minimising_mirrors_maximising_exactly(space: Space) -> None:
    assert mirrored(space, 1.0, lambda: quick_sampler(3)) == mirrored(space, -1.0, lambda: quick_sampler(3))


@pytest.mark.parametrize("left", range(0, 27, 2))
def test_a_cell_that_is_left_is_found_though_others_look_better(left: int) -> None:
    # All but one have been tried with both values of a discrete hyperparameter.
    operations = ("none", "skip_connect", "a")
    edges = [(0, 1), (0, 2), (1, 2)]
    space = CellSpace(
        {f"{i}-{j}": operations for i, j in edges},
        lambda choices: graph_of_edge_operations({(i, j): choices[f"{i}-{j}"] for i, j in edges}, 3),
    )
    members = list(space.members())
    classes = {m.fingerprint: m for m in members}
    distributions = {**encoding.distributions(space), "n": optuna.distributions.IntDistribution(0, 1)}
    study = optuna.create_study(sampler=quick_sampler(3, search=None))
    for fingerprint, member in classes.items():
        for n in (0, 1) if fingerprint != members[left].fingerprint else ():
            params = {**encoding.encode(space, member), "n": n}
            study.add_trial(create_trial(value=float(n), params=params, distributions=distributions))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choices = suggest_architecture(study.ask(), space)
    assert space.cell(choices).fingerprint == members[left].fingerprint
