"""What optuna-dashboard is given, read back by optuna-dashboard's own functions."""

from __future__ import annotations

import io
import json
import logging
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna_dashboard import get_note, save_note
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects
from optuna_dashboard.artifact._backend import list_trial_artifacts

from optuna_nas_morph import (
    LineagePruner,
    StoreError,
    WeightStore,
    dashboard,
    lineage,
    publish_weights,
    suggest_architecture,
    suggest_network,
)
from optuna_nas_morph.visualization import architecture_to_svg
from optuna_nas_morph.visualization.words import step_text, value_text
from tests.spaces.test_cell import SPACE as CELLS
from tests.studies import SPACE, make_objective, quick_sampler, score

SVG = "{http://www.w3.org/2000/svg}svg"


@pytest.fixture(params=["memory", "sqlite", "journal"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BaseStorage]:
    if request.param == "sqlite":
        found = RDBStorage(f"sqlite:///{tmp_path}/nas.db")
        yield found
        found.engine.dispose()
    elif request.param == "journal":
        yield JournalStorage(JournalFileBackend(str(tmp_path / "journal")))
    else:
        yield optuna.storages.InMemoryStorage()


def searched(n: int, storage: BaseStorage | None = None, **arguments: Any) -> optuna.Study:
    pruner = optuna.pruners.NopPruner()
    study = optuna.create_study(direction="maximize", storage=storage, sampler=quick_sampler(3), pruner=pruner)
    study.optimize(make_objective(publish=False), n_trials=n, **arguments)
    return study


def attributes(study: optuna.Study) -> dict[str, Any]:
    return study._storage.get_study_system_attrs(study._study_id)


def note_of(study: optuna.Study, number: int) -> str:
    storage, trial = study._storage, study.trials[number]
    return get_note(SimpleNamespace(storage=storage, study=study, _trial_id=trial._trial_id))  # type: ignore[arg-type]


def figures_of(study: optuna.Study) -> dict[str, dict[str, Any]]:
    return {name: json.loads(text) for name, text in get_plotly_graph_objects(attributes(study)).items()}


def drawings_of(study: optuna.Study, number: int, folder: Path) -> list[str]:
    trial = study.trials[number]
    system_attrs = study._storage.get_trial_system_attrs(trial._trial_id)
    store = FileSystemArtifactStore(folder)
    found = []
    for artifact in list_trial_artifacts(attributes(study), system_attrs, trial):
        assert (artifact["filename"], artifact["mimetype"]) == (f"trial-{number}.svg", "image/svg+xml")
        with store.open_reader(artifact["artifact_id"]) as reader:
            found.append(reader.read().decode())
    return found


def test_a_study_is_shown(storage: BaseStorage, tmp_path: Path) -> None:
    study = searched(10, storage)
    dashboard.attach(study, artifact_store=tmp_path / "weights")
    for trial in study.trials:
        (drawing,) = drawings_of(study, trial.number, tmp_path / "weights")
        assert drawing == architecture_to_svg(study, trial=trial.number)
        assert ET.fromstring(drawing).tag == SVG
        note = note_of(study, trial.number)
        assert value_text(trial.value or 0.0) in note
        for step in trial.user_attrs[lineage.MORPHISMS]:
            assert step_text(step) in note.replace("\\", "")
        parent = trial.user_attrs.get(lineage.PARENT)
        assert ("straight from the seed" in note) == (parent is None)
        assert parent is None or f"[trial {parent}](?numbers={parent})" in note
    figures = figures_of(study)
    expected = {"lineage", "growth", "surrogate", "motifs", "pareto"}
    assert set(figures) == {f"nasmorph-{name}" for name in expected}
    assert all(figure["data"] for figure in figures.values())
    assert all("height" not in figure["layout"] for figure in figures.values())  # As high as the place for them.


def test_a_trial_is_shown_when_it_ends_and_predicted_by_those_before_it(tmp_path: Path) -> None:
    study = searched(6)
    callback = dashboard.attach(study, artifact_store=tmp_path, share=1e-9)
    study.optimize(make_objective(publish=False), n_trials=3, callbacks=[callback])
    for number in range(6, 9):
        assert len(drawings_of(study, number, tmp_path)) == 1
        note = note_of(study, number)
        assert "6 trials before it predict" in note
        assert "as 6 trials tell" in note or "matter" not in note
    for number in range(6):
        (n,) = re.findall(r"(\d+) trials before it predict", note_of(study, number)) or ["0"]
        assert int(n) <= number


def test_a_renewed_surrogate_never_knows_what_it_predicts(tmp_path: Path) -> None:
    study = searched(6)
    callback = dashboard.attach(study, artifact_store=tmp_path, share=1.0)
    callback._due = 0.0
    study.optimize(make_objective(publish=False), n_trials=2, callbacks=[callback])
    assert "6 trials before it predict" in note_of(study, 6)
    callback._due = 0.0
    study.optimize(make_objective(publish=False), n_trials=1, callbacks=[callback])
    (n,) = re.findall(r"(\d+) trials before it predict", note_of(study, 8))
    assert int(n) in (7, 8)


def test_a_surrogate_that_knows_a_trial_already_predicts_nothing(tmp_path: Path) -> None:
    study = searched(6)
    callback = dashboard.attach(study, artifact_store=tmp_path)
    study.optimize(make_objective(publish=False), n_trials=1)
    callback._renew(study, None)  # As a callback in another thread would.
    callback(study, study.trials[6])
    assert "**value**" in note_of(study, 6)
    assert "predict" not in note_of(study, 6)


def test_what_is_shown_is_not_shown_again(tmp_path: Path) -> None:
    study = searched(5)
    callback = dashboard.attach(study, artifact_store=tmp_path)
    study.optimize(make_objective(publish=False), n_trials=1, callbacks=[callback])
    notes = [note_of(study, i) for i in range(6)]
    files = sorted(tmp_path.iterdir())
    dashboard.attach(study, artifact_store=tmp_path)
    assert [note_of(study, i) for i in range(6)] == notes
    assert sorted(tmp_path.iterdir()) == files
    assert all(len(drawings_of(study, i, tmp_path)) == 1 for i in range(6))


def test_what_a_person_wrote_stays(tmp_path: Path) -> None:
    study = optuna.create_study(sampler=quick_sampler())
    words = "Remember *this*. " * 200  # In pieces.

    def objective(trial: optuna.Trial) -> float:
        save_note(trial, words)
        return -score(suggest_network(trial, SPACE), 0.01)

    save_note(study, "Of the study.")
    study.optimize(objective, n_trials=2, callbacks=[dashboard.attach(study, artifact_store=tmp_path)])
    for i in range(2):
        note = note_of(study, i)
        assert note.startswith(words)
        assert "**morphisms**" in note.removeprefix(words)
    assert get_note(study) == "Of the study."


def test_every_way_to_end_is_told(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize", sampler=quick_sampler())

    def objective(trial: optuna.Trial) -> float:
        network = suggest_network(trial, SPACE)
        if trial.number == 1:
            trial.report(0.25, 3)
            raise optuna.TrialPruned
        if trial.number == 2:
            raise ZeroDivisionError
        trial.set_constraint("size|of it", 3.5 if trial.number == 3 else -1.0)
        return score(network, 0.01)

    callback = dashboard.attach(study, artifact_store=tmp_path)
    study.optimize(objective, n_trials=4, callbacks=[callback], catch=ZeroDivisionError)
    suggest_network(study.ask(), SPACE)
    dashboard.attach(study, artifact_store=tmp_path)
    assert "stopped at step 3, with 0.25" in note_of(study, 1)
    assert "| **failed** | no value |" in note_of(study, 2)
    assert r"constraint size\|of it** | kept (-1, at most 0)" in note_of(study, 0)
    assert "**violated** (+3.5, at most 0)" in note_of(study, 3)
    assert note_of(study, 4) == ""  # It still runs.


def test_inherited_training_is_told(tmp_path: Path) -> None:
    pruner = LineagePruner(store=WeightStore(tmp_path))
    study = optuna.create_study(direction="maximize", sampler=quick_sampler(2, control_share=0.0), pruner=pruner)

    def objective(trial: optuna.Trial) -> float:
        network = suggest_network(trial, SPACE)
        publish_weights(trial, network, epochs=3)
        return score(network, 0.01)

    study.optimize(objective, n_trials=8, callbacks=[dashboard.attach(study)])
    dashboard.attach(study)
    heirs = [t for t in study.trials if t.user_attrs.get(lineage.DONOR) is not None]
    assert heirs
    for trial in heirs:
        donor, inherited = trial.user_attrs[lineage.DONOR], trial.user_attrs[lineage.INHERITED_EPOCHS]
        told = f"3 epochs, after {inherited:g} inherited from [trial {donor}](?numbers={donor}), which were saved"
        assert told in note_of(study, trial.number)
    assert "nasmorph-inheritance" in figures_of(study)


def test_closed_spaces_and_several_objectives(tmp_path: Path) -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=quick_sampler(4))

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        choices = suggest_architecture(trial, CELLS)
        n = sum(len(str(choice)) for choice in choices.values())
        return float(n), float(n % 3)

    study.optimize(objective, n_trials=7)
    callback = dashboard.attach(study, artifact_store=tmp_path)
    study.optimize(objective, n_trials=1, callbacks=[callback])
    assert set(figures_of(study)) == {"nasmorph-surrogate-0", "nasmorph-surrogate-1"}
    for trial in study.trials:
        note = note_of(study, trial.number)
        assert "**Objective 0**" in note
        assert "**Objective 1**" in note
        assert "parent" not in note
        assert len(drawings_of(study, trial.number, tmp_path)) == 1


def test_trials_without_an_architecture_are_left_alone(tmp_path: Path) -> None:
    study = optuna.create_study(sampler=quick_sampler())
    callback = dashboard.attach(study, artifact_store=tmp_path)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2, callbacks=[callback])
    assert note_of(study, 0) == ""
    assert figures_of(study) == {}


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    monotonic = time


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        (0.0, [1002.0, 1024.0, 1046.0, 1068.0]),  # 2 seconds after 20 of training
        (0.25, [1002.0, 1046.0]),  # notes take half of the share
    ],
)
def test_renewing_takes_no_more_than_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, note: float, expected: list[float]
) -> None:
    clock, renewed = Clock(), []
    explanations, trial_note = dashboard.explanations, dashboard.trial_note

    def slow_note(*args: Any) -> str:
        clock.now += note
        return trial_note(*args)

    def slow(study: optuna.Study) -> Any:
        clock.now += 2.0
        renewed.append(clock.now)
        return explanations(study)

    monkeypatch.setattr(dashboard, "time", clock)
    monkeypatch.setattr(dashboard, "explanations", slow)
    study = searched(3)
    callback = dashboard.attach(study, artifact_store=tmp_path, share=0.1)
    monkeypatch.setattr(dashboard, "trial_note", slow_note)
    began = clock.now
    for _ in range(12):
        clock.now += 5.0
        study.optimize(make_objective(publish=False), n_trials=1, callbacks=[callback])
    assert renewed == pytest.approx(expected)
    assert 2.0 * (len(renewed) - 1) + 12 * note <= 0.1 * (clock.now - began)


def test_of_two_workers_one_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = searched(6)
    first = dashboard.attach(study, artifact_store=tmp_path)
    second = dashboard.attach(study, artifact_store=tmp_path)
    drawn: list[dashboard.Dashboard] = []

    def save(study: optuna.Study, figure: Any, *, graph_object_id: str) -> None:
        drawn.append(current[0])
        if graph_object_id == "nasmorph-growth" and current == [first]:
            current[0] = second
            second._draw(study, [])
            current[0] = first

    monkeypatch.setattr(dashboard, "save_plotly_graph_object", save)
    current = [first]
    first._draw(study, [])
    assert drawn.count(first) == 2  # Lineage and growth; then it sees that another one has begun.
    assert drawn[-1] is second
    last = lineage.last_refresh(attributes(study))
    assert last is not None
    assert last.worker == second._worker
    # What has been drawn of late is not drawn again by another worker.
    drawn.clear()
    lineage.record_refresh(study, lineage.Refresh(second._worker, last.at, 1e6))
    first._renew(study, lineage.last_refresh(attributes(study)))
    assert drawn == []


class FullDisk(FileSystemArtifactStore):
    def write(self, artifact_id: str, content_body: BinaryIO | io.BytesIO) -> None:
        if artifact_id.count("-") == 4:  # Not the store's token.
            raise OSError("No space left on device")
        super().write(artifact_id, content_body)


def test_a_full_disk_is_warned_of_once_and_does_not_end_the_study(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = optuna.create_study(sampler=quick_sampler())
    callback = dashboard.attach(study, artifact_store=FullDisk(tmp_path))
    with caplog.at_level(logging.WARNING, logger="optuna_nas_morph"):
        study.optimize(make_objective(publish=False, sign=-1.0), n_trials=3, callbacks=[callback])
    assert len(study.trials) == 3
    (warning,) = [r.message for r in caplog.records if "optuna-dashboard lacks" in r.message]
    assert "trial 0, the study goes on: StoreError" in warning
    assert "No space left" in warning
    with pytest.raises(StoreError, match="No space left"):
        dashboard.attach(study, artifact_store=FullDisk(tmp_path))
    dashboard.attach(study, artifact_store=tmp_path)  # There is room again.
    assert all(len(drawings_of(study, i, tmp_path)) == 1 for i in range(3))


@pytest.mark.parametrize("share", [0, -0.1, 1.5, float("nan")])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(ValueError, match=r"share must be above 0 and at most 1 but got"):
        dashboard.attach(optuna.create_study(), share=share)


def test_without_optuna_dashboard_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = type(dashboard.dashboard_imports)()
    with missing:
        raise ImportError("No module named 'optuna_dashboard'")
    monkeypatch.setattr(dashboard, "dashboard_imports", missing)
    with pytest.raises(ImportError, match="optuna_dashboard"):
        dashboard.attach(optuna.create_study())
