"""Closed spaces in studies: what is proposed, by whom, and what happens to what cannot be."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import networkx as nx
import optuna
import pytest
from optuna.samplers import BaseSampler, GPSampler, PartialFixedSampler, RandomSampler, TPESampler
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from optuna_nas_morph import (
    CellSpace,
    LabelledGraph,
    MorphBOSampler,
    encoding,
    lineage,
    presets,
    suggest_architecture,
    suggest_network,
)
from optuna_nas_morph.errors import ArchitectureError, EncodingError, SpaceMismatchError
from optuna_nas_morph.history import read_claim
from optuna_nas_morph.spaces.cells import graph_of_edge_operations
from tests.studies import SPACE as MORPH_SPACE
from tests.studies import key_of, quick_sampler

EXPERIMENTAL = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
EDGES = ("0-1", "0-2", "1-2")
OPERATIONS = ("none", "skip_connect", "a")


def to_graph(choices: dict[str, Any]) -> LabelledGraph:
    return graph_of_edge_operations({(int(e[0]), int(e[2])): op for e, op in choices.items()}, 3)


def picky(choices: dict[str, Any]) -> LabelledGraph:
    """No cell without an "a", and none with two."""
    if list(choices.values()).count("a") != 1:
        raise ArchitectureError('there must be one "a"')
    return to_graph(choices)


TINY = CellSpace(dict.fromkeys(EDGES, OPERATIONS), to_graph)
PICKY = CellSpace(dict.fromkeys(EDGES, OPERATIONS), picky)
SPACES = {"tiny": TINY, "picky": PICKY}


@pytest.fixture(autouse=True)
def _no_space_is_live(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "_live", {})


def score(choices: dict[str, Any]) -> float:
    """A value that depends on the choices, best at "a", skip, "a"."""
    wish = ("a", "skip_connect", "a")
    return float(sum(w * (choices[e] == op) for e, op, w in zip(EDGES, wish, (1, 2, 4), strict=True)))


def make_objective(space: CellSpace, lr: str = "none") -> Callable[[optuna.trial.BaseTrial], float]:
    def objective(trial: optuna.trial.BaseTrial) -> float:
        value = trial.suggest_float("lr", 0.0, 1.0) if lr == "before" else 0.0
        value += score(suggest_architecture(trial, space))
        return value + (trial.suggest_float("lr", 0.0, 1.0) if lr == "after" else 0.0)

    return objective


def class_of(trial: FrozenTrial, classes: list[nx.DiGraph]) -> int:
    """Number of the class of isomorphic cells, networkx being the judge."""
    graph = to_graph({edge: trial.params[f"arch/{edge}"] for edge in EDGES})
    nodes = nx.DiGraph()
    nodes.add_nodes_from((i, {"label": label}) for i, label in enumerate(graph.labels))
    nodes.add_edges_from((s, t, {"n": graph.edges.count((s, t))}) for s, t in graph.edges)
    for i, other in enumerate(classes):
        if nx.is_isomorphic(nodes, other, lambda a, b: a == b, lambda a, b: a == b):
            return i
    classes.append(nodes)
    return len(classes) - 1


def n_classes(space: CellSpace) -> int:
    classes: list[nx.DiGraph] = []
    distributions = encoding.distributions(space)
    for values in product(OPERATIONS, repeat=3):
        choices = dict(zip(EDGES, values, strict=True))
        try:
            space.to_graph(choices)
        except ArchitectureError:
            continue
        params = {f"arch/{edge}": op for edge, op in choices.items()}
        class_of(create_trial(params=params, distributions=distributions, value=0.0), classes)
    return len(classes)


# What is proposed.


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("n_startup_trials", [0, 1, 4])
def test_no_two_isomorphic_cells_while_others_are_left(space: CellSpace, n_startup_trials: int) -> None:
    n = n_classes(space)
    for seed in range(2):
        study = optuna.create_study(sampler=quick_sampler(n_startup_trials, seed, search=None), direction="maximize")
        study.optimize(make_objective(space), n_trials=n)
        classes: list[nx.DiGraph] = []
        assert [class_of(t, classes) for t in study.trials] == list(range(n))
        assert study.best_value == max(score(space.choices_of(m)) for m in space.members())


def test_an_exhausted_space_warns_once_and_repeats() -> None:
    study = optuna.create_study(sampler=quick_sampler(2, search=None), direction="maximize")
    n = n_classes(PICKY)
    study.optimize(make_objective(PICKY), n_trials=n)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        study.optimize(make_objective(PICKY), n_trials=4)
    assert [str(w.message) for w in caught] == [
        "Everything within reach in this space has been tried: a trial is repeated."
    ]
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * (n + 4)
    fingerprints = [t.user_attrs["nasmorph:fingerprint"] for t in study.trials]
    assert set(fingerprints[n:]) <= set(fingerprints[:n])


def test_the_first_trial_is_any_cell() -> None:
    first = set()
    for seed in range(60):
        study = optuna.create_study(sampler=quick_sampler(3, seed, search=None))
        study.optimize(make_objective(TINY), n_trials=1)
        first.add(tuple(study.trials[0].params[f"arch/{edge}"] for edge in EDGES))
    assert len(first) > 18  # of 27; 24.2 are expected


@pytest.mark.parametrize("lr", ["before", "after"])
@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_hyperparameter_beside_the_cell(space: CellSpace, lr: str) -> None:
    study = optuna.create_study(sampler=quick_sampler(3, search=None), direction="maximize")
    study.optimize(make_objective(space, lr), n_trials=12)
    assert len({key_of(t) for t in study.trials}) == 12
    best = max(score(space.choices_of(m)) for m in space.members())
    assert study.best_value > best + 0.8  # the cell and the learning rate, found together
    for trial in study.trials:
        assert trial.params.keys() == {"lr", *(f"arch/{edge}" for edge in EDGES)}
        assert space.cell({edge: trial.params[f"arch/{edge}"] for edge in EDGES})


def test_what_runs_is_not_proposed_to_others() -> None:
    n = n_classes(PICKY)
    study = optuna.create_study(sampler=quick_sampler(2, search=None), direction="maximize")
    objective = make_objective(PICKY)
    study.optimize(objective, n_trials=2)
    for _ in range(n - 2):
        objective(study.ask())
    assert len({t.user_attrs["nasmorph:fingerprint"] for t in study.trials}) == n


def test_the_fingerprint_is_recorded_and_nothing_of_an_open_space() -> None:
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    study.optimize(make_objective(TINY), n_trials=3)
    for trial in study.trials:
        choices = {edge: trial.params[f"arch/{edge}"] for edge in EDGES}
        assert trial.user_attrs == {
            "nasmorph:fingerprint": to_graph(choices).fingerprint,
            "nasmorph:trial": trial.number,
        }


def test_asking_twice_gives_the_same_cell() -> None:
    study = optuna.create_study(sampler=quick_sampler(1, search=None))
    for _ in range(3):
        trial = study.ask()
        first = suggest_architecture(trial, TINY)
        assert suggest_architecture(trial, TINY) == first
        study.tell(trial, score(first))
    assert len({t.user_attrs["nasmorph:fingerprint"] for t in study.trials}) == 3


@pytest.mark.parametrize("make_storage", [lambda path: None, lambda path: f"sqlite:///{path / 'study.db'}"])
def test_choices_of_every_kind_survive_storages(make_storage: Any, tmp_path: Path) -> None:
    values = (None, True, 0, 2.5, math.nan, -math.inf, "x")
    space = CellSpace({"kind": values, "n": (1, 2)}, lambda c: LabelledGraph((repr(c["kind"]), str(c["n"])), ((0, 1),)))
    study = optuna.create_study(sampler=quick_sampler(3, search=None), storage=make_storage(tmp_path))
    found = []

    def objective(trial: optuna.Trial) -> float:
        choices = suggest_architecture(trial, space)
        found.append(repr(choices))
        return float(choices["n"])

    study.optimize(objective, n_trials=space.size)
    assert set(found) == {repr({"kind": v, "n": n}) for v in values for n in (1, 2)}


# What is decided beforehand.


@pytest.mark.parametrize("lr", ["none", "before", "after"])
@pytest.mark.parametrize("n_before", [0, 1, 5])
def test_an_enqueued_cell_is_taken(n_before: int, lr: str) -> None:
    study = optuna.create_study(sampler=quick_sampler(2, search=None))
    objective = make_objective(TINY, lr)
    study.optimize(objective, n_trials=n_before)
    whole = {"arch/0-1": "a", "arch/0-2": "a", "arch/1-2": "skip_connect"}
    study.enqueue_trial(whole)
    study.enqueue_trial({"arch/0-2": "none"})
    study.optimize(objective, n_trials=2)
    full, part = study.trials[-2:]
    assert whole.items() <= full.params.items()
    assert full.user_attrs["nasmorph:fingerprint"] == to_graph({k[5:]: v for k, v in whole.items()}).fingerprint
    assert part.params["arch/0-2"] == "none"
    assert part.params.keys() == full.params.keys()


@pytest.mark.filterwarnings("ignore:Everything within reach")  # Four classes are soon exhausted.
def test_what_a_part_of_a_cell_forbids_is_not_proposed() -> None:
    for seed in range(5):
        study = optuna.create_study(sampler=quick_sampler(2, seed, search=None))
        for edge in EDGES:
            study.enqueue_trial({f"arch/{edge}": "a"})
        study.enqueue_trial({"arch/0-1": "skip_connect", "arch/1-2": "none"})
        study.optimize(make_objective(PICKY), n_trials=4)
        assert [[t.params[f"arch/{edge}"] for edge in EDGES].index("a") for t in study.trials] == [0, 1, 2, 1]


WRONG = {
    "unknown": ({"arch/0-1": "a", "arch/0-2": "b", "arch/1-2": "a"}, "arch/0-2"),
    "of another type": ({"arch/0-1": 3, "arch/0-2": "a", "arch/1-2": "a"}, "arch/0-1"),
    "not allowed": ({"arch/0-1": "a", "arch/0-2": "a", "arch/1-2": "a"}, 'there must be one "a"'),
    "not allowed already": ({"arch/0-1": "a", "arch/0-2": "a"}, 'there must be one "a"'),
}
SAMPLERS: dict[str, Callable[[], BaseSampler]] = {
    "startup": lambda: quick_sampler(99, search=None),
    "fitted": lambda: quick_sampler(1, search=None),
}


@pytest.mark.filterwarnings("ignore:Fixed parameter", "ignore:enqueue_trial", "ignore:The value")
@pytest.mark.parametrize("make_sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("lr", ["none", "before"])
@pytest.mark.parametrize(("params", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_enqueued_cell_fails_alone(
    params: dict[str, Any], message: str, lr: str, make_sampler: Callable[[], BaseSampler]
) -> None:
    study = optuna.create_study(sampler=make_sampler())
    objective = make_objective(PICKY, lr)
    study.optimize(objective, n_trials=2)
    study.enqueue_trial(params)
    with pytest.raises(EncodingError) as e:
        study.optimize(objective, n_trials=1)
    assert message in str(e.value)
    assert "trial 2" in str(e.value) or "arch/0-1" in str(e.value)
    study.optimize(objective, n_trials=2)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 2 + [TrialState.FAIL] + [TrialState.COMPLETE] * 2


@EXPERIMENTAL
@pytest.mark.parametrize("lr", ["none", "before", "after"])
def test_what_a_partial_fixed_sampler_fixes_holds_and_nothing_is_repeated(lr: str) -> None:
    sampler = PartialFixedSampler({"arch/0-1": "a"}, quick_sampler(2, search=None))
    study = optuna.create_study(sampler=sampler, direction="maximize")
    # Of the nine cells with 0-1 = a two compute a(x): 0-2 = a alone, and 1-2 = skip alone.
    study.optimize(make_objective(TINY, lr), n_trials=8)
    assert {t.params["arch/0-1"] for t in study.trials} == {"a"}
    assert len({key_of(t) for t in study.trials}) == 8
    if lr == "none":
        classes: list[nx.DiGraph] = []
        assert [class_of(t, classes) for t in study.trials] == list(range(8))


@EXPERIMENTAL
def test_what_is_fixed_against_the_rules_is_named() -> None:
    sampler = PartialFixedSampler({"arch/0-1": "a", "arch/1-2": "a"}, MorphBOSampler(seed=0))
    study = optuna.create_study(sampler=sampler)
    with pytest.raises(EncodingError, match='there must be one "a"'):
        study.optimize(make_objective(PICKY), n_trials=1)


def test_trials_without_a_study() -> None:
    params = {"arch/0-1": "a", "arch/0-2": "none", "arch/1-2": "none", "lr": 0.5}
    choices = {"0-1": "a", "0-2": "none", "1-2": "none"}
    assert suggest_architecture(FixedTrial(params), PICKY) == choices
    distributions = {**encoding.distributions(PICKY), "lr": optuna.distributions.FloatDistribution(0, 1)}
    frozen = create_trial(params=params, distributions=distributions, value=1.0)
    assert suggest_architecture(frozen, PICKY) == choices
    assert frozen.user_attrs == {}
    with pytest.raises(EncodingError, match='there must be one "a"'):
        suggest_architecture(FixedTrial({**params, "arch/1-2": "a"}), PICKY)
    with pytest.raises(EncodingError, match=r"arch/1-2 of trial 0 must be one of \('none', 'skip_connect', 'a'\)"):
        suggest_architecture(FixedTrial({k: v for k, v in params.items() if k != "arch/1-2"}), PICKY)
    with (
        pytest.raises(EncodingError, match="arch/0-2 of trial 0 must be one of"),
        warnings.catch_warnings(action="ignore"),
    ):
        suggest_architecture(FixedTrial({**params, "arch/0-2": "b"}), PICKY)


# Workers.


def load(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> optuna.Study:
    """The study as a process sees it that has just been started."""
    monkeypatch.setattr(lineage, "_live", {})
    sampler = quick_sampler(3, search=None, warn_independent_sampling=False)
    return optuna.load_study(study_name=study.study_name, storage=study._storage, sampler=sampler)


@pytest.mark.parametrize("left", [0, 5, 9, 13, 22, 26])
def test_a_fresh_worker_proposes_what_is_left(left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The space is not live and a hyperparameter comes first: the cell is proposed all the same, not drawn."""
    members = {m.fingerprint: m for m in TINY.members()}
    last = list(TINY.members())[left].fingerprint
    study = optuna.create_study()
    lineage.register_space(study, TINY)
    for fingerprint, member in members.items():
        if fingerprint != last:
            params = encoding.encode(TINY, member)
            study.add_trial(create_trial(params=params, distributions=encoding.distributions(TINY), value=0.0))
    worker = load(study, monkeypatch)

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_int("n", 0, 1)
        assert lineage.space_of(worker) is None
        return score(suggest_architecture(trial, TINY))

    worker.optimize(objective, n_trials=1)
    assert worker.trials[-1].user_attrs["nasmorph:fingerprint"] == last


def test_a_fresh_worker_claims_all_of_its_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn by an independent sampler is in no claim."""
    study = optuna.create_study(sampler=quick_sampler(3, search=None), direction="maximize")
    study.optimize(make_objective(TINY, "before"), n_trials=4)
    worker = load(study, monkeypatch)
    worker.optimize(make_objective(TINY, "before"), n_trials=1)
    assert read_claim(worker.trials[-1]) == worker.trials[-1].params


def test_a_fresh_worker_starts_where_nothing_is_known() -> None:
    for n_startup_trials in (0, 3):
        study = optuna.create_study(sampler=quick_sampler(n_startup_trials, search=None))
        study.optimize(make_objective(PICKY, "before"), n_trials=1)
        assert study.trials[0].state == TrialState.COMPLETE


def test_a_function_that_was_corrected_is_the_one_that_counts() -> None:
    """In a notebook: the cell with the function is run again, under the same name."""

    def space_with(what: Callable[[dict[str, Any]], LabelledGraph]) -> CellSpace:
        def corrected(choices: dict[str, Any]) -> LabelledGraph:
            return what(choices)

        return CellSpace(dict.fromkeys(EDGES, OPERATIONS), corrected)

    old, new = space_with(to_graph), space_with(picky)
    assert old.digest == new.digest
    study = optuna.create_study(sampler=quick_sampler(3, search=None))
    lineage.register_space(study, old)
    assert lineage.space_of(study) is old
    study.optimize(make_objective(new), n_trials=1, catch=EncodingError)
    assert lineage.space_of(study) is new
    study.sampler = quick_sampler(1, search=None)
    study.optimize(make_objective(new), n_trials=n_classes(PICKY) - 1)
    assert all(t.state == TrialState.COMPLETE for t in study.trials[1:])


def test_equal_spaces_share_what_they_remember() -> None:
    study = optuna.create_study(sampler=quick_sampler(3, search=None))
    first, second = (CellSpace(dict.fromkeys(EDGES, OPERATIONS), to_graph) for _ in range(2))
    lineage.register_space(study, first)
    lineage.register_space(study, second)
    assert lineage.space_of(study) is first


# Another space.


def test_a_study_has_one_space() -> None:
    other = CellSpace({**dict.fromkeys(EDGES, OPERATIONS), "0-2": ("none", "b")}, to_graph)
    studies = {name: optuna.create_study(study_name=name) for name in ("cells", "morphs")}
    suggest_architecture(studies["cells"].ask(), TINY)
    suggest_architecture(studies["morphs"].ask(), MORPH_SPACE)
    for name, space, difference in [
        ("cells", other, "choices is {'0-1': ['none', 'skip_connect', 'a'], '0-2': ['none', 'skip_connect', 'a'],"),
        ("cells", PICKY, f"to_graph is '{__name__}.to_graph', not '{__name__}.picky'"),
        ("cells", MORPH_SPACE, "format is 'optuna-nas-morph/cell-space', not 'optuna-nas-morph/morph-space'"),
        ("morphs", TINY, "format is 'optuna-nas-morph/morph-space', not 'optuna-nas-morph/cell-space'"),
    ]:
        with pytest.raises(SpaceMismatchError) as e:
            suggest_architecture(studies[name].ask(), space)
        message = str(e.value)
        assert message.startswith(f"study '{name}' was made with another space: in the study, {difference}")
        assert message.endswith(". Use that space, or another study_name.")


def test_true_is_not_one_in_the_difference() -> None:
    study = optuna.create_study(study_name="numbers")
    suggest_architecture(study.ask(), CellSpace({"x": (0, 1)}, lambda c: LabelledGraph((), ())))
    with pytest.raises(SpaceMismatchError, match=r"choices is \{'x': \[0, 1\]\}, not \{'x': \[False, True\]\}"):
        suggest_architecture(study.ask(), CellSpace({"x": (False, True)}, lambda c: LabelledGraph((), ())))


# Other samplers, and what does not fit.


OTHER_SAMPLERS: dict[str, Callable[[], BaseSampler]] = {
    "random": lambda: RandomSampler(seed=0),
    "tpe": lambda: TPESampler(seed=0, n_startup_trials=3),
    "gp": lambda: GPSampler(seed=0, n_startup_trials=3),
}


@EXPERIMENTAL
@pytest.mark.parametrize("make_sampler", OTHER_SAMPLERS.values(), ids=OTHER_SAMPLERS)
def test_other_samplers_drive_the_same_objective_and_hand_over(make_sampler: Callable[[], BaseSampler]) -> None:
    study = optuna.create_study(sampler=make_sampler(), direction="maximize")
    study.optimize(make_objective(TINY, "after"), n_trials=6)
    study.sampler = quick_sampler(3, search=None)
    study.optimize(make_objective(TINY, "after"), n_trials=3)
    study.sampler = make_sampler()
    study.optimize(make_objective(TINY, "after"), n_trials=2)
    for trial in study.trials:
        choices = {edge: trial.params[f"arch/{edge}"] for edge in EDGES}
        assert trial.value == score(choices) + trial.params["lr"]


def test_what_another_sampler_draws_against_the_rules_fails_and_is_passed_over() -> None:
    study = optuna.create_study(sampler=RandomSampler(seed=0), direction="maximize")
    study.optimize(make_objective(PICKY), n_trials=12, catch=EncodingError)
    states = [t.state for t in study.trials]
    assert {TrialState.COMPLETE, TrialState.FAIL} == set(states)
    for trial in study.trials:
        allowed = [trial.params[f"arch/{edge}"] for edge in EDGES].count("a") == 1
        assert (trial.state == TrialState.COMPLETE) == allowed
    tried = {t.user_attrs["nasmorph:fingerprint"] for t in study.trials if "nasmorph:fingerprint" in t.user_attrs}
    n_left = n_classes(PICKY) - len(tried)
    study.sampler = quick_sampler(1, search=None)
    study.optimize(make_objective(PICKY), n_trials=n_left)
    new = [t.user_attrs["nasmorph:fingerprint"] for t in study.trials[12:]]
    assert len(set(new)) == n_left
    assert not tried & set(new)


def test_a_cell_has_no_network() -> None:
    study = optuna.create_study()
    for trial in (study.ask(), FixedTrial({})):
        with pytest.raises(TypeError) as e:
            suggest_network(trial, TINY)  # type: ignore[arg-type]
        assert str(e.value) == (
            "space must be a MorphSpace but got CellSpace: a cell has no network; build it from suggest_architecture."
        )
        with pytest.raises(TypeError, match=r"space must be a MorphSpace but got dict\.$"):
            suggest_architecture(trial, TINY.choices)  # type: ignore[call-overload]


# A space that is too large to look at every cell.


def test_nas_bench_101() -> None:
    space = presets.nas_bench_101()
    study = optuna.create_study(sampler=MorphBOSampler(seed=0), direction="maximize")

    def objective(trial: optuna.Trial) -> float:
        choices = suggest_architecture(trial, space)
        graph = space.cell(choices).graph
        return graph.labels.count("conv3x3-bn-relu") + 0.5 * ((0, len(graph.labels) - 1) in graph.edges)

    study.optimize(objective, n_trials=30)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 30
    assert len({t.user_attrs["nasmorph:fingerprint"] for t in study.trials}) == 30
    assert study.best_value >= 4.5
