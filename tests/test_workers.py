"""Several processes on one study: they see each other's donors and proposals, and lose nothing."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from tests.studies import key_of

ROOT = Path(__file__).parents[1]
WORKER = """
import os, pathlib, sys, time
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna_nas_morph import LineagePruner
from tests.studies import CNN_SPACE, make_objective, quick_sampler

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
    storage=JournalStorage(JournalFileBackend("journal.log")), study_name="shared", load_if_exists=True,
    direction="maximize", sampler=quick_sampler(seed=0), pruner=LineagePruner(),
)
study.optimize(objective, n_trials=int(sys.argv[1]))
"""


@pytest.mark.parametrize("n_trials", [12, pytest.param(20, marks=pytest.mark.slow)])
def test_two_processes_share_a_study(tmp_path: Path, n_trials: int) -> None:
    command = [sys.executable, "-W", "ignore", "-c", WORKER, str(n_trials)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=240)
        assert worker.returncode == 0, errors

    storage = JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))
    study = optuna.load_study(study_name="shared", storage=storage)
    trials = study.trials
    # Nothing is lost.
    assert [t.number for t in trials] == list(range(2 * n_trials))
    assert {t.state for t in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert Counter(Counter(t.user_attrs["process"] for t in trials).values()) == {n_trials: 2}
    assert all("nasmorph:weights" in t.user_attrs for t in trials)
    # Children in either process descend from donors of the other.
    process = {t.number: t.user_attrs["process"] for t in trials}
    foreign = {
        t.user_attrs["process"]
        for t in trials
        if "nasmorph:donor" in t.user_attrs and process[t.user_attrs["nasmorph:donor"]] != t.user_attrs["process"]
    }
    assert len(foreign) == 2
    assert all("nasmorph:fallback" not in t.user_attrs for t in trials)
    # The workers have one seed, and yet nothing is proposed twice.
    assert max(Counter(map(key_of, trials)).values()) == 1
