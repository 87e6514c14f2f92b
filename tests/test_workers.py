"""Several processes on one study: they see each other's donors and proposals, and lose nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects

from optuna_nas_morph import dashboard, load_network
from optuna_nas_morph.errors import WeightsMissingError
from tests.studies import key_of

ROOT = Path(__file__).parents[1]
WORKER = """
import os, pathlib, sys, time
import optuna
from optuna_nas_morph import LineagePruner, dashboard
from tests.studies import CNN_SPACE, make_objective, quick_sampler
from tests.test_workers import storage_of

inner = make_objective(CNN_SPACE)

def objective(trial):
    trial.set_user_attr("process", os.getpid())
    time.sleep(0.05)  # so that the two overlap
    return inner(trial)

# Both have imported before either begins, else the first may be done when the second comes.
pathlib.Path(f"ready-{os.getpid()}").touch()
while len(list(pathlib.Path().glob("ready-*"))) < 2:
    time.sleep(0.01)

study = optuna.create_study(
    storage=storage_of(sys.argv[2]), study_name="shared", load_if_exists=True,
    direction="maximize", sampler=quick_sampler(seed=0), pruner=LineagePruner(),
)
callbacks = [dashboard.attach(study)] if sys.argv[3:] else []
study.optimize(objective, n_trials=int(sys.argv[1]), callbacks=callbacks)
"""


def storage_of(name: str) -> BaseStorage:
    """A database by its URL, or a journal by its file."""
    return optuna.storages.get_storage(name) if "://" in name else JournalStorage(JournalFileBackend(name))


@pytest.mark.parametrize("n_trials", [12, pytest.param(20, marks=pytest.mark.slow)])
def test_two_processes_share_a_study(tmp_path: Path, n_trials: int) -> None:
    check(tmp_path, n_trials, str(tmp_path / "journal.log"))


@pytest.mark.slow
def test_two_processes_share_a_study_in_sqlite(tmp_path: Path) -> None:
    check(tmp_path, 12, f"sqlite:///{tmp_path}/nas.db", "dashboard")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the library that starts the server
def test_two_processes_share_a_study_in_postgresql(tmp_path: Path) -> None:
    pgserver = pytest.importorskip("pgserver")
    pytest.importorskip("psycopg2")
    folder = tempfile.mkdtemp()  # the path of its socket must be short
    server = pgserver.get_server(folder)
    try:
        check(tmp_path, 12, server.get_uri().replace("postgresql://", "postgresql+psycopg2://"), "dashboard")
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def check(tmp_path: Path, n_trials: int, name: str, *options: str) -> None:
    """Run two workers and look at what they leave."""
    storage_of(name)  # Optuna's own: tables are made by one process alone.
    command = [sys.executable, "-W", "ignore", "-c", WORKER, str(n_trials), name, *options]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=240)
        assert worker.returncode == 0, errors

    storage = storage_of(name)
    study = optuna.load_study(study_name="shared", storage=storage)
    trials = study.trials
    # Nothing is lost.
    assert [t.number for t in trials] == list(range(2 * n_trials))
    assert {t.state for t in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert Counter(Counter(t.user_attrs["process"] for t in trials).values()) == {n_trials: 2}
    assert all("nasmorph:weights" in t.user_attrs for t in trials)
    # Children descend from donors of the other process; which of the two gets them is the scheduler's affair.
    process = {t.number: t.user_attrs["process"] for t in trials}
    children = [t for t in trials if "nasmorph:donor" in t.user_attrs]
    assert any(process[t.number] != process[t.user_attrs["nasmorph:donor"]] for t in children)
    # A third process can go on from those of either.
    readable = set()
    for trial in trials:
        with suppress(WeightsMissingError):  # collected
            load_network(study, trial)
            readable.add(process[trial.number])
    assert readable == set(process.values())
    assert all("nasmorph:fallback" not in t.user_attrs for t in trials)
    # The workers have one seed, and yet nothing is proposed twice.
    assert max(Counter(map(key_of, trials)).values()) == 1
    if options:
        attributes = study._storage.get_study_system_attrs(study._study_id)
        for trial in trials:
            assert sum(key.startswith(f"dashboard:artifacts:{trial._trial_id}:") for key in attributes) == 1
            assert f"dashboard:{trial._trial_id}:note_str:0" in attributes
        # Trials as short as these leave no time for figures.
        dashboard.attach(study)
        assert "nasmorph-lineage" in get_plotly_graph_objects(study._storage.get_study_system_attrs(study._study_id))
