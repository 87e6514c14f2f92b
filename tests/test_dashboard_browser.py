"""optuna-dashboard over a real study, in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore
from optuna_dashboard import wsgi

from optuna_nas_morph import dashboard
from optuna_nas_morph.visualization.words import value_text
from tests.studies import make_objective, quick_sampler

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium or Chrome on this machine"),
    pytest.mark.filterwarnings("ignore"),  # Optuna's, of importances of conditional parameters, in the server.
]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> optuna.Study:
    folder = tmp_path_factory.mktemp("dashboard")
    study = optuna.create_study(
        direction="maximize",
        storage=f"sqlite:///{folder}/nas.db",
        sampler=quick_sampler(3),
        pruner=optuna.pruners.NopPruner(),
    )
    callback = dashboard.attach(study, artifact_store=folder / "artifacts")
    study.optimize(make_objective(publish=False), n_trials=10, callbacks=[callback])
    dashboard.attach(study, artifact_store=folder / "artifacts")
    study.set_user_attr("folder", str(folder))
    return study


@pytest.fixture(scope="module")
def address(study: optuna.Study) -> Iterator[str]:
    store = FileSystemArtifactStore(Path(study.user_attrs["folder"], "artifacts"))
    with make_server("127.0.0.1", 0, wsgi(study._storage, store), Server, Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def page(url: str, profile: Path) -> str:
    """The page as a browser has it once its scripts have run."""
    assert BROWSER is not None
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1500,4000", "--virtual-time-budget=30000"]
    command = [BROWSER, *flags, *quiet, f"--user-data-dir={profile}", "--dump-dom", url]
    return unescape(subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout)


def test_a_trial_has_its_note_and_its_drawing(study: optuna.Study, address: str, tmp_path: Path) -> None:
    best = study.best_trial
    found = page(f"{address}/dashboard/studies/{study._study_id}/trials?numbers={best.number}", tmp_path)
    assert re.search(r"<strong>morphisms</strong>", found)
    assert value_text(best.value or 0.0) in re.sub(r"<[^>]*>", "", found)
    assert f"trial-{best.number}.svg" in found
    (source,) = re.findall(rf'<img[^>]*src="(/artifacts/{study._study_id}/{best._trial_id}/[^"]*)"', found)
    assert "<svg" in page(address + source, tmp_path)


def test_a_study_has_its_figures(study: optuna.Study, address: str, tmp_path: Path) -> None:
    found = page(f"{address}/dashboard/studies/{study._study_id}", tmp_path)
    titles = re.findall(r'<text class="gtitle"[^>]*data-unformatted="([^"<]*)', found)
    assert {"Lineage", "Growth", "Surrogate", "Motifs", "Pareto Front"} <= set(titles)
