"""Disk space is bounded; what the search needs stays; garbage is no loss."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from optuna.artifacts import FileSystemArtifactStore
from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial

from optuna_nas_morph import (
    Keep,
    LineagePruner,
    Network,
    WeightStore,
    inherit_optimizer,
    lineage,
    load_network,
    publish_weights,
    suggest_network,
)
from optuna_nas_morph.errors import StoreError, WeightsMissingError
from optuna_nas_morph.weights import RECORD_ATTR, WeightRecord, resolve
from optuna_nas_morph.weights.garbage import find_garbage
from optuna_nas_morph.weights.store import TOKEN_NAME
from tests.studies import SPACE, make_objective, quick_sampler
from tests.weights.test_store import STORAGES

TOKEN = "0b6b5a2e-7a44-4a4e-9d1e-8f3d3c1f9a11"
SEED: dict[str, Any] = {"arch/n": 0}
WIDER: dict[str, Any] = {"arch/n": 1, "arch/00/op": "widen:2", "arch/00/at": 0.25}
WIDER_DEEPER: dict[str, Any] = {**WIDER, "arch/n": 2, "arch/01/op": "deepen:relu", "arch/01/at": 0.9}


def record_of(number: int, n_bytes: int = 10, token: str = TOKEN) -> dict[str, Any]:
    return WeightRecord(1, number, f"0b6b5a2e-7a44-4a4e-9d1e-{number:012x}", "a" * 64, n_bytes, token).to_dict()


def add(
    study: optuna.Study,
    values: Sequence[float] | float | None,
    state: TrialState = TrialState.COMPLETE,
    *,
    n_bytes: int | None = 10,
    donor: int | None = None,
    token: str = TOKEN,
) -> int:
    """One more trial with weights that nobody has to store."""
    number = len(study.get_trials(deepcopy=False))
    attributes: dict[str, Any] = {} if n_bytes is None else {RECORD_ATTR: record_of(number, n_bytes, token)}
    if donor is not None:
        attributes[lineage.DONOR] = donor
    given = {"value": values} if isinstance(values, float | int) else {"values": values}
    study.add_trial(create_trial(state=state, user_attrs=attributes, **given))
    return number


def kept(study: optuna.Study, **keep: Any) -> list[int]:
    garbage = find_garbage(study, Keep(**keep), TOKEN)
    assert all(record.trial_number == number for number, record in garbage.items())
    return [t.number for t in study.trials if t.number not in garbage]


# What is garbage.


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_best_and_the_latest_stay(direction: str) -> None:
    study = optuna.create_study(direction=direction)
    sign = 1.0 if direction == "maximize" else -1.0
    for value in (3.0, 9.0, 1.0, 8.0, 2.0, 5.0, 4.0):
        add(study, sign * value)
    assert kept(study, best=2, recent=2) == [1, 3, 5, 6]
    assert kept(study, best=1, recent=0) == [1]
    assert kept(study, best=3, recent=1) == [1, 3, 5, 6]
    assert kept(study) == list(range(7))


def test_of_equals_the_latest_stay() -> None:
    study = optuna.create_study()
    for _ in range(4):
        add(study, 1.0)
    assert kept(study, best=2, recent=0) == [2, 3]


def test_pruned_and_failed_trials_are_never_the_best_but_may_be_the_latest() -> None:
    study = optuna.create_study(direction="minimize")
    for state in (TrialState.PRUNED, TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED):
        add(study, 1.0 if state == TrialState.COMPLETE else None, state)
    assert kept(study, best=3, recent=0) == [1]
    assert kept(study, best=1, recent=2) == [1, 2, 3]


def test_running_trials_and_their_donors_stay() -> None:
    study = optuna.create_study(direction="maximize")
    add(study, 0.0)
    add(study, 1.0)
    add(study, None, TrialState.RUNNING)
    add(study, None, TrialState.RUNNING, donor=0)
    add(study, 9.0)
    assert kept(study, best=1, recent=0) == [0, 2, 3, 4]
    assert kept(study, best=1, recent=0, max_bytes=0) == [0, 2, 3, 4]


def test_ancestors_of_the_best_stay() -> None:
    study = optuna.create_study(direction="maximize")
    add(study, 0.0)
    add(study, 0.1, donor=0)
    add(study, 0.2)
    add(study, 0.3, donor=2)
    add(study, 1.0, donor=1)
    add(study, 0.4)
    assert kept(study, best=1, recent=0) == [0, 1, 4]
    assert kept(study, best=2, recent=0) == [0, 1, 4, 5]


@pytest.mark.parametrize("donor", [3, 7, 99, "x", -1])
def test_lineages_that_nobody_wrote(donor: Any) -> None:
    study = optuna.create_study(direction="maximize")
    for _ in range(3):
        add(study, 0.0)
    add(study, 1.0, donor=donor)
    assert kept(study, best=1, recent=0) == [3]


def test_bytes_go_to_the_best_and_the_latest_in_turns_then_to_ancestors() -> None:
    study = optuna.create_study(direction="maximize")
    add(study, 0.0)
    add(study, 9.0, donor=0)
    add(study, 8.0)
    add(study, 1.0)
    add(study, 2.0)
    order = [1, 4, 2, 3, 0]  # best, latest, second best, second latest, the best's donor
    for n in range(1, 6):
        assert kept(study, best=2, recent=2, max_bytes=10 * n) == sorted(order[:n])
        assert kept(study, best=2, recent=2, max_bytes=10 * n + 9) == sorted(order[:n])
    assert kept(study, best=2, recent=2, max_bytes=0) == [1]  # The best stays, however large.


def test_what_is_too_large_makes_room_for_what_fits() -> None:
    study = optuna.create_study(direction="maximize")
    for value, n_bytes in ((3.0, 10), (2.0, 1000), (1.0, 10)):
        add(study, value, n_bytes=n_bytes)
    assert kept(study, best=3, recent=0, max_bytes=50) == [0, 2]


def test_infeasible_trials_come_after_the_feasible() -> None:
    study = optuna.create_study(direction="maximize")
    for value, constraint in ((9.0, 1.0), (1.0, 0.0), (2.0, -1.0)):
        number = len(study.trials)
        trial = study.ask()
        trial.set_constraint("limit", constraint)
        trial.set_user_attr(RECORD_ATTR, record_of(number))
        study.tell(trial, value)
    assert kept(study, best=2, recent=0) == [1, 2]
    assert study.best_trial.number == 2


def test_several_objectives_keep_the_front() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"])
    for values in ([1.0, 1.0], [2.0, 0.5], [3.0, 3.0], [4.0, 1.0]):
        add(study, values)
    assert [t.number for t in study.best_trials] == [0, 2]
    assert kept(study, best=2, recent=0) == [0, 2]
    assert kept(study, best=3, recent=0) == [0, 2, 3]


def test_what_is_not_this_trials_or_this_stores_is_left_alone() -> None:
    study = optuna.create_study()
    add(study, 5.0, n_bytes=None)
    add(study, 5.0, token=TOKEN.replace("0", "1"))
    study.add_trial(create_trial(value=5.0, user_attrs={RECORD_ATTR: record_of(99)}))  # a retry's copy
    study.add_trial(create_trial(value=5.0, user_attrs={RECORD_ATTR: "nonsense"}))
    add(study, 1.0)
    add(study, 2.0)
    assert set(find_garbage(study, Keep(best=1, recent=0), TOKEN)) == {5}


def test_in_finals_everything_stays() -> None:
    study, finals = optuna.create_study(direction="maximize"), optuna.create_study(direction="maximize")
    for value in (0.9, 0.8, 0.5, 0.8):
        add(finals, value)
    assert kept(finals, best=1, recent=1) == [0, 3]
    lineage.link_finals(study, finals)
    assert kept(finals, best=1, recent=1) == kept(finals, best=1, recent=0, max_bytes=0) == [0, 1, 2, 3]


@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]),
            st.integers(-3, 3),
            st.integers(0, 9),
            st.one_of(st.none(), st.integers(0, 15)),
        ),
        max_size=16,
    ),
    best=st.integers(1, 5),
    recent=st.integers(0, 5),
    max_bytes=st.one_of(st.none(), st.integers(0, 60)),
)
def test_whatever_there_is_the_bounds_hold(
    rows: list[tuple[TrialState, int, int, int | None]], best: int, recent: int, max_bytes: int | None
) -> None:
    study = optuna.create_study(direction="maximize")
    for state, value, n_bytes, donor in rows:
        add(study, float(value) if state == TrialState.COMPLETE else None, state, n_bytes=n_bytes, donor=donor)
    stays = set(kept(study, best=best, recent=recent, max_bytes=max_bytes))
    running = {n for n, row in enumerate(rows) if row[0] == TrialState.RUNNING}
    complete = [n for n, row in enumerate(rows) if row[0] == TrialState.COMPLETE]
    ranked = sorted(complete, key=lambda n: (rows[n][1], n), reverse=True)
    needed = running | {rows[n][3] for n in running} | set(ranked[:1])
    assert needed & set(range(len(rows))) <= stays
    if max_bytes is None:
        assert {*ranked[:best], *range(max(0, len(rows) - recent), len(rows))} <= stays
        assert stays <= set(kept(study, best=best + 1, recent=recent + 1))
    else:
        assert sum(rows[n][2] for n in stays - needed) <= max_bytes
        assert sum(rows[n][2] for n in stays) <= max(max_bytes, sum(rows[n][2] for n in stays & needed))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"best": 0}, "best must be at least 1 but got 0"),
        ({"recent": -1}, "recent must be at least 0 but got -1"),
        ({"max_bytes": -1}, "max_bytes must be None or not negative but got -1"),
    ],
)
def test_wrong_policies(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Keep(**arguments)


@pytest.mark.parametrize("value", [2.5, True, "3"])
@pytest.mark.parametrize("name", ["best", "recent"])
def test_policies_count_trials(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} must be an integer but got {value!r}"):
        Keep(**{name: value})


def test_what_is_no_policy() -> None:
    with pytest.raises(TypeError, match="keep must be a Keep or None but got 3"):
        WeightStore(keep=3)  # type: ignore[arg-type]


# Collecting.


def files(directory: Path) -> set[str]:
    return {file.name for file in directory.iterdir()} - {TOKEN_NAME}


def artifact(study: optuna.Study, number: int) -> str:
    record = WeightStore.record(study.trials[number])
    assert record is not None
    return record.artifact_id


def publish_one(study: optuna.Study, store: WeightStore, value: float) -> None:
    trial = study.ask()
    store.publish(trial, {"x": torch.full((3,), value)})
    study.tell(trial, value)


@pytest.mark.parametrize("storage", STORAGES)
def test_collecting_removes_files_and_says_so(storage: str, tmp_path: Path) -> None:
    opened: BaseStorage = STORAGES[storage](tmp_path)
    study = optuna.create_study(storage=opened, direction="maximize")
    store = WeightStore(tmp_path / "weights")
    for value in (0.3, 0.9, 0.1, 0.2):
        publish_one(study, store, value)
    assert store.collect(study) == []
    assert store.collect(study, Keep(best=1, recent=1)) == [0, 2]
    assert files(tmp_path / "weights") == {artifact(study, 1), artifact(study, 3)}
    assert lineage.collected_of(study) == {0, 2}
    assert store.collect(study, Keep(best=1, recent=1)) == []
    with pytest.raises(WeightsMissingError):
        store.load(WeightRecord.from_dict(study.trials[0].user_attrs[RECORD_ATTR]))
    assert store.collect(study, Keep(best=1, recent=0)) == [3]
    assert lineage.collected_of(study) == {0, 2, 3}


def test_a_store_that_keeps_everything(tmp_path: Path) -> None:
    study, store = optuna.create_study(), WeightStore(tmp_path, keep=None)
    for value in range(3):
        publish_one(study, store, float(value))
    assert store.collect(study) == []
    assert len(files(tmp_path)) == 3


def test_garbage_that_cannot_be_removed_is_tried_again(tmp_path: Path) -> None:
    class Sticky(FileSystemArtifactStore):
        refuses = True

        def remove(self, artifact_id: str) -> None:
            if self.refuses and artifact_id == stuck:
                raise PermissionError("no")
            super().remove(artifact_id)

    WeightStore(tmp_path).token()
    backend = Sticky(tmp_path)
    study, store = optuna.create_study(), WeightStore(backend, keep=Keep(best=1, recent=0))
    stuck = ""
    for value in (0.0, 1.0, 2.0, 3.0):
        publish_one(study, store, value)
    stuck = artifact(study, 2)
    with pytest.raises(StoreError, match="cannot remove"):
        store.collect(study)
    assert lineage.collected_of(study) == {1}
    backend.refuses = False
    assert store.collect(study) == [2, 3]
    assert files(tmp_path) == {artifact(study, 0)}


def test_two_collectors_that_overwrite_each_other_make_up_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, store = optuna.create_study(), WeightStore(tmp_path)
    for value in range(4):
        publish_one(study, store, float(value))
    stale = lineage.collected_of(study)
    assert store.collect(study, Keep(best=1, recent=2)) == [1]
    with monkeypatch.context() as patch:  # The other one has read before the first wrote.
        patch.setattr(lineage, "collected_of", lambda study: stale)
        assert store.collect(study, Keep(best=1, recent=1)) == [1, 2]
        lineage.record_collected(study, [2])
    assert lineage.collected_of(study) == {2}
    assert store.collect(study, Keep(best=1, recent=1)) == [1]
    assert lineage.collected_of(study) == {1, 2}


def test_thousands_of_numbers_fit_an_attribute() -> None:
    study = optuna.create_study()
    lineage.record_collected(study, (n for n in range(20_000) if n % 100))
    assert len(str(study.user_attrs["nasmorph:collected"])) < 65_000
    assert lineage.collected_of(study) == {n for n in range(20_000) if n % 100}
    lineage.record_not_collected(study, [5])
    assert 5 not in lineage.collected_of(study) and 6 in lineage.collected_of(study)


# Studies.


def start(study: optuna.Study, params: dict[str, Any]) -> tuple[optuna.Trial, Network]:
    study.enqueue_trial(params)
    trial = study.ask()
    return trial, suggest_network(trial, SPACE)


def test_a_search_stays_within_its_bounds_in_silence(tmp_path: Path) -> None:
    keep = Keep(best=2, recent=2)
    study = optuna.create_study(
        sampler=quick_sampler(3), direction="maximize", pruner=LineagePruner(store=WeightStore(tmp_path, keep=keep))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study.optimize(make_objective(), n_trials=20)
    assert {t.state for t in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert not any("nasmorph:fallback" in t.user_attrs for t in study.trials)
    at_most = 2 + 2 + sum(1 for _ in range(SPACE.max_morphisms)) * 2
    assert 0 < len(files(tmp_path)) <= at_most
    assert len(lineage.collected_of(study)) >= 20 - at_most
    load_network(study, study.best_trial)
    load_network(study, study.trials[-1])


@pytest.mark.parametrize("inner", [False, True])
def test_a_policy_without_a_place(inner: bool) -> None:
    store = WeightStore(keep=Keep(best=1, recent=0))
    pruner = LineagePruner(LineagePruner(store=store)) if inner else LineagePruner(store=store)
    study = optuna.create_study(pruner=pruner, direction="maximize")
    assert resolve(study).keep == store.keep
    assert resolve(study).path is not None
    assert resolve(study) is resolve(study)
    assert resolve(study, WeightStore(keep=None)).keep is None
    assert resolve(study, WeightStore(keep=None)).path == resolve(study).path


def test_a_collected_donor_is_no_loss(tmp_path: Path) -> None:
    study = optuna.create_study(pruner=LineagePruner(store=WeightStore(tmp_path)))
    for params in (SEED, WIDER):
        trial, network = start(study, params)
        publish_weights(trial, network, epochs=1)
        study.tell(trial, float(trial.number))
    assert resolve(study).collect(study, Keep(best=1, recent=0)) == [1]
    trial, _ = start(study, WIDER_DEEPER)  # A warning would be an error.
    assert (trial.user_attrs["nasmorph:parent"], trial.user_attrs["nasmorph:donor"]) == (1, 0)
    assert "nasmorph:fallback" not in trial.user_attrs
    with pytest.raises(WeightsMissingError, match=r"of trial 1 .*removed to save space"):
        load_network(study, study.trials[1])


@pytest.mark.parametrize("when", ["before the file is opened", "while it is read"])
def test_one_loads_while_another_collects(when: str, tmp_path: Path) -> None:
    WeightStore(tmp_path).token()
    collector = WeightStore(tmp_path)
    interrupted: list[str] = []

    class Slow(FileSystemArtifactStore):
        def open_reader(self, artifact_id: str) -> Any:
            opened = super().open_reader(artifact_id) if when == "while it is read" else None
            if artifact_id == watched:
                interrupted.append(artifact_id)
                collector.collect(study, Keep(best=1, recent=0))
            return opened or super().open_reader(artifact_id)

    watched = ""
    study = optuna.create_study(pruner=LineagePruner(store=WeightStore(Slow(tmp_path))))
    for params in (SEED, WIDER):
        trial, network = start(study, params)
        publish_weights(trial, network, epochs=1)
        study.tell(trial, float(trial.number))
    watched = artifact(study, 1)
    trial, _ = start(study, WIDER_DEEPER)
    assert len(interrupted) == 1
    assert files(tmp_path) == {artifact(study, 0)}
    assert trial.user_attrs["nasmorph:donor"] == (1 if when == "while it is read" else 0)
    assert "nasmorph:fallback" not in trial.user_attrs


def test_the_donor_of_a_running_trial_waits_for_its_optimizer(tmp_path: Path) -> None:
    study = optuna.create_study(pruner=LineagePruner(store=WeightStore(tmp_path)))
    for params in (SEED, WIDER):
        trial, network = start(study, params)
        publish_weights(trial, network, epochs=1, optimizer=torch.optim.SGD(network.parameters(), momentum=0.9))
        study.tell(trial, float(trial.number))
    trial, network = start(study, WIDER_DEEPER)
    assert resolve(study).collect(study, Keep(best=1, recent=0)) == []
    assert inherit_optimizer(trial, network, torch.optim.SGD(network.parameters(), momentum=0.9))
    study.tell(trial, 5.0)
    assert resolve(study).collect(study, Keep(best=1, recent=0)) == [1]


def test_workers_that_publish_load_and_collect_at_once(tmp_path: Path) -> None:
    store = WeightStore(tmp_path, keep=Keep(best=1, recent=1))
    study = optuna.create_study(sampler=quick_sampler(100), direction="maximize", pruner=LineagePruner(store=store))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        study.optimize(make_objective(), n_trials=40, n_jobs=4)
    assert {t.state for t in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    # Two that announce at once may overwrite each other: a warning at most, never a failure.
    assert all("could not inherit" in str(w.message) for w in caught)
    store.collect(study)
    collected = lineage.collected_of(study)
    assert files(tmp_path) == {artifact(study, t.number) for t in study.trials if t.number not in collected}
