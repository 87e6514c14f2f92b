"""Spaces as Optuna parameters: round trips, a frozen format, and errors that help. First open spaces, then closed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, distribution_to_json
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler
from optuna.trial import FixedTrial, TrialState

from optuna_nas_morph import CellSpace, LabelledGraph, MorphBOSampler, presets, suggest_architecture
from optuna_nas_morph import encoding as all_spaces
from optuna_nas_morph.encoding import cell as cell_encoding
from optuna_nas_morph.encoding import morph as encoding
from optuna_nas_morph.errors import ArchitectureError, EncodingError, MorphismError
from optuna_nas_morph.morphisms import Deepen, Widen
from optuna_nas_morph.spaces import MorphSpace, Step
from tests.studies import CNN, CNN_SPACE, MLP, SPACE, quick_sampler

GOLDEN = Path(__file__).with_name("golden_encoding_v1.json")


def random_steps(space: MorphSpace, n: int, rng: np.random.Generator) -> tuple[Step, ...]:
    """A chain drawn from what the morphisms themselves offer, not from the encoding."""
    architecture, steps = space.seed, []
    for _ in range(n):
        morphism = space.morphisms[rng.integers(len(space.morphisms))]
        sites = morphism.sites(architecture)
        if not sites:
            continue
        step = Step(morphism, sites[rng.integers(len(sites))])
        child = morphism.apply(architecture, step.site)
        if space.violation(child) is None:
            architecture = child
            steps.append(step)
    return tuple(steps)


def random_params(space: MorphSpace, rng: np.random.Generator) -> dict[str, Any]:
    """A point of the encoding, drawn from the distributions with numpy alone."""
    params: dict[str, Any] = {}
    for name, distribution in encoding.distributions(space).items():
        if name == "arch/n":
            params[name] = int(rng.integers(distribution.high + 1))
        elif name.endswith("/op"):
            params[name] = distribution.choices[rng.integers(len(distribution.choices))]
        else:
            params[name] = float(rng.choice([0.0, 1.0, np.nextafter(1.0, 0.0), rng.random(), rng.random()]))
    return params


# Round trips.


def check_round_trips(space: MorphSpace, n: int) -> None:
    rng = np.random.default_rng(7)
    for _ in range(n):
        steps = random_steps(space, int(rng.integers(space.max_morphisms + 1)), rng)
        params = encoding.encode(space, steps)
        assert params["arch/n"] == len(steps) == (len(params) - 1) / 2
        descendant = encoding.decode(space, params)
        assert descendant.steps == steps
        assert descendant.architecture == space.replay(steps)


@pytest.mark.parametrize("space", [SPACE, CNN_SPACE], ids=["mlp", "cnn"])
def test_a_chain_of_steps_survives_encoding(space: MorphSpace) -> None:
    check_round_trips(space, 150)


@pytest.mark.slow
@pytest.mark.parametrize("space", [SPACE, CNN_SPACE], ids=["mlp", "cnn"])
def test_5000_chains_of_steps_survive_encoding(space: MorphSpace) -> None:
    check_round_trips(space, 5000)


@pytest.mark.parametrize(
    "space",
    [SPACE, CNN_SPACE, MorphSpace(MLP, (Widen(2.0), Deepen()), 3, max_parameters=70, max_nodes=8)],
    ids=["mlp", "cnn", "limits"],
)
def test_every_point_decodes_within_the_limits_and_says_so_again(space: MorphSpace) -> None:
    rng = np.random.default_rng(11)
    for _ in range(100):
        params = random_params(space, rng)
        descendant = encoding.decode(space, params)
        assert len(descendant.steps) <= params["arch/n"]
        assert space.violation(descendant.architecture) is None
        # The canonical parameters stand for the same thing, and for themselves.
        canonical = encoding.encode(space, descendant.steps)
        assert encoding.decode(space, canonical) == descendant
        assert encoding.encode(space, encoding.decode(space, canonical).steps) == canonical


def test_where_nothing_is_refused_a_step_is_the_site_at_its_place() -> None:
    sites = Widen(1.5).sites(MLP)
    assert len(sites) == 2
    for at, expected in [(0.0, 0), (0.25, 0), (0.4999, 0), (0.5, 1), (0.9, 1), (1.0, 1)]:
        params = {"arch/n": 1, "arch/00/op": "widen:1.5", "arch/00/at": at}
        assert encoding.decode(SPACE, params).steps == (Step(Widen(1.5), sites[expected]),)
    assert encoding.encode(SPACE, (Step(Widen(1.5), sites[1]),))["arch/00/at"] == 0.75


def test_a_step_that_fits_nowhere_is_skipped() -> None:
    space = MorphSpace(MLP, (Widen(2.0), Deepen()), 3, max_nodes=len(MLP.nodes))
    params = {
        "arch/n": 2,
        "arch/00/op": "deepen:relu",
        "arch/00/at": 0.1,
        "arch/01/op": "widen:2",
        "arch/01/at": 0.1,
    }
    assert [str(s) for s in encoding.decode(space, params).steps] == ["widen:2 at a"]


def test_other_parameters_are_left_alone() -> None:
    params = {"arch/n": 0, "lr": 0.1, "arch/00/op": "no such morphism", "arch/07/at": math.nan}
    assert encoding.decode(SPACE, params).architecture is MLP


def test_a_chain_that_is_too_long_or_foreign_is_refused() -> None:
    rng = np.random.default_rng(0)
    long = MorphSpace(MLP, SPACE.morphisms, 9)
    steps: tuple[Step, ...] = ()
    while len(steps) < 4:
        steps = random_steps(long, 6, rng)
    with pytest.raises(MorphismError, match="at most 3 steps"):
        encoding.encode(SPACE, steps)
    with pytest.raises(MorphismError, match="not a morphism of this space"):
        encoding.encode(SPACE, (Step(Widen(3.0), ("a",)),))


# The format.


def golden() -> dict[str, Any]:
    """What the golden file freezes. A change here is a change of the format: new version, new file."""
    rng = np.random.Generator(np.random.PCG64(2024))
    result: dict[str, Any] = {}
    for name, space in {"mlp": SPACE, "cnn": CNN_SPACE}.items():
        examples = []
        for _ in range(12):
            params = random_params(space, rng)
            descendant = encoding.decode(space, params)
            used = {k: params[k] for k in encoding.encode(space, ()) | _names(params["arch/n"])}
            examples.append({"params": used, "steps": [str(s) for s in descendant.steps]})
        result[name] = {
            "distributions": {k: json.loads(distribution_to_json(d)) for k, d in encoding.distributions(space).items()},
            "sites": {str(m): [" ".join(s) for s in m.sites(space.seed)] for m in space.morphisms},
            "examples": examples,
        }
    return result


def _names(n: int) -> dict[str, None]:
    return {f"arch/{i:02d}/{what}": None for i in range(n) for what in ("op", "at")}


def test_parameters_sites_and_meaning_are_those_of_version_1() -> None:
    assert golden() == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_names_and_distributions() -> None:
    names = list(encoding.distributions(SPACE))
    assert names == ["arch/n", *(f"arch/0{i}/{what}" for i in range(3) for what in ("op", "at"))]
    many = list(encoding.distributions(MorphSpace(CNN, max_morphisms=101)))
    assert len(set(many)) == len(many) == 203


# What is enqueued or fixed wrongly.

OP = "arch/00/op"
AT = "arch/00/at"
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown op": ({"arch/n": 1, OP: "shrink:2", AT: 0.5}, OP),
    "op is no text": ({"arch/n": 1, OP: 7, AT: 0.5}, OP),
    "n too large": ({"arch/n": 4}, "arch/n"),
    "n enormous": ({"arch/n": 10**12}, "arch/n"),
    "n negative": ({"arch/n": -1}, "arch/n"),
    "n between integers": ({"arch/n": 1.5}, "arch/n"),
    "n no number": ({"arch/n": "two"}, "arch/n"),
    "at too large": ({"arch/n": 1, OP: "widen:2", AT: 1.5}, AT),
    "at negative": ({"arch/n": 1, OP: "widen:2", AT: -0.01}, AT),
    "at NaN": ({"arch/n": 1, OP: "widen:2", AT: math.nan}, AT),
    "at infinite": ({"arch/n": 1, OP: "widen:2", AT: math.inf}, AT),
    "at no number": ({"arch/n": 1, OP: "widen:2", AT: "left"}, AT),
}
SAMPLERS: dict[str, Callable[[], BaseSampler]] = {
    "random": lambda: RandomSampler(seed=0),
    "startup": lambda: quick_sampler(99),
    "fitted": lambda: quick_sampler(1),
}


@pytest.mark.parametrize("params", [p for p, _ in WRONG.values()], ids=WRONG)
def test_decode_says_which_parameter_is_wrong(params: dict[str, Any], request: pytest.FixtureRequest) -> None:
    name = WRONG[request.node.callspec.id][1]
    with pytest.raises(EncodingError, match=name):
        encoding.decode(SPACE, params)


@pytest.mark.filterwarnings("ignore:Fixed parameter", "ignore:enqueue_trial", "ignore:The value")
@pytest.mark.parametrize("make_sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("lr_first", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in WRONG if kind != "n between integers"])  # Optuna truncates that.
def test_a_wrong_enqueued_trial_fails_alone(kind: str, lr_first: bool, make_sampler: Callable[[], BaseSampler]) -> None:
    params, name = WRONG[kind]
    study = optuna.create_study(sampler=make_sampler())

    def objective(trial: optuna.Trial) -> float:
        if lr_first:  # Not enqueued: the whole proposal is made before the wrong value is asked for.
            trial.suggest_float("lr", 0.0, 1.0)
        return float(suggest_architecture(trial, SPACE).n_parameters)

    study.optimize(objective, n_trials=2)
    before = [t.params for t in study.trials]
    study.enqueue_trial(params)
    with pytest.raises(EncodingError) as e:
        study.optimize(objective, n_trials=1)
    message = str(e.value)
    assert name in message  # what
    assert "trial 2" in message  # where
    assert "enqueue" in message.lower()  # what to do
    study.optimize(objective, n_trials=2)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 2 + [TrialState.FAIL] + [TrialState.COMPLETE] * 2
    assert [t.params for t in study.trials[:2]] == before


@pytest.mark.parametrize("params", [{}, {"arch/n": 1}, {"arch/n": 1, OP: "widen:2"}])
def test_missing_parameters_are_named(params: dict[str, Any]) -> None:
    expected = ["arch/n", OP, AT][len(params)]
    with pytest.raises(EncodingError, match=expected):
        encoding.decode(SPACE, params)
    with pytest.raises((EncodingError, ValueError), match=expected):
        suggest_architecture(FixedTrial(params), SPACE)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_what_a_partial_fixed_sampler_fixes_wrongly_is_named() -> None:
    sampler = PartialFixedSampler({"arch/n": 1, OP: "shrink:2"}, MorphBOSampler(seed=0))
    study = optuna.create_study(sampler=sampler)
    with pytest.raises(EncodingError, match=OP):
        study.optimize(lambda trial: suggest_architecture(trial, SPACE).flops, n_trials=1)


# Closed spaces.


def cell_graph(choices: dict[str, Any]) -> LabelledGraph:
    """At most one "b" beside a large cell."""
    if choices["size"] == 2.5 and choices["0-1"] == choices["op"] == "b":
        raise ArchitectureError("a large cell must have one b at most")
    return LabelledGraph(tuple(map(str, choices.values())), ())


CELLS = CellSpace({"0-1": ("a", "b"), "size": (1, 2.5, None), "op": ("a", "b", True)}, cell_graph)


def test_cells_survive_encoding() -> None:
    members = list(CELLS.members())
    assert len(members) == 17
    for member in members:
        params = cell_encoding.encode(CELLS, member)
        assert params == {f"arch/{name}": value for name, value in CELLS.choices_of(member).items()}
        assert cell_encoding.decode(CELLS, params) == member
        assert cell_encoding.decode(CELLS, {**params, "lr": 0.1, "arch/more": 3}) == member
        assert [type(v) for v in params.values()] == [type(v) for v in CELLS.choices_of(member).values()]


def test_names_and_distributions_of_cells_are_frozen() -> None:
    assert cell_encoding.distributions(CELLS) == {
        "arch/0-1": CategoricalDistribution(("a", "b")),
        "arch/size": CategoricalDistribution((1, 2.5, None)),
        "arch/op": CategoricalDistribution(("a", "b", True)),
    }
    assert list(cell_encoding.distributions(CELLS)) == ["arch/0-1", "arch/size", "arch/op"]
    assert list(cell_encoding.distributions(presets.nas_bench_201())) == [
        "arch/0-1",
        "arch/0-2",
        "arch/1-2",
        "arch/0-3",
        "arch/1-3",
        "arch/2-3",
    ]
    trial = FixedTrial({"arch/0-1": "b", "arch/size": None, "arch/op": True})
    assert cell_encoding.suggest(trial, CELLS) == trial.params
    assert trial.distributions == cell_encoding.distributions(CELLS)


GOOD = {"arch/0-1": "b", "arch/size": 2.5, "arch/op": "a"}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "choices must have '0-1' but have only []"),
        ({"arch/0-1": "b", "arch/op": "a", "size": 1}, "choices must have 'size' but have only ['0-1', 'op']"),
        ({**GOOD, "arch/0-1": "c"}, "'0-1' must be one of ('a', 'b') but got 'c'"),
        ({**GOOD, "arch/size": 2}, "'size' must be one of (1, 2.5, None) but got 2"),
        ({**GOOD, "arch/size": math.nan}, "'size' must be one of (1, 2.5, None) but got nan"),
        ({**GOOD, "arch/op": [1]}, "'op' must be one of ('a', 'b', True) but got [1]"),
        ({**GOOD, "arch/op": np.zeros(2)}, "are no cell of the space: "),
        ({**GOOD, "arch/op": "b"}, "a large cell must have one b at most"),
    ],
)
def test_what_is_no_cell_is_said(params: dict[str, Any], message: str) -> None:
    with pytest.raises(EncodingError) as e:
        cell_encoding.decode(CELLS, params)
    assert message in str(e.value)
    assert str(params) in str(e.value)


@pytest.mark.parametrize(
    "fixed", [{}, {"arch/0-1": "b"}, {"arch/op": "b"}, {"arch/0-1": "b", "arch/op": "b"}, GOOD], ids=str
)
def test_decided_choices_are_put_into_a_cell(fixed: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    for cell in CELLS.members():
        before = cell_encoding.encode(CELLS, cell)
        params, found = cell_encoding.complete(CELLS, cell, fixed, rng)
        assert fixed.items() <= params.items()
        assert cell_encoding.decode(CELLS, params) == found
        wished = {**before, **fixed}
        is_allowed = not (wished["arch/size"] == 2.5 and wished["arch/0-1"] == wished["arch/op"] == "b")
        assert (params == wished) == is_allowed  # no more is changed than must be


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"arch/size": 2.5, "arch/0-1": "b", "arch/op": "b"}, "a large cell must have one b at most"),
        ({"arch/size": 7}, "'size' must be one of (1, 2.5, None) but got 7"),
    ],
)
def test_decided_choices_that_no_cell_has_are_an_error(fixed: dict[str, Any], message: str) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(EncodingError) as e:
        cell_encoding.complete(CELLS, CELLS.random(rng), fixed, rng)
    assert message in str(e.value)


def test_decided_choices_that_few_cells_have() -> None:
    """One of 4,096 ways to complete them."""

    def rare(choices: dict[str, Any]) -> LabelledGraph:
        if choices["x"] and any(choices[name] != 3 for name in "abcd"):
            raise ArchitectureError("x needs threes")
        return LabelledGraph((), ())

    space = CellSpace({"x": (False, True), **dict.fromkeys("abcd", tuple(range(8)))}, rare)
    cell = space.cell(dict.fromkeys("abcd", 0) | {"x": False})
    params, _ = cell_encoding.complete(space, cell, {"arch/x": True}, np.random.default_rng(0))
    assert params == {"arch/x": True, **{f"arch/{name}": 3 for name in "abcd"}}


def test_the_functions_for_all_spaces_are_those_of_each() -> None:
    rng = np.random.default_rng(0)
    for space, module in ((CELLS, cell_encoding), (SPACE, encoding)):
        member = space.random(rng)
        params = all_spaces.encode(space, member)
        assert all_spaces.distributions(space) == module.distributions(space)
        assert all_spaces.decode(space, params) == module.decode(space, params) == member
        assert all_spaces.complete(space, member, {}, rng) == (params, member)
        assert all_spaces.suggest(FixedTrial(params), space) == params


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden(), indent=1) + "\n", encoding="utf-8")
