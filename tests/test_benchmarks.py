"""The benchmarks run, and what they report is right. Their figures are for people to make: ``tox run -e bench``."""

from __future__ import annotations

import itertools
import json
import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.samplers import RandomSampler
from optuna.trial import FixedTrial, TrialState, create_trial

from optuna_nas_morph import Architecture, presets, suggest_architecture
from optuna_nas_morph.encoding import decode, encode
from optuna_nas_morph.presets.nas_bench_201 import to_string
from tests.benchmarks import cost_of_ask, joint, nas_bench_201, objectives, open_space, runs
from tests.benchmarks.evolution import RegularizedEvolutionSampler
from tests.studies import CNN_SPACE

MAIN = [runs.MORPH_BO, runs.RANDOM]

# Regularized evolution.

NAMES = ("arch/a", "arch/b", "arch/c")
CHOICES = tuple(range(10))


def n_changes(a: dict[str, Any], b: dict[str, Any]) -> int:
    return sum(a[name] != b[name] for name in a if name.startswith("arch/"))


def choose(trial: optuna.Trial) -> float:
    return float(sum(trial.suggest_categorical(name, CHOICES) for name in NAMES))


def study_of(sampler: RegularizedEvolutionSampler, rows: Sequence[tuple[int, float]], direction: str) -> optuna.Study:
    """Finished trials that make the same choice everywhere."""
    study = optuna.create_study(direction=direction, sampler=sampler)
    distributions = dict.fromkeys(NAMES, CategoricalDistribution(CHOICES))
    for choice, value in rows:
        study.add_trial(create_trial(params=dict.fromkeys(NAMES, choice), distributions=distributions, value=value))
    return study


def ask(study: optuna.Study) -> dict[str, Any]:
    trial = study.ask()
    choose(trial)
    return trial.params


def test_evolution_changes_exactly_one_choice() -> None:
    study = runs.optimise(RegularizedEvolutionSampler(5, 2, seed=0), choose, 40)
    params = [t.params for t in study.get_trials(deepcopy=False)]
    for i in range(5, 40):
        assert 1 in {n_changes(params[i], params[j]) for j in range(i - 5, i)}


def test_evolution_changes_exactly_one_operation_of_a_cell() -> None:
    space = presets.nas_bench_201()

    def objective(trial: optuna.Trial) -> float:
        return joint.quality(suggest_architecture(trial, space))

    trials = runs.optimise(RegularizedEvolutionSampler(5, 5, seed=0), objective, 40).get_trials(deepcopy=False)
    for i in range(5, 40):
        assert 1 in {n_changes(trials[i].params, trials[j].params) for j in range(i - 5, i)}


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1.0), ("minimize", -1.0)])
def test_evolution_takes_the_best_and_lets_the_oldest_die(direction: str, sign: float) -> None:
    rows = [(0, sign * 9.0), (1, sign * 1.0), (2, sign * 5.0), (3, sign * 2.0)]
    for seed in range(10):
        # So many compete that the best one is among them.
        alive = study_of(RegularizedEvolutionSampler(4, 100, seed), rows, direction)
        assert sorted(ask(alive).values()).count(0) == 2
        dead = study_of(RegularizedEvolutionSampler(3, 100, seed), rows, direction)
        assert sorted(ask(dead).values()).count(2) == 2


def test_evolution_counts_running_trials_for_the_first_population() -> None:
    study = optuna.create_study(sampler=RegularizedEvolutionSampler(4, 4, seed=0))
    trials = [study.ask() for _ in range(4)]
    for trial in trials:
        choose(trial)
    study.tell(trials[2], 1.0)
    for _ in range(5):
        assert n_changes(ask(study), trials[2].params) == 1


def test_evolution_passes_over_trials_that_failed() -> None:
    study = optuna.create_study(sampler=RegularizedEvolutionSampler(1, 1, seed=0))
    first, second = study.ask(), study.ask()
    choose(first), choose(second)
    study.tell(first, 1.0)
    study.tell(second, state=TrialState.FAIL)
    assert n_changes(ask(study), first.params) == 1
    # Nor do they count for the first population.
    study.sampler = RegularizedEvolutionSampler(10, 10, seed=0)
    for _ in range(12):
        study.tell(study.ask(), state=TrialState.FAIL)
    assert n_changes(ask(study), first.params) > 1


@pytest.mark.parametrize("backtrack", [0.0, 1.0])
def test_evolution_takes_one_morphism_more(backtrack: float) -> None:
    study = optuna.create_study(sampler=RegularizedEvolutionSampler(1, 1, seed=0, backtrack=backtrack))
    lengths = []

    def steps() -> tuple[str, ...]:
        trial = study.ask()
        suggest_architecture(trial, CNN_SPACE)
        study.tell(trial, 0.0)
        return tuple(map(str, decode(CNN_SPACE, trial.params).steps))

    parent = steps()
    assert parent == ()
    for _ in range(8):
        child = steps()
        full = len(parent) == CNN_SPACE.max_morphisms
        kept = parent[:-1] if full or backtrack else parent
        assert len(child) == len(kept) + 1
        assert child[: len(kept)] == kept
        parent = child
        lengths.append(len(child))
    assert lengths == ([1] * 8 if backtrack else [1, 2, 3, 4, 4, 4, 4, 4])


def test_evolution_moves_hyperparameters_a_little() -> None:
    def objective(trial: optuna.Trial) -> float:
        suggest_architecture(trial, CNN_SPACE)
        if trial.suggest_categorical("optimizer", ("sgd", "adam")) == "sgd":
            trial.suggest_float("momentum", 0.0, 1.0)
        trial.suggest_float("lr", 1e-4, 1.0, log=True)
        return 0.0

    sampler = RegularizedEvolutionSampler(1, 1, seed=0, scale=0.01)
    trials = runs.optimise(sampler, objective, 40).get_trials(deepcopy=False)
    n_inherited = 0
    for parent, child in itertools.pairwise(trials):
        assert 0 < abs(math.log10(child.params["lr"] / parent.params["lr"])) < 0.2  # 5 standard deviations
        if "momentum" in parent.params and "momentum" in child.params:
            assert abs(child.params["momentum"] - parent.params["momentum"]) < 0.05
            n_inherited += 1
    assert n_inherited > 0


def test_evolution_has_one_objective() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=RegularizedEvolutionSampler(seed=0))
    with pytest.raises(ValueError, match="one objective but has 2"):
        study.optimize(lambda trial: (choose(trial), 0.0), n_trials=1)


# Runs.


def test_a_batch_is_asked_for_before_any_of_it_is_told() -> None:
    n_told: list[int] = []

    def objective(trial: optuna.Trial) -> float:
        n_told.append(len(trial.study.get_trials(states=(TrialState.COMPLETE,))))
        return trial.suggest_float("x", 0.0, 1.0)

    runs.optimise(RandomSampler(seed=0), objective, 7, batch=3)
    assert n_told == [0, 0, 0, 3, 3, 3, 6]


def test_runs_resume(tmp_path: Path) -> None:
    calls: list[tuple[str, int]] = []

    def run(sampler: str, seed: int) -> runs.Record:
        calls.append((sampler, seed))
        return {"values": [float(seed)]}

    out = tmp_path / "runs.jsonl"

    def everything(n_seeds: int, **settings: Any) -> list[tuple[str, int]]:
        calls.clear()
        records = runs.run_all(run, ["a", "b"], n_seeds, settings=settings, jobs=1, out=out)
        assert {(r["sampler"], r["seed"]) for r in records} == {(s, i) for s in "ab" for i in range(n_seeds)}
        assert len(records) == 2 * n_seeds
        assert all(r["values"] == [r["seed"]] for r in records)
        return calls

    assert everything(2, n=5) == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert everything(2, n=5) == []
    assert everything(1, n=5) == []
    # Of another setting there is nothing yet.
    assert everything(1, n=6) == [("a", 0), ("b", 0)]
    # The last run was cut short as it was written.
    out.write_text(out.read_text()[:-10])
    assert everything(1, n=6) == [("b", 0)]
    assert everything(1, n=6) == []


def test_a_run_that_fails_costs_no_other(tmp_path: Path) -> None:
    def run(sampler: str, seed: int) -> runs.Record:
        if sampler == "a":
            raise RuntimeError("no")
        return {"values": [1.0]}

    out = tmp_path / "runs.jsonl"
    with pytest.raises(SystemExit, match=r"1 of 2 runs failed:\na, seed 0: (.|\n)*RuntimeError: no"):
        runs.run_all(run, ["a", "b"], 1, settings={}, jobs=1, out=out)
    assert [json.loads(line)["sampler"] for line in out.read_text().splitlines()] == ["b"]


def test_runs_of_two_versions_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs.jsonl"
    everything = partial(runs.run_all, lambda *_: {"values": [1.0]}, ["a"], settings={}, jobs=1, out=out)
    everything(1)
    assert "Beware" not in capsys.readouterr().out
    out.write_text(out.read_text().replace(runs.CODE, "older"))
    everything(2)
    assert "Beware: runs of a" in capsys.readouterr().out


def test_figures_of_runs() -> None:
    records = [
        {"sampler": "a", "seed": 1, "values": [3.0, 1.0, 4.0]},
        {"sampler": "a", "seed": 0, "values": [0.0, 5.0, 2.0]},
    ]
    (curve,) = runs.curves(records, ["a"]).values()
    assert curve.tolist() == [[0, 5, 5], [3, 3, 4]]
    assert runs.evaluations_to(curve, 4.0).tolist() == [2, 3]
    assert runs.evaluations_to(curve, 5.0).tolist() == [2, math.inf]
    assert runs.median_evaluations(np.array([2.0, 3.0, math.inf]), 3) == "3"
    assert runs.median_evaluations(np.array([2.0, math.inf, math.inf]), 3) == ">3"
    ours, theirs = np.array([2.0, 8.0]), np.array([4.0, 16.0])
    assert runs.ratio(theirs, ours, 20) == "2.00 [2.00, 2.00]"
    assert runs.ratio(np.array([math.inf] * 2), np.array([7.0, 7.0]), 20) == "≥3.00 [3.00, 3.00]"
    assert runs.ratio(np.array([7.0, 7.0]), np.array([math.inf] * 2), 20) == "≤0.33 [0.33, 0.33]"
    assert runs.ratio(np.array([math.inf] * 2), np.array([math.inf] * 2), 20).startswith("~1.00")
    assert runs.difference(np.array([3.0, 3.0]), np.array([1.0, 1.0])) == "+2.000 [+2.000, +2.000]"
    sample = np.random.default_rng(1).normal(0.0, 1.0, 400)
    # 1.96 standard errors to each side.
    assert runs.interval((sample - sample.mean()) / sample.std()) == pytest.approx((-0.098, 0.098), abs=0.01)


# Objectives whose best is known.


def test_hypervolume() -> None:
    assert objectives.hypervolume(np.array([[1.0, 0.0]])) == 1.0
    assert objectives.hypervolume(np.array([[0.0, 0.0], [1.0, 1.0]])) == 0.0
    # Two steps; the third point is worse than the first, the fourth repeats it.
    points = np.array([[0.5, 0.2], [0.8, 0.6], [0.4, 0.3], [0.5, 0.2]])
    assert objectives.hypervolume(points) == pytest.approx(0.5 * 0.8 + 0.3 * 0.4)
    from optuna._hypervolume import compute_hypervolume

    random = np.random.default_rng(0).random((30, 2))
    theirs = compute_hypervolume(random * [-1, 1], np.array([0.0, 1.0]))
    assert objectives.hypervolume(random) == pytest.approx(theirs)


def test_the_best_cell_and_training_are_known() -> None:
    rng = np.random.default_rng(0)
    best = max(map(joint.SPACE.choices_of, joint.SPACE.members()), key=joint.quality)
    n_convolutions = sum("conv" in label for label in joint.SPACE.cell(best).graph.labels)
    training = {
        "lr": 10 ** (-0.5 - n_convolutions / 4),
        "weight_decay": 1e-4,
        "optimizer": "sgd",
        "momentum": 0.9,
    }
    assert joint.accuracy(best, training) == pytest.approx(joint.best_accuracy())
    assert 1e-5 < training["lr"] < 1.0
    for _ in range(300):
        trial = optuna.create_study(sampler=RandomSampler(seed=int(rng.integers(1000)))).ask()
        assert joint.objective(trial) < joint.best_accuracy()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_best_learning_rate_depends_on_the_cell_and_the_optimizer(optimizer: str) -> None:
    def best_lr(operation: str, momentum: float) -> float:
        """Its power of ten."""
        cell = dict.fromkeys(joint.SPACE.choices, "skip_connect") | {"0-3": operation}
        training = {"weight_decay": 1e-4, "optimizer": optimizer, "momentum": momentum}
        return max(np.arange(-5, 0.01, 0.05), key=lambda power: joint.accuracy(cell, {"lr": 10**power, **training}))

    sgd = optimizer == "sgd"
    assert best_lr("skip_connect", 0.9) == pytest.approx(-0.5 if sgd else -2.0)
    assert best_lr("nor_conv_3x3", 0.9) == pytest.approx(-0.75 if sgd else -2.25)
    assert best_lr("skip_connect", 0.99) == pytest.approx(-1.5 if sgd else -2.0)


def test_cells_that_compute_the_same_are_equally_good() -> None:
    qualities: dict[str, set[float]] = {}
    for cell in joint.SPACE.members():
        qualities.setdefault(cell.fingerprint, set()).add(round(joint.quality(joint.SPACE.choices_of(cell)), 9))
    assert len(qualities) > 1000
    assert all(len(values) == 1 for values in qualities.values())


@pytest.mark.parametrize("name", open_space.PROBLEMS)
def test_no_architecture_is_better_than_the_best(name: str) -> None:
    problem = open_space.PROBLEMS[name]()
    rng = np.random.default_rng(0)

    def value(member: Any, lr: float) -> float:
        return problem.objective(FixedTrial({**encode(problem.space, member), "lr": lr}))

    seed = problem.space.first()
    assert value(seed, 3 / math.sqrt(seed.architecture.n_parameters)) == pytest.approx(problem.low)
    values = [value(problem.space.random(rng), 10 ** rng.uniform(-4, 0)) for _ in range(200)]
    assert problem.low < max(values) <= 1 + 1e-9
    assert len(set(values)) > 30


def test_the_best_architectures_are_reached() -> None:
    size = open_space.size()
    target = open_space.hidden(size.space, 1, 6)
    assert open_space.size_distance(target, target) == 0
    assert open_space.size_distance(size.space.seed, target) > 0.5
    graph = open_space.graph()
    counts = open_space.neighbourhoods(open_space.hidden(graph.space, 3, 5))
    assert open_space.similarity(counts, counts) == 1
    motif = open_space.motif().space
    rng = np.random.default_rng(2)
    assert any(open_space.motif_parts(motif.random(rng).architecture) == pytest.approx(1) for _ in range(1000))


def test_similarity_is_a_weighted_share() -> None:
    a, b = Counter({"0a": 2, "0b": 1}), Counter({"0a": 1, "0c": 1})
    w = {f: open_space.weight(f) for f in ("0a", "0b", "0c")}
    assert len(set(w.values())) == 3
    assert open_space.similarity(a, b) == pytest.approx(w["0a"] / (2 * w["0a"] + w["0b"] + w["0c"]))


# From end to end.


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up one in the format of the real one, with a seed missing for every second cell."""
    cells = [joint.SPACE.choices_of(cell) for cell in joint.SPACE.members()]
    values = 100 * np.array([joint.quality(cell) for cell in cells], dtype=np.float32)
    val = np.column_stack([values - 1, values + 1, values])
    val[::2, 2] = np.nan
    path = tmp_path_factory.mktemp("table") / "made_up.npz"
    np.savez(path, archs=np.array([to_string(cell) for cell in cells]), val_acc=val, test_acc=values + 5)
    return path


def test_a_table_is_averaged_over_its_seeds(table: Path) -> None:
    cell = dict.fromkeys(joint.SPACE.choices, "nor_conv_3x3")
    assert nas_bench_201.load(table, "val")[to_string(cell)] == pytest.approx(100 * joint.quality(cell), rel=1e-4)
    assert nas_bench_201.load(table, "test")[to_string(cell)] == pytest.approx(100 * joint.quality(cell) + 5, rel=1e-4)


Main = Callable[[Sequence[str]], None]
SMALL = ["--seeds", "2", "--evaluations", "12", "--jobs", "1"]


@pytest.mark.parametrize(
    ("main", "arguments", "samplers"),
    [
        (nas_bench_201.main, ["--table", "TABLE"], nas_bench_201.SAMPLERS),
        (nas_bench_201.main, ["--table", "TABLE", "--value", "test", "--batch", "8", "--samplers", *MAIN], MAIN),
        (joint.main, [], joint.SAMPLERS),
        (objectives.main, ["--table", "TABLE", "--floor", "40"], objectives.SAMPLERS),
        (open_space.main, ["--problems", "size", "joint"], open_space.SAMPLERS),
        (open_space.main, ["--problems", "digits", "--epochs", "1", "--evaluations", "3", "--samplers", *MAIN], MAIN),
    ],
)
def test_from_end_to_end(
    main: Main,
    arguments: list[str],
    samplers: Sequence[str],
    table: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [str(table) if a == "TABLE" else a for a in arguments]
    arguments = [*SMALL, "--out", str(tmp_path / "runs.jsonl"), "--plot", str(tmp_path / "plot.html"), *arguments]
    main(arguments)
    output = capsys.readouterr().out
    rows = [line for line in output.splitlines() if line.startswith(tuple(samplers))]
    assert {row.split("  ")[0] for row in rows} == set(samplers)
    assert all("nan" not in row for row in rows)
    n_tables = output.count("at best after") + output.count("  best after ")
    assert n_tables == len(list(tmp_path.glob("*.html"))) == len(rows) / len(samplers) > 0
    # Once more: everything is in the file, and the table the same.
    main(arguments)
    again = capsys.readouterr().out
    assert "[1/" not in again
    assert [line for line in again.splitlines() if line.startswith(tuple(samplers))] == rows


def test_processes_give_what_one_gives(table: Path, tmp_path: Path) -> None:
    arguments = ["--table", str(table), "--samplers", *MAIN, "--seeds", "1", "--evaluations", "12"]

    def values(name: str) -> dict[str, list[float]]:
        return {r["sampler"]: r["values"] for r in map(json.loads, (tmp_path / name).read_text().splitlines())}

    nas_bench_201.main([*arguments, "--jobs", "1", "--out", str(tmp_path / "one")])
    command = ["tests.benchmarks.nas_bench_201", *arguments, "--jobs", "2", "--out", str(tmp_path / "two")]
    subprocess.run([sys.executable, "-m", *command], check=True, cwd=Path(__file__).parents[1])
    assert set(values("one")) == set(MAIN)
    assert values("two") == values("one")


def test_cost_of_ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--sizes", "10", "12", "--repeats", "1", "--open-trials", "11", "--nodes", "33"]
    cost_of_ask.main([*sizes, "--samplers", *MAIN, "--no-memory", "--plot", str(tmp_path / "plot.html")])
    output = capsys.readouterr().out
    assert [line.split()[0] for line in output.splitlines() if line.startswith(("10  ", "12  "))] == ["10", "12"]
    assert "graphs of 33 to " in output
    assert (tmp_path / "plot.html").exists()


def test_peak_memory() -> None:
    before, after = runs.in_new_process(cost_of_ask.memory_of, runs.RANDOM, 300)
    assert 50 < before <= after < before + 100


@pytest.mark.filterwarnings("ignore")
def test_a_study_is_filled_with_the_same_trials_for_all() -> None:
    a, b = (
        cost_of_ask.filled(joint.SPACE, cost_of_ask.cell_value, name, 20, joint.SPACE.random)
        for name in (runs.RANDOM, runs.TPE)
    )
    assert [t.params for t in a.get_trials()] == [t.params for t in b.get_trials()]
    assert len({t.value for t in a.get_trials()}) > 5
    assert cost_of_ask.ask(a, joint.SPACE, cost_of_ask.cell_value) > 0
    assert len(a.get_trials(states=(TrialState.COMPLETE,))) == 21


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", runs.SAMPLERS)
def test_every_sampler_can_be_made(name: str) -> None:
    def propose() -> Any:
        study = optuna.create_study(sampler=runs.SAMPLERS[name](3))
        return study.ask({"x": FloatDistribution(0.0, 1.0)}).params["x"]

    assert propose() == propose()


# What helps the training of children.


def test_training_help_has_every_arm_at_its_best_learning_rate(capsys: pytest.CaptureFixture[str]) -> None:
    from tests.benchmarks import training_help

    training_help.main(["--seeds", "1", "--generations", "2", "--epochs", "1", "--optimizers", "AdamW"])
    output = capsys.readouterr().out
    for arm in training_help.arms(["AdamW"]):
        assert f"\n{arm.name} " in output
    assert output.count("moments inherited - new") == 3
    assert output.count("continue - restart") == output.count("average - restart") == 2
    figures = dict.fromkeys(training_help.COLUMNS, 0.5)
    records = [
        {"arm": "a", "lr": lr, "seed": seed, **figures, "validation": validation, "accuracy": 0.1 * seed}
        for lr, validation in ((0.1, 0.8), (0.3, 0.9))
        for seed in (1, 0)
    ]
    lr, columns = training_help.at_best_lr(records)["a"]
    assert lr == 0.3
    assert columns["accuracy"].tolist() == [0.0, 10.0]


def test_growth_compares_what_growth_leads_to(capsys: pytest.CaptureFixture[str]) -> None:
    from tests.benchmarks import growth

    growth.main(["--seeds", "1", "--epochs", "1", "--width", "2", "--max-morphisms", "3", "--max-parameters", "4000"])
    table = capsys.readouterr().out
    for name in (growth.DRAWN, *growth.SIDES):
        assert re.search(rf"^{name} +\d+\.\d ± 0\.0", table, re.MULTILINE), name


def test_memory_is_measured_and_learned() -> None:
    from tests.benchmarks import memory

    linear = presets.mlp((10,), 5, width=7).seed
    assert isinstance(linear, Architecture)
    parameters = 4 * linear.n_parameters
    # Parameters, gradients and two moments, and the output of each layer with its gradient at least.
    assert 4 * parameters < memory.peak_of_a_step(linear) < 4 * parameters + 20 * 4 * memory.BATCH_SIZE * 22
    networks = [memory.Measured("mlp", n, 10 * n, 20 * n) for n in (1, 2, 4, 1, 5, 2, 1, 2)]
    # Twice the estimate is known to be needed, or has to be found out.
    assert memory.learn(networks, [m.estimate for m in networks], 50, True) == (0, 0.0)
    assert memory.learn(networks, [m.estimate for m in networks], 50, False) == (1, 0.0)


def test_curves_are_replayed_to_pruners() -> None:
    from optuna.pruners import NopPruner, ThresholdPruner

    from tests.benchmarks import pruners

    def curve(values: list[float], donor: int | None = None) -> dict[str, Any]:
        return {"values": values, "donor": donor, "inherited": 0.0 if donor is None else 2.0, "kind": "search"}

    curves = [curve([0.1, 0.2]), curve([0.5, 0.6]), curve([0.3, 0.9], 0), curve([0.6, 0.7], 2)]
    orders = {tuple(pruners.random_order(curves, np.random.default_rng(i))) for i in range(50)}
    assert orders == {
        order for order in itertools.permutations(range(4)) if order.index(0) < order.index(2) < order.index(3)
    }
    order = [0, 1, 2, 3]
    assert pruners.outcome(curves, pruners.replay(curves, order, NopPruner())) == {
        "epochs saved %": 0.0,
        "regret": 0.0,
        "best child pruned %": 0.0,
        "fresh pruned %": 0.0,
        "warm pruned %": 0.0,
    }
    taken = pruners.replay(curves, order, ThresholdPruner(lower=0.4))
    assert taken == [1, 2, 1, 2]
    assert pruners.outcome(curves, taken) == {
        "epochs saved %": 25.0,
        "regret": pytest.approx(20.0),
        "best child pruned %": 100.0,
        "fresh pruned %": 50.0,
        "warm pruned %": 50.0,
    }


def test_a_family_is_searched_and_its_seed_trained_as_long(capsys: pytest.CaptureFixture[str]) -> None:
    from tests.benchmarks import families

    families.main(["--families", "mlp", "--seeds", "1", "--trials", "3", "--epochs", "1", "--retrain-epochs", "4"])
    row = capsys.readouterr().out.splitlines()[-1].split()
    assert row[0] == "mlp"
    best, retrained, alone, long = (float(row[i]) for i in (1, 4, 8, 11))
    assert all(50 < value <= 100 for value in (best, retrained, alone, long))
    assert int(row[15]) >= 3  # what it costs to train three networks, none of them smaller
    assert float(row[16]) == pytest.approx(best - long, abs=0.011)
    assert float(row[19]) == pytest.approx(retrained - long, abs=0.011)


def test_own_networks_stay_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    from tests.benchmarks import own_networks

    own_networks.main(["--chains", "1"])
    table, *refused = capsys.readouterr().out.strip().split("\n\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert len(rows) >= 12
    assert {row[0]: row[4] for row in rows}["lstm"] == "LSTM"
    assert {row[0]: row[2] for row in rows}["resnet50"] == "100%"
    assert [row[0] for row in rows if row[5] != "yes"] in ([], ["pooled_vit"])
    assert all(float(row[5]) <= 1e-6 for row in rows if row[5] != "yes")
    assert all(float(row[6].split(", ")[1]) <= 1e-5 for row in rows)
    assert len(refused) == 2
    assert all("if x.sum() > 0" in text for text in refused)
