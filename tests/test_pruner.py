"""LineagePruner: account of training, and the decision of another pruner."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    ThresholdPruner,
    WilcoxonPruner,
)
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_nas_morph import LineagePruner, WeightStore, publish_weights, suggest_network
from optuna_nas_morph.weights import resolve
from tests.studies import SPACE, make_objective, quick_sampler


class Recording(BasePruner):
    """Remembers what it was asked, and prunes at a step."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.asked: list[tuple[int, int | None]] = []

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        self.asked.append((trial.number, trial.last_step))
        return trial.last_step == self.at


# Its own rule.


def trial_of(
    curve: Sequence[float],
    *,
    inherited: float = 0.0,
    budget: int | None = None,
    state: TrialState = TrialState.COMPLETE,
    first_step: int = 0,
    kind: str = "search",
) -> FrozenTrial:
    attributes: dict[str, Any] = {"nasmorph:inherited_epochs": inherited, "nasmorph:kind": kind}
    if inherited:
        attributes["nasmorph:donor"] = 0
    if budget is not None:
        attributes["nasmorph:budget"] = budget
    return create_trial(
        state=state,
        value=curve[-1] if state == TrialState.COMPLETE else None,
        intermediate_values={first_step + i: value for i, value in enumerate(curve)},
        user_attrs=attributes,
    )


def decides(
    pruner: BasePruner, finished: Sequence[FrozenTrial], trial: FrozenTrial, direction: str = "maximize"
) -> bool:
    study = optuna.create_study(direction=direction)
    study.add_trials(finished)
    study.add_trial(trial)
    return pruner.prune(study, study.trials[-1])


def running(curve: Sequence[float], **arguments: Any) -> FrozenTrial:
    return trial_of(curve, state=TrialState.RUNNING, **arguments)


def curves(n: int, seed: int, least: float = 0.0) -> list[list[float]]:
    """Curves of 8 steps that rise by what is random."""
    rng = np.random.default_rng(seed)
    return [np.cumsum(rng.uniform(least, 1.0, 8)).tolist() for _ in range(n)]


def naive(finished: Sequence[Sequence[float]], n_pruned: int, curve: Sequence[float], alpha: float, top: float) -> bool:
    """The rule for curves of one class with as many steps each, at a check."""
    k = len(curve)
    n_best = max(math.ceil(top * (len(finished) + n_pruned)), math.ceil(1 / alpha) - 1)
    best = [c for c in finished if sum(other[-1] > c[-1] for other in finished) < n_best]
    sample = [c[k - 1] for c in best] + [curve[-1]]
    return float(np.mean([value <= curve[-1] for value in sample])) <= alpha


@given(
    st.integers(0, 40),
    st.integers(0, 20),
    st.integers(0, 10**6),
    st.sampled_from([0.1, 0.2, 0.5]),
    st.sampled_from([0.1, 0.25, 1.0]),
    st.booleans(),
    st.sampled_from([0, 1, 7]),
    st.booleans(),
)
def test_its_rule(
    n: int, n_pruned: int, seed: int, alpha: float, top: float, up: bool, first_step: int, tied: bool
) -> None:
    done, (now,) = curves(n, seed), curves(1, seed + 1)
    if tied:
        done = [[*c[:-1], float(round(c[-1]))] for c in done]
    sign, direction = (1, "maximize") if up else (-1, "minimize")
    finished = [trial_of([sign * v for v in c], first_step=first_step) for c in done]
    finished += [trial_of([-sign], state=TrialState.PRUNED)] * n_pruned
    pruner = LineagePruner(n_steps=8, alpha=alpha, top=top)
    for k in range(1, 9):
        trial = running([sign * v for v in now[:k]], first_step=first_step)
        expected = n > 0 and k in (1, 2, 3, 4) and naive(done, n_pruned, now[:k], alpha, top)
        assert decides(pruner, finished, trial, direction) == expected
        assert decides(pruner, finished[::-1], trial, direction) == expected  # whatever the order


def test_values_alike_are_no_reason() -> None:
    alike = [trial_of([0.5, 0.5, 0.5, 0.6])] * 30
    assert not decides(LineagePruner(), alike, running([0.5]))
    assert decides(LineagePruner(), alike, running([0.49]))


def test_of_trials_that_ended_alike_none_is_left_out() -> None:
    finished = [trial_of([early] * 3 + [0.95] * 5) for early in (0.9, 0.1) for _ in range(4)]
    for order in (finished, finished[::-1]):
        assert not decides(LineagePruner(n_steps=8), order, running([0.5]))
        assert decides(LineagePruner(n_steps=8), order, running([0.0]))


def test_both_decisions_occur() -> None:
    finished = [trial_of(c) for c in curves(30, 0)]
    assert decides(LineagePruner(), finished, running([0.0, 0.0]))
    assert not decides(LineagePruner(), finished, running([1.0, 7.0]))


def test_warm_and_cold_trials_are_judged_apart() -> None:
    warm = [trial_of([0.9, 0.9, 0.91, 0.92 + i / 1000], inherited=3) for i in range(20)]
    cold = [trial_of([0.2, 0.5, 0.6, 0.7 + i / 1000]) for i in range(20)]
    for finished in (warm + cold, cold + warm):
        # A fresh start is far behind the children, but begins as fresh starts do.
        assert not decides(LineagePruner(), finished, running([0.25]))
        assert decides(LineagePruner(), finished, running([0.1]))
        # A child with as good a start as the best fresh one ends is behind other children.
        assert decides(LineagePruner(), finished, running([0.72], inherited=3))
        assert not decides(LineagePruner(), finished, running([0.905], inherited=3))


def test_too_few_trials_say_nothing() -> None:
    assert not decides(LineagePruner(), [], running([-1e9]))
    assert not decides(LineagePruner(n_steps=4), [], running([-1e9]))
    assert not decides(LineagePruner(n_steps=4), [trial_of([0.0, 1.0], inherited=1)] * 20, running([-1e9]))
    finished = [trial_of([0.0, 0.0, 0.0, 1.0])] * 9
    assert not decides(LineagePruner(), finished[:3], running([-100.0]))
    assert decides(LineagePruner(), finished[:4], running([-100.0]))  # 4 = 1 / 0.2 - 1
    assert not decides(LineagePruner(alpha=0.1), finished[:8], running([-100.0]))
    assert decides(LineagePruner(alpha=0.1), finished, running([-100.0]))  # 9 = 1 / 0.1 - 1


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_nan_prunes(direction: str) -> None:
    assert decides(LineagePruner(), [], running([1.0, math.nan]), direction)
    assert not decides(LineagePruner(), [], running([math.nan, 1.0]), direction)
    with_nan = [trial_of([math.nan, 1.0, 1.0, 1.0])] * 20
    assert not decides(LineagePruner(), with_nan, running([0.0]), direction)


def test_nothing_reported_yet() -> None:
    assert not decides(LineagePruner(), [trial_of([0.0, 1.0])] * 20, running([]))
    assert not decides(LineagePruner(), [trial_of([0.0, 1.0])] * 20, trial_of([], state=TrialState.RUNNING))


def test_budgets_that_differ_are_compared_by_their_share() -> None:
    long = [trial_of([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0], budget=8)] * 20
    short = [running([-1.0], budget=4), running([-1.0, -1.0], budget=4)]
    assert [decides(LineagePruner(checks=[0.5]), long, trial) for trial in short] == [False, True]
    # Reports every second epoch: half of a budget of 8 is after two of them.
    every_second = [trial_of([0.0, 0.0, 1.0, 1.0], budget=8)] * 20
    assert [decides(LineagePruner(checks=[0.5]), every_second, running([-1.0] * k, budget=8)) for k in (1, 2, 3)] == [
        False,
        True,
        False,
    ]
    # n_steps rules.
    assert [decides(LineagePruner(n_steps=6, checks=[0.5]), long, running([-1.0] * k)) for k in (2, 3, 4)] == [
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("kind", ["continued", "fresh"])
def test_controls_are_not_pruned(kind: str) -> None:
    finished = [trial_of([0.0, 0.0, 0.0, 1.0])] * 20
    assert decides(LineagePruner(), finished, running([-100.0]))
    assert not decides(LineagePruner(), finished, running([-100.0], kind=kind))


def noisy(n: int, rng: np.random.Generator) -> list[list[float]]:
    """Curves of 8 steps whose values at a check say something about the last."""
    values = rng.normal(size=(n, 8))
    values[:, -1] += values[:, 3]
    return values.tolist()  # type: ignore[no-any-return]


def test_future_winners_are_lost_as_seldom_as_promised() -> None:
    """Of trials that end among the best quarter, a share of alpha at a check."""
    lost = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        done = noisy(75, rng)
        new = next(curve for curve in noisy(1000, rng) if sum(other[-1] > curve[-1] for other in done) < 19)
        lost += decides(LineagePruner(n_steps=8, alpha=0.2, top=0.25), [trial_of(c) for c in done], running(new[:4]))
    assert 0.14 < lost / 400 < 0.26  # three standard deviations


def test_what_says_nothing_prunes_hardly_any() -> None:
    pruned = []
    for seed in range(400):
        *done, new = np.random.default_rng(seed).normal(size=(76, 8)).tolist()
        pruned.append(decides(LineagePruner(n_steps=8, alpha=0.1), [trial_of(c) for c in done], running(new[:4])))
    assert np.mean(pruned) < 0.15  # three standard deviations above alpha


def test_several_objectives_are_refused_as_by_optuna() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], pruner=LineagePruner())
    with pytest.raises(NotImplementedError, match="multi-objective"):
        study.ask().should_prune()


# Another pruner.

BUILT_IN: dict[str, Callable[[], BasePruner]] = {
    "median": lambda: MedianPruner(n_startup_trials=3),
    "percentile": lambda: PercentilePruner(30.0, n_startup_trials=3, n_warmup_steps=1),
    "halving": lambda: SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
    "hyperband": lambda: HyperbandPruner(min_resource=1, max_resource=8, reduction_factor=2),
    "threshold": lambda: ThresholdPruner(lower=0.4),
    "patient": lambda: PatientPruner(MedianPruner(n_startup_trials=3), patience=1),
    "wilcoxon": lambda: WilcoxonPruner(p_threshold=0.3, n_startup_steps=2),
    "nop": NopPruner,
}


def decisions_of(pruner: BasePruner, storage: Any, n_trials: int, seed: int, warm: bool = False) -> list[list[bool]]:
    """What is decided in a study with these curves; children of each other where they are warm."""
    study = optuna.create_study(pruner=pruner, storage=storage, direction="maximize", study_name=f"s{seed}")
    result = []
    for i, curve in enumerate(curves(n_trials, seed, least=-0.5)):
        trial = study.ask()
        if warm and i % 2:
            trial.set_user_attr("nasmorph:donor", 0)
        row = []
        for step, value in enumerate(curve):
            trial.report(value + 100 * (warm and i % 2), step)
            row.append(trial.should_prune())
            if row[-1]:
                break
        if row[-1]:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, curve[-1] + 100 * (warm and i % 2))
        result.append(row)
    return result


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("in_sqlite", [False, True])
def test_without_inheritance_the_wrapped_pruner_decides_as_alone(name: str, in_sqlite: bool, tmp_path: Path) -> None:
    n = 0
    for seed in range(1 if in_sqlite else 3):
        storages = [f"sqlite:///{tmp_path}/{k}{seed}.db" if in_sqlite else None for k in (0, 1)]
        alone = decisions_of(BUILT_IN[name](), storages[0], 25, seed)
        assert decisions_of(LineagePruner(BUILT_IN[name]()), storages[1], 25, seed) == alone
        n += sum(any(row) for row in alone)
    assert name == "nop" or n > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_without_inheritance_nothing_differs_in_ten_thousand_decisions(tmp_path: Path) -> None:
    n = 0
    for seed in range(100, 112):
        for name, make in BUILT_IN.items():
            for k, storage in enumerate((None, f"sqlite:///{tmp_path}/{seed}-{name}")):
                paths = [storage and f"{storage}-{which}.db" for which in (0, 1)]
                n_trials = 40 if k == 0 else 8
                alone = decisions_of(make(), paths[0], n_trials, seed)
                assert decisions_of(LineagePruner(make()), paths[1], n_trials, seed) == alone
                n += sum(map(len, alone))
    assert n >= 10_000


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", ["median", "percentile", "halving", "threshold", "patient", "wilcoxon"])
def test_with_inheritance_each_class_is_decided_as_alone(name: str) -> None:
    """Warm trials are 100 above: in one pool every cold one would be pruned."""
    both = decisions_of(LineagePruner(BUILT_IN[name]()), None, 40, 5, warm=True)

    def alone(first: int) -> list[list[bool]]:
        study = optuna.create_study(pruner=BUILT_IN[name](), direction="maximize")
        rows = []
        for curve in curves(40, 5, least=-0.5)[first::2]:
            trial = study.ask()
            row = []
            for step, value in enumerate(curve):
                trial.report(value + 100 * first, step)
                row.append(trial.should_prune())
                if row[-1]:
                    break
            if row[-1]:
                study.tell(trial, state=TrialState.PRUNED)
            else:
                study.tell(trial, curve[-1] + 100 * first)
            rows.append(row)
        return rows

    assert [row[-1] for row in both[0::2]] == [row[-1] for row in alone(0)]
    assert [row[-1] for row in both[1::2]] == [row[-1] for row in alone(1)]


@pytest.mark.parametrize("at", [0, 2])
def test_the_wrapped_pruner_decides(at: int) -> None:
    wrapped = Recording(at)
    study = optuna.create_study(pruner=LineagePruner(wrapped))
    trial = study.ask()
    decisions = []
    for step in range(3):
        trial.report(1.0, step)
        decisions.append(trial.should_prune())
    assert decisions == [step == at for step in range(3)]
    assert wrapped.asked == [(0, 0), (0, 1), (0, 2)]


def test_every_check_records_the_training_so_far() -> None:
    study = optuna.create_study(pruner=LineagePruner(Recording(2)), sampler=RandomSampler(seed=0))
    study.enqueue_trial({"arch/n": 0})
    parent = study.ask()
    network = suggest_network(parent, SPACE)
    recorded = []
    for step in range(3):
        parent.report(1.0, step)
        parent.should_prune()
        recorded.append(study.trials[0].user_attrs["nasmorph:effective_epochs"])
    assert recorded == [1.0, 2.0, 3.0]
    publish_weights(parent, network)
    study.tell(parent, state=TrialState.PRUNED)
    # A child counts from there; steps need not be consecutive.
    study.enqueue_trial({"arch/n": 1, "arch/00/op": "widen:2", "arch/00/at": 0.1})
    child = study.ask()
    suggest_network(child, SPACE)
    recorded = []
    for step in (10, 20):
        child.report(1.0, step)
        assert not child.should_prune()
        recorded.append(study.trials[1].user_attrs["nasmorph:effective_epochs"])
    assert recorded == [4.0, 5.0]


@pytest.mark.parametrize("published", [True, False])
def test_what_was_published_is_never_lowered(published: bool) -> None:
    """By a trial that reports once in several epochs; also where the weights were not fit for heirs."""
    study = optuna.create_study(pruner=LineagePruner(Recording(9)), sampler=RandomSampler(seed=0))
    trial = study.ask()
    network = suggest_network(trial, SPACE, budget=3)
    if not published:
        next(network.parameters()).data.fill_(math.nan)
    recorded = []
    for step in range(4):
        trial.report(1.0, step)
        if step == 1:
            with nullcontext() if published else pytest.warns(UserWarning, match="does not become a donor"):
                publish_weights(trial, network, epochs=3)
        trial.should_prune()
        recorded.append(study.trials[0].user_attrs["nasmorph:effective_epochs"])
    assert recorded == [1.0, 3.0, 3.0, 4.0]


def test_a_trial_without_an_architecture_is_left_alone() -> None:
    study = optuna.create_study(pruner=LineagePruner(ThresholdPruner(upper=0.5)))
    trial = study.ask()
    trial.report(1.0, 0)
    assert trial.should_prune()
    assert study.trials[0].user_attrs == {}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(
    "make_wrapped",
    [
        lambda: None,
        NopPruner,
        lambda: MedianPruner(n_startup_trials=1, n_warmup_steps=0),
        lambda: SuccessiveHalvingPruner(min_resource=1),
        lambda: HyperbandPruner(min_resource=1, max_resource=2),
    ],
)
@pytest.mark.parametrize("inside_out", [False, True])
def test_it_works_with_any_pruner(make_wrapped: Callable[[], BasePruner | None], inside_out: bool) -> None:
    pruner: BasePruner = LineagePruner(make_wrapped())
    if inside_out:
        pruner = optuna.pruners.PatientPruner(pruner, patience=1)
    study = optuna.create_study(pruner=pruner, sampler=quick_sampler(2), direction="maximize")
    study.optimize(make_objective(), n_trials=6)
    assert {t.state for t in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in study.trials:
        own = trial.user_attrs["nasmorph:effective_epochs"] - trial.user_attrs["nasmorph:inherited_epochs"]
        assert own == len(trial.intermediate_values)


def test_its_decision_is_that_of_the_pruner_it_wraps() -> None:
    def states(pruner: BasePruner) -> list[TrialState]:
        study = optuna.create_study(pruner=pruner, sampler=RandomSampler(seed=0), direction="maximize")
        study.optimize(make_objective(publish=False), n_trials=12)
        return [t.state for t in study.trials]

    plain = states(MedianPruner(n_startup_trials=2))
    assert TrialState.PRUNED in plain
    assert states(LineagePruner(MedianPruner(n_startup_trials=2))) == plain


def test_its_store_is_the_studys(tmp_path: Path) -> None:
    store = WeightStore(tmp_path / "here")
    study = optuna.create_study(pruner=LineagePruner(store=store), sampler=RandomSampler(seed=0))
    assert resolve(study) is store
    study.optimize(make_objective(), n_trials=2)
    assert len(list((tmp_path / "here").glob("*-*-*"))) == 3  # two trials and the token
    assert study.user_attrs["nasmorph:store"]["path"] == str(tmp_path / "here")


def test_checks_may_be_an_array() -> None:
    alike = [trial_of([0.5, 0.5, 0.5, 0.6])] * 30
    pruner = LineagePruner(checks=np.array([0.5, 0.25]))
    assert [decides(pruner, alike, running([0.4] * k)) for k in (1, 2, 3)] == [True, True, False]


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match="wrapped must be an Optuna pruner or None but got str"):
        LineagePruner("median")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="store must be a WeightStore or None but got str"):
        LineagePruner(store="./weights")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_steps": 0}, "n_steps must be a positive integer or None but got 0"),
        ({"alpha": 1.0}, "alpha must be between 0 and 1 but got 1.0"),
        ({"top": 0.0}, "top must be a share above 0 and up to 1 but got 0.0"),
        ({"checks": np.array([])}, r"checks must be shares between 0 and 1 but got \(\)"),
        ({"checks": ()}, r"checks must be shares between 0 and 1 but got \(\)"),
        ({"checks": (0.5, 1.0)}, "checks must be shares between 0 and 1 but got"),
    ],
)
def test_numbers_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LineagePruner(**arguments)
