"""Controls and effective epochs: what tells "older" from "better"."""

from __future__ import annotations

import copy
import dataclasses
import math
import warnings
from collections import Counter
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import spearmanr

from optuna_nas_morph import MorphBOSampler, lineage, load_network, publish_weights, suggest_network
from optuna_nas_morph.encoder import Encoder, training_feature
from optuna_nas_morph.errors import EncodingError
from optuna_nas_morph.history import HistoryReader, Observation
from optuna_nas_morph.hyperparameters import Cube
from optuna_nas_morph.kernels import WeisfeilerLehman
from optuna_nas_morph.lineage import Kind
from optuna_nas_morph.proposal import Settings, Task, predict_finished, propose_control
from optuna_nas_morph.sampler import scheduled_kind
from optuna_nas_morph.search import TreeSearch
from optuna_nas_morph.spaces import Descendant, MorphSpace
from tests.studies import CNN, CNN_MORPHISMS, CNN_SPACE, MLP, SPACE, key_of, make_objective, quick_sampler

SEED: dict[str, Any] = {"arch/n": 0}
WIDER: dict[str, Any] = {"arch/n": 1, "arch/00/op": "widen:2", "arch/00/at": 0.25}
DEEP_SPACE = MorphSpace(CNN, CNN_MORPHISMS, max_morphisms=12)


def kinds(study: optuna.Study) -> list[str]:
    return [t.user_attrs["nasmorph:kind"] for t in study.trials]


def searched(control_share: float, n_trials: int = 24, **arguments: Any) -> optuna.Study:
    study = optuna.create_study(
        sampler=quick_sampler(4, control_share=control_share, **arguments), direction="maximize"
    )
    study.optimize(make_objective(CNN_SPACE), n_trials=n_trials)
    return study


# When.


@pytest.mark.parametrize("share", [0.0, 0.05, 0.1, 0.125, 0.3, 0.5])
def test_a_share_of_all_trials_both_kinds_in_turn(share: float) -> None:
    found = [scheduled_kind(number, share) for number in range(1000)]
    count = Counter(found)
    assert abs(1000 * share - (count[Kind.CONTINUED] + count[Kind.FRESH])) <= 1
    assert 0 <= count[Kind.CONTINUED] - count[Kind.FRESH] <= 1
    gaps = np.diff([i for i, kind in enumerate(found) if kind != Kind.SEARCH])
    assert all(abs(gap - 1 / share) < 1 for gap in gaps)


def test_controls_are_what_they_say() -> None:
    study = searched(0.3)
    trials = study.trials
    assert Counter(kinds(study)) == {"search": 18, "continued": 3, "fresh": 3}
    assert set(kinds(study)[:4]) == {"search"}  # the startup
    for trial in trials:
        same = [t for t in trials[: trial.number] if key_of(t)[:2] == key_of(trial)[:2]]
        recorded = trial.user_attrs
        if recorded["nasmorph:kind"] == "search":
            continue
        assert same, "a control repeats the architecture and the hyperparameters of an earlier trial"
        if recorded["nasmorph:kind"] == "fresh":
            assert recorded["nasmorph:inherited_epochs"] == 0 and "nasmorph:donor" not in recorded
            assert any(t.user_attrs["nasmorph:inherited_epochs"] > 0 for t in same)
        else:
            donor = trials[recorded["nasmorph:donor"]]
            assert donor.user_attrs["nasmorph:fingerprint"] == recorded["nasmorph:fingerprint"]
            assert recorded["nasmorph:morphisms"] == []
            assert recorded["nasmorph:inherited_epochs"] == donor.user_attrs["nasmorph:effective_epochs"] > 0
    # Nothing is done twice: architecture, hyperparameters and kind.
    assert max(Counter(map(key_of, trials)).values()) == 1


def test_a_continued_network_computes_what_its_donor_did_and_a_fresh_one_does_not() -> None:
    study = optuna.create_study(sampler=MorphBOSampler(seed=0), direction="maximize")
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))

    def run(kind: str | None) -> torch.Tensor:
        study.enqueue_trial(WIDER, user_attrs=None if kind is None else {"nasmorph:kind": kind})
        trial = study.ask()
        network = suggest_network(trial, SPACE)
        publish_weights(trial, network, epochs=2)
        study.tell(trial, 0.0)
        return network.eval()(x)

    first = run(None)
    assert torch.allclose(run("continued"), first, atol=1e-6)
    assert not torch.allclose(run("fresh"), first, atol=1e-3)
    assert kinds(study) == ["search", "continued", "fresh"]
    assert [t.user_attrs["nasmorph:effective_epochs"] for t in study.trials] == [2, 4, 2]


def test_a_kind_that_there_is_not() -> None:
    study = optuna.create_study(sampler=MorphBOSampler(seed=0))
    study.enqueue_trial(WIDER, user_attrs={"nasmorph:kind": "frsh"})
    with pytest.raises(EncodingError, match="nasmorph:kind of trial 0 must be one of 'search', 'continued', 'fresh'"):
        suggest_network(study.ask(), SPACE)


def test_a_requested_control_is_proposed_whatever_the_schedule() -> None:
    study = searched(0.0, n_trials=10)
    for kind in ("fresh", "continued"):
        study.enqueue_trial({}, user_attrs={"nasmorph:kind": kind})
    study.optimize(make_objective(CNN_SPACE), n_trials=2)
    for trial in study.trials[-2:]:
        assert any(key_of(t)[:2] == key_of(trial)[:2] for t in study.trials[:10])
    assert kinds(study)[-2:] == ["fresh", "continued"]


def test_where_nothing_is_inherited_there_are_no_controls() -> None:
    study = optuna.create_study(sampler=quick_sampler(2, control_share=0.5), direction="maximize")
    study.optimize(make_objective(CNN_SPACE, publish=False), n_trials=12)
    assert set(kinds(study)) == {"search"}


def test_other_samplers_make_no_controls() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), direction="maximize")
    study.optimize(make_objective(CNN_SPACE), n_trials=20)
    assert set(kinds(study)) == {"search"}


def test_what_is_enqueued_is_no_control() -> None:
    study = searched(0.5, n_trials=9)
    for _ in range(4):
        study.enqueue_trial({"lr": 0.02})
    study.optimize(make_objective(CNN_SPACE), n_trials=4)
    assert kinds(study)[9:] == ["search"] * 4


def test_the_seed_and_the_number_decide() -> None:
    one, two = searched(0.3, 16), searched(0.3, 16)
    assert [t.params for t in one.trials] == [t.params for t in two.trials] and kinds(one) == kinds(two)
    # And the history: a worker that joins proposes what the first would have.
    study = searched(0.3, 9)
    study.sampler = quick_sampler(4, control_share=0.3)
    study.optimize(make_objective(CNN_SPACE), n_trials=7)
    assert [t.params for t in study.trials] == [t.params for t in one.trials] and kinds(study) == kinds(one)


def test_proposals_made_ahead_leave_controls_in_place() -> None:
    study = searched(0.3, 16, max_staleness=1)
    assert Counter(kinds(study)) == Counter(kinds(searched(0.3, 16)))
    assert max(Counter(map(key_of, study.trials)).values()) == 1


def test_running_controls_are_not_proposed_again() -> None:
    study = searched(0.0, 8)
    asked = []
    for _ in range(4):
        study.enqueue_trial({}, user_attrs={"nasmorph:kind": "fresh"})
        asked.append(study.ask())
        asked[-1].suggest_float("lr", 1e-4, 1e-1, log=True)  # the claim is written, the architecture not asked for
    for trial in asked:
        suggest_network(trial, CNN_SPACE)
    assert len({key_of(t) for t in study.trials[8:]}) == 4


@pytest.mark.parametrize("share", [-0.1, 0.51, float("nan"), True])
def test_wrong_shares(share: float) -> None:
    with pytest.raises(ValueError, match="control_share must be a number from 0 to"):
        MorphBOSampler(control_share=share)


# Which.


def observation(number: int, value: float, **rest: Any) -> Observation:
    state = rest.pop("state", TrialState.COMPLETE)
    steps = rest.pop("lr", 0.01 * (number + 1))
    return Observation(number, state, {"lr": steps}, Descendant((), MLP), (value,), {}, {}, 6.0, **rest)


LR = Cube({"lr": optuna.distributions.FloatDistribution(1e-4, 1.0, log=True)})
TASK = Task(SPACE, LR, {}, (1.0,))


def drawn(history: list[Observation], kind: Kind, task: Task = TASK) -> set[int | None]:
    """Numbers of the trials of which controls are made."""
    found: set[int | None] = set()
    for seed in range(40):
        proposal = propose_control(task, history, kind, np.random.default_rng(seed))
        if proposal is None:
            found.add(None)
        else:
            assert proposal.kind == kind and proposal.params["arch/n"] == 0
            found.add(next(o.number for o in history if o.hyperparameters["lr"] == proposal.params["lr"]))
    return found


def test_continued_are_donors_fresh_are_heirs() -> None:
    history = [
        observation(0, 1.0, is_donor=True),
        observation(1, 1.0, inherits=True),
        observation(2, 1.0, is_donor=True, inherits=True, state=TrialState.PRUNED),
        observation(3, 1.0, is_donor=True, inherits=True, state=TrialState.RUNNING),
    ]
    assert drawn(history, Kind.CONTINUED) == {0}
    assert drawn(history, Kind.FRESH) == {1}


def test_the_better_half_of_what_is_left() -> None:
    values = [0.1, 0.9, 0.5, 0.7, 0.3]
    history = [observation(i, v, is_donor=True, inherits=True) for i, v in enumerate(values)]
    assert drawn(history, Kind.FRESH) == {1, 3, 2}
    assert drawn(history, Kind.FRESH, Task(SPACE, LR, {}, (-1.0,))) == {0, 4, 2}
    done = [observation(5, 0.2, kind=Kind.FRESH, lr=history[i].hyperparameters["lr"]) for i in (1, 3, 2)]
    assert drawn(history + done, Kind.FRESH) == {4}
    assert drawn(history + done, Kind.CONTINUED) == {1, 3, 2}
    assert drawn([], Kind.FRESH) == {None}


# A cap on inherited training.


@pytest.mark.parametrize(
    ("cap", "donor", "inherited"), [(None, 2, 9.0), (9, 2, 9.0), (8, 1, 5.0), (4.9, 0, 2.0), (1, None, 0.0)]
)
def test_ancestors_with_too_much_training_are_passed_over(
    cap: float | None, donor: int | None, inherited: float
) -> None:
    study = optuna.create_study(sampler=MorphBOSampler(seed=0))
    for params, epochs in (
        (SEED, 2),
        (WIDER, 3),
        ({**WIDER, "arch/n": 2, "arch/01/op": "add_skip", "arch/01/at": 0.1}, 4),
    ):
        study.enqueue_trial(params)
        trial = study.ask()
        publish_weights(trial, suggest_network(trial, SPACE), epochs=epochs)
        study.tell(trial, 0.0)
    study.enqueue_trial(study.trials[-1].params)
    trial = study.ask()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # It is no failure, so there is no word of it.
        network = suggest_network(trial, SPACE, max_inherited_epochs=cap)
    recorded = study.trials[-1].user_attrs
    assert (recorded.get("nasmorph:donor"), recorded["nasmorph:inherited_epochs"]) == (donor, inherited)
    assert "nasmorph:fallback" not in recorded
    if donor is not None:  # Whoever the donor is, the morphisms between are replayed: the same function.
        x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(network.eval()(x), load_network(study, study.trials[donor])(x), atol=1e-5)


@pytest.mark.parametrize(("cap", "oldest"), [(None, 20), (5, 6), (0, 2)])
def test_no_lineage_is_older_than_the_cap_and_its_own_budget(cap: int | None, oldest: int) -> None:
    study = optuna.create_study(sampler=MorphBOSampler(seed=0), direction="maximize")

    def objective(trial: optuna.Trial) -> float:
        publish_weights(trial, suggest_network(trial, SPACE, max_inherited_epochs=cap), epochs=2)
        return float(trial.number)

    for _ in range(10):  # Each goes on from the best one that it may.
        study.enqueue_trial(WIDER)
    study.optimize(objective, n_trials=10)
    assert max(t.user_attrs["nasmorph:effective_epochs"] for t in study.trials) == oldest


def test_a_wrong_cap() -> None:
    with pytest.raises(ValueError, match="max_inherited_epochs must be a non-negative number of epochs but got -1"):
        suggest_network(optuna.create_study().ask(), SPACE, max_inherited_epochs=-1)


# What the surrogate makes of it.


def test_what_has_not_said_how_long_it_trains_is_taken_for_the_reference() -> None:
    known = [observation(i, 0.5) for i in range(3)]  # 6 epochs each
    running = dataclasses.replace(observation(3, 0.0, state=TrialState.RUNNING), values=None, epochs=None)
    announced = dataclasses.replace(running, epochs=20.0)
    encoder = Encoder.of(TASK.space, TASK.cube, known)
    assert encoder.reference == training_feature(6.0)
    assert encoder.points_of([running, announced]).z[:, -1].tolist() == [training_feature(6.0), training_feature(20.0)]
    assert encoder.points_of([announced], 0.25).z[:, -1].tolist() == [0.25]


def quality(trial: FrozenTrial, target: float) -> float:
    return -0.1 * abs(math.log(trial.user_attrs["nasmorph:parameters"] / target))


def predictions(study: optuna.Study) -> tuple[list[FrozenTrial], np.ndarray]:
    """What is believed of finished trials at one training."""
    space = lineage.space_of(study)
    history = HistoryReader().read(study, space, -1)
    settings = Settings(WeisfeilerLehman(), None, None, deterministic=False)
    task = Task(space, Cube({}), {}, (1.0,))
    observed, means = predict_finished(task, history.observations, settings, np.random.default_rng(0))
    return [study.trials[o.number] for o in observed], means[0]


def lineages(target: float | None, seed: int, n_trials: int = 30) -> optuna.Study:
    """Values are what training gives, plus what the architecture is worth."""
    rng = np.random.default_rng(seed)
    sampler = MorphBOSampler(seed=seed, n_startup_trials=10, search=TreeSearch(n_candidates=30))
    study = optuna.create_study(sampler=sampler, direction="maximize")

    def objective(trial: optuna.Trial) -> float:
        network = suggest_network(trial, DEEP_SPACE)
        publish_weights(trial, network, epochs=2)
        frozen = study.trials[trial.number]
        worth = 0.0 if target is None else quality(frozen, target)
        return math.log(frozen.user_attrs["nasmorph:effective_epochs"]) + worth + 0.02 * float(rng.standard_normal())

    study.optimize(objective, n_trials=n_trials)
    return study


def without_epochs(study: optuna.Study) -> optuna.Study:
    """The same trials of a study that has recorded no training."""
    other = optuna.create_study(direction=study.direction)
    for key, value in study.user_attrs.items():
        other.set_user_attr(key, value)
    for trial in study.trials:
        trial = copy.deepcopy(trial)
        for key in (lineage.EFFECTIVE_EPOCHS, lineage.WEIGHTS):
            trial.user_attrs.pop(key)
        other.add_trial(trial)
    return other


def test_old_lineages_are_not_preferred_where_only_training_counts() -> None:
    study = lineages(None, seed=0)
    values = [t.value for t in study.trials]
    epochs = [t.user_attrs["nasmorph:effective_epochs"] for t in study.trials]
    assert spearmanr(values, epochs)[0] > 0.9
    # Without the epochs, what is believed is that old lineages are better; with them, that all are equal.
    _, blind = predictions(without_epochs(study))
    assert spearmanr(blind, epochs)[0] > 0.7
    _, fair = predictions(study)
    assert np.std(fair) < 0.2 * np.std(blind)


def test_the_better_architecture_is_told_from_the_older_lineage() -> None:
    study = lineages(200.0, seed=1)
    trials, fair = predictions(study)
    worth = [quality(t, 200.0) for t in trials]
    raw = spearmanr([t.value for t in trials], worth)[0]
    assert spearmanr(fair, worth)[0] > max(0.7, raw + 0.2)
