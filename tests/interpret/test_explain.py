"""Explanations, against arithmetic done by hand and objectives whose explanation is known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import grakel
import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from optuna_nas_morph import CellSpace, LabelledGraph, presets, suggest_architecture
from optuna_nas_morph.interpret import Explanation, TrialExplanation, explain
from optuna_nas_morph.interpret.effects import contrasts, in_units, sampling_variances, with_minus_without
from optuna_nas_morph.interpret.model import fit_model, reference_pool
from optuna_nas_morph.kernels import EditDistance, WeisfeilerLehman, WeisfeilerLehmanOptimalAssignment

optuna.logging.set_verbosity(optuna.logging.ERROR)

OPS = ("conv", "pool", "skip")


def chain(choices: dict[str, Any]) -> LabelledGraph:
    labels = ("input", *choices.values(), "output")
    return LabelledGraph(labels, tuple((i, i + 1) for i in range(len(labels) - 1)))


CHAINS = CellSpace({f"op{i}": OPS for i in range(5)}, chain)
OPEN = presets.mlp((8,), 3, width=8, depth=2, max_morphisms=3)


def n_planted(choices: dict[str, Any]) -> int:
    """How often a convolution is followed by a pooling."""
    operations = list(choices.values())
    return sum(pair == ("conv", "pool") for pair in itertools.pairwise(operations))


def study_of(
    objective: Callable[[optuna.Trial], Any], n: int = 40, seed: int = 0, directions: tuple[str, ...] = ("maximize",)
) -> optuna.Study:
    sampler = optuna.samplers.RandomSampler(seed=seed)
    study = optuna.create_study(directions=list(directions), sampler=sampler)
    study.optimize(objective, n_trials=n)
    return study


def planted(trial: optuna.Trial) -> float:
    return 0.5 + 0.1 * min(1, n_planted(suggest_architecture(trial, CHAINS)))


def joint(trial: optuna.Trial) -> float:
    choices = suggest_architecture(trial, CHAINS)
    value = n_planted(choices) + trial.suggest_float("lr", 1e-3, 1.0, log=True)
    if trial.suggest_categorical("kind", ["a", "b"]) == "b":
        value += 2 + trial.suggest_float("only_b", 0.0, 0.1)
    return value


def by_size(trial: optuna.Trial) -> float:
    return math.log(suggest_architecture(trial, OPEN).n_parameters)


# Arithmetic.


@given(st.integers(1, 6), st.integers(2, 8), st.integers(0, 1000))
def test_contrasts_are_the_sums_of_all_pairs(q: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mean, root, weights = rng.normal(size=m), rng.normal(size=(m, m)), rng.normal(size=(q, m))
    covariance = root @ root.T
    means, deviations = contrasts(mean, covariance, weights)
    for k in range(q):
        variance = sum(weights[k, i] * weights[k, j] * covariance[i, j] for i in range(m) for j in range(m))
        assert means[k] == pytest.approx(sum(weights[k, i] * mean[i] for i in range(m)), abs=1e-8)
        assert deviations[k] == pytest.approx(math.sqrt(variance), abs=1e-8)


def test_an_effect_is_a_difference_of_weighted_averages() -> None:
    has = np.array([[True, False, True, False], [True, True, True, False]])
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    values = np.array([1.0, 2.0, 4.0, 8.0])
    expected = [(0.1 * 1 + 0.3 * 4) / 0.4 - (0.2 * 2 + 0.4 * 8) / 0.6, (0.1 + 0.4 + 1.2) / 0.6 - 8]
    np.testing.assert_allclose(with_minus_without(has, weights) @ values, expected, atol=1e-12)


def test_what_a_sample_leaves_open() -> None:
    """Against samples drawn again and again."""
    rng = np.random.default_rng(0)
    n, size = 4000, 200
    has, weights = rng.random((1, n)) < 0.3, rng.integers(1, 4, n).astype(float)
    values = rng.normal(size=n) + has[0]
    found = []
    for _ in range(1000):
        some = rng.choice(n, size, replace=False)
        found.append((with_minus_without(has[:, some], weights[some]) @ values[some])[0])
    some = rng.choice(n, size, replace=False)
    estimate = sampling_variances(values[some], has[:, some], weights[some])[0]
    assert estimate * (1 - size / n) == pytest.approx(np.var(found), rel=0.25)


def test_a_single_member_leaves_open_what_those_like_it_are() -> None:
    """Against samples drawn again and again that have one or two members of a rare group."""
    rng = np.random.default_rng(0)
    n, size = 40_000, 40
    has, weights = (rng.random(n) < 0.03)[None], np.ones(n)
    values = rng.normal(size=n)
    truth = (with_minus_without(has, weights) @ values)[0]
    errors, estimates = [], []
    while len(errors) < 2000:
        some = rng.integers(n, size=size)
        if 1 <= has[:, some].sum() <= 2:
            errors.append((with_minus_without(has[:, some], weights[some]) @ values[some])[0] - truth)
            estimates.append(sampling_variances(values[some], has[:, some], weights[some])[0])
    assert np.mean(estimates) == pytest.approx(np.var(errors), rel=0.1)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_effects_are_in_the_units_of_the_user(direction: str) -> None:
    study = study_of(joint, directions=(direction,))
    model = fit_model(study, None, 0, WeisfeilerLehman(), np.random.default_rng(0))
    sign = 1 if direction == "maximize" else -1
    values = np.array([t.value for t in study.trials])
    median = np.median(values)
    start = model.scale.targets(sign * np.array([median]))[0]
    for value in np.quantile(values, [0.3, 0.6, 0.8]):
        target = model.scale.targets(sign * np.array([value]))[0]
        effect = in_units(model, target - start, 0.1, 0.9)
        assert effect.mean == pytest.approx(value - median, abs=1e-6)
        assert effect.low < effect.mean < effect.high
        assert effect.is_better == (sign * (value - median) > 0)


# Whole studies.


@pytest.mark.parametrize("seed", [0, 1, pytest.param(range(2, 20), marks=pytest.mark.slow)])
def test_a_planted_motif_is_found(seed: int | range) -> None:
    for s in [seed] if isinstance(seed, int) else seed:
        explanation = explain(study_of(planted, 60, s), n_pool=150, seed=s)
        clear = [m for m in explanation.motifs if m.effect.is_clear and m.effect.is_better]
        best = clear[0]
        # conv -> pool, seen from either end, or within a larger neighbourhood that has it.
        assert "conv" in best.description and "pool" in best.description
        assert n_planted(dict(enumerate(_operations(best.graph)))) >= 1
        # The difference of 0.1, less where the neighbourhood implies more than the plant.
        assert 0.02 < best.effect.mean < 0.15


def _operations(graph: LabelledGraph) -> list[str]:
    """Labels along a piece of a chain."""
    following = dict(graph.edges)
    node = next(i for i in range(len(graph.labels)) if i not in following.values())
    found = [graph.labels[node]]
    while node in following:
        node = following[node]
        found.append(graph.labels[node])
    return found


def test_trials_of_a_motif_are_those_that_contain_it() -> None:
    study = study_of(planted)
    explanation = explain(study, n_pool=100)
    kernel = WeisfeilerLehman()
    assert explanation.motifs
    for motif in explanation.motifs:
        containing = set()
        for trial in study.trials:
            graph = CHAINS.cell({k[5:]: v for k, v in trial.params.items()}).graph
            for feature in kernel.features(graph)[motif.level]:
                if kernel.describe(motif.level, feature) == motif.description:
                    containing.add(trial.number)
        assert set(motif.trials) == containing
        assert 5 <= motif.support <= len(study.trials) - 5
    effects = [m.effect.mean for m in explanation.motifs]
    assert effects == sorted(effects, reverse=True)


def test_minimised_is_the_mirror_image() -> None:
    up = explain(study_of(joint), n_pool=100)
    down = explain(study_of(lambda trial: -joint(trial), directions=("minimize",)), n_pool=100)
    assert len(up.motifs) == len(down.motifs) > 10
    for a, b in zip(up.motifs, down.motifs, strict=True):
        assert a.effect.mean == pytest.approx(-b.effect.mean, abs=1e-9)
        assert (a.effect.low, a.effect.high) == pytest.approx((-b.effect.high, -b.effect.low), abs=1e-9)
        assert a.effect.is_better == b.effect.is_better


def test_hyperparameters_have_effects_beside_motifs() -> None:
    explanation = explain(study_of(joint, 60), n_pool=150)
    effects = {(h.name, h.values): h.effect for h in explanation.hyperparameters}
    assert effects["kind", "= b"].is_clear and effects["kind", "= b"].is_better
    assert effects["kind", "= a"].mean < 0
    assert 0.5 < effects["kind", "= b"].mean < 4  # 2.05
    assert effects["kind", "= b"].mean > max(abs(e.mean) for (name, _), e in effects.items() if name != "kind")
    assert any(name == "lr" for name, _ in effects)


def test_open_spaces_and_several_objectives() -> None:
    study = study_of(by_size, 25)
    explanation = explain(study, min_support=2, n_pool=60)
    assert explanation.motifs and explanation.n_pool == 60
    both = study_of(lambda trial: (by_size(trial), -by_size(trial)), 25, directions=("maximize", "minimize"))
    first, second = (explain(both, objective=i, min_support=2, n_pool=60) for i in (0, 1))
    for a, b in zip(first.motifs, second.motifs, strict=True):
        assert a.effect.mean == pytest.approx(-b.effect.mean, abs=1e-9)


def test_the_pool_counts_choices_and_not_graphs() -> None:
    study = study_of(planted)
    model = fit_model(study, None, 0, WeisfeilerLehman(), np.random.default_rng(0))
    whole = reference_pool(model, 1000, np.random.default_rng(0))
    assert len(whole.members) == 3**5
    np.testing.assert_allclose(whole.weights, 3.0**-5)
    assert whole.weights.sum() == pytest.approx(1)
    assert whole.share == 1
    part = reference_pool(model, 50, np.random.default_rng(0))
    assert part.share == pytest.approx(50 / 3**5)
    assert len({m.fingerprint for m in part.members}) == 50


# Trials.

KERNELS = [WeisfeilerLehman(), WeisfeilerLehmanOptimalAssignment(), EditDistance(), grakel.VertexHistogram()]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: type(k).__name__)
@pytest.mark.parametrize("objective", [joint, by_size])
def test_contributions_sum_to_the_prediction(kernel: Any, objective: Callable[[optuna.Trial], float]) -> None:
    study = study_of(objective, 25)
    for trial in study.trials[:3]:
        explanation = explain(study, trial, kernel=kernel)
        total = explanation.baseline + sum(c.value for c in explanation.contributions)
        assert total == pytest.approx(explanation.prediction, abs=1e-8)
        assert explanation.value == pytest.approx(trial.value)
        assert explanation.low < explanation.prediction < explanation.high
        sizes = [abs(c.value) for c in explanation.contributions]
        assert sizes == sorted(sizes, reverse=True)


def test_a_share_is_what_the_prediction_loses_without_the_feature() -> None:
    """With the norms held fixed, as the shares do: the similarity is linear in the counts."""
    study = study_of(planted, 30)
    trial = study.best_trial
    kernel = WeisfeilerLehman(n_iter=0)
    model = fit_model(study, None, 0, kernel, np.random.default_rng(0))
    explanation = explain(study, trial, kernel=kernel)
    point = model.points([CHAINS.cell({k[5:]: v for k, v in trial.params.items()})], np.empty((1, 0)))
    (posterior,) = model.surrogate.posteriors
    coefficients, _ = posterior.coefficients(point.z)
    own = {label: chain_labels.count(label) for chain_labels in [point.graphs[0].labels] for label in set(chain_labels)}
    total = dict.fromkeys(own, 0.0)
    for i, graph in enumerate(model.graphs):
        norms = math.sqrt(sum(n * n for n in own.values()))
        norms *= math.sqrt(sum(graph.labels.count(label) ** 2 for label in set(graph.labels)))
        for label, n in own.items():
            total[label] += coefficients[0, 0, i] * n * graph.labels.count(label) / norms
    (mean,), _ = model.surrogate.joint(point)
    unit = (explanation.prediction - explanation.baseline) / mean
    told = {c.part: c.value for c in explanation.contributions}
    for label, share in total.items():
        assert told[label] == pytest.approx(share * unit, abs=1e-9)


def test_next_steps_are_the_untried_edits() -> None:
    study = study_of(planted, 60)
    worst = min(study.trials, key=lambda t: (t.value, t.number))
    explanation = explain(study, worst)
    assert explanation.next_steps
    effects = [s.effect.mean for s in explanation.next_steps]
    assert effects == sorted(effects, reverse=True)
    tried = {tuple(t.params.values()) for t in study.trials}
    for step in explanation.next_steps:
        name, choice = step.step.split(" = ")
        params = {**worst.params, f"arch/{name}": choice}
        assert tuple(params.values()) not in tried
    # What is predicted best does it.
    name, choice = explanation.next_steps[0].step.split(" = ")
    assert n_planted({**worst.params, f"arch/{name}": choice}) >= 1
    steps = [str(s) for s, _ in OPEN.steps_from(OPEN.seed)]
    study = study_of(by_size, 25)
    seed_trial = next((t for t in study.trials if t.params["arch/n"] == 0), None)
    if seed_trial is not None:
        assert {s.step for s in explain(study, seed_trial).next_steps} <= set(steps)


# What people see.


def test_tables() -> None:
    study = study_of(joint, 60)
    explanation = explain(study, n_pool=150)
    assert isinstance(explanation, Explanation)
    text = str(explanation)
    assert "Motifs that help" in text and "90% interval" in text and "Hyperparameters" in text
    assert "= b" in text
    of_trial = explain(study, study.best_trial, level=0.5)
    assert isinstance(of_trial, TrialExplanation)
    assert f"Trial {study.best_trial.number}: predicted" in str(of_trial) and "50% interval" in str(of_trial)
    for shown in (explanation, of_trial):
        html = shown._repr_html_()
        tables = ET.fromstring(f"<div>{html}</div>")
        assert len(tables) >= 2
        # Arrows of descriptions are text.
        assert "<-" in "".join(tables.itertext())


def test_the_same_seed_tells_the_same() -> None:
    study = study_of(joint, 30)
    assert str(explain(study, n_pool=60, seed=3)) == str(explain(study, n_pool=60, seed=3))
    assert str(explain(study, n_pool=60, seed=3)) != str(explain(study, n_pool=60, seed=4))


# What can go wrong.


def test_pruned_and_failed_trials() -> None:
    def objective(trial: optuna.Trial) -> float:
        value = joint(trial)
        trial.report(value - 1, 0)
        if trial.number % 3 == 0:
            raise optuna.TrialPruned
        if trial.number % 7 == 1:
            raise RuntimeError
        trial.report(value, 1)
        return value

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), direction="maximize")
    study.optimize(objective, n_trials=40, catch=RuntimeError)
    explanation = explain(study, n_pool=60)
    states = {study.trials[number].state for motif in explanation.motifs for number in motif.trials}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED}
    pruned = next(t for t in study.trials if t.state == TrialState.PRUNED)
    assert explain(study, pruned).value is None
    failed = next(t for t in study.trials if t.state == TrialState.FAIL)
    with pytest.raises(ValueError, match=f"trial {failed.number} is not"):
        explain(study, failed)


def test_too_little_to_go_by() -> None:
    with pytest.raises(ValueError, match="study must hold an architecture space"):
        explain(optuna.create_study())
    with pytest.raises(ValueError, match="at least two architectures"):
        explain(study_of(planted, 1))
    study = study_of(planted, 3)
    assert explain(study, n_pool=20).motifs == ()
    assert str(explain(study, n_pool=20)) == ""
    study.add_trial(create_trial(value=1.0))
    with pytest.raises(ValueError, match="trial 3 is not"):
        explain(study, study.trials[3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"objective": 1}, "objective must be an integer from 0 to 0 but got 1"),
        ({"level": 1.0}, "level must be between 0 and 1 but got 1.0"),
        ({"min_support": 0}, "min_support must be a positive integer but got 0"),
        ({"n_pool": 2.5}, "n_pool must be a positive integer but got 2.5"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        explain(study_of(planted, 3), **arguments)


def test_a_kernel_must_be_one() -> None:
    with pytest.raises(TypeError, match=r"kernel must be a grakel\.Kernel"):
        explain(study_of(planted, 3), kernel="wl")
