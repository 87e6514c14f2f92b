"""LineagePruner: account of training, and the decision of another pruner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
    ThresholdPruner,
)
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

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


def test_alone_it_prunes_nothing() -> None:
    study = optuna.create_study(pruner=LineagePruner(), sampler=RandomSampler(seed=0))
    trial = study.ask()
    for step, value in enumerate((0.0, float("nan"), float("inf"), -1e308)):
        trial.report(value, step)
        assert not trial.should_prune()


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


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match="wrapped must be an Optuna pruner or None but got str"):
        LineagePruner("median")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="store must be a WeightStore or None but got str"):
        LineagePruner(store="./weights")  # type: ignore[arg-type]
