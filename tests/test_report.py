"""A report: one file with everything, that needs nothing else and that no text can break."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import optuna
import pytest

from optuna_nas_morph import report
from optuna_nas_morph.report import _script_json
from optuna_nas_morph.visualization.words import value_text
from tests.interpret.test_explain import joint, study_of
from tests.studies import make_objective, quick_sampler
from tests.visualization.studies import grown_study, trial
from tests.visualization.studies import study_of as by_hand

EXPERIMENTAL = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")  # of set_metric_names


class Page(HTMLParser):
    """Headings, words, links and scripts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.links: list[str] = []
        self.scripts: list[str] = []
        self.text: list[str] = []
        self.figures: list[str] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        self.figures += [value or "" for name, value in attrs if name == "data-figure"]

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside == "script":
            self.scripts.append(data)
        elif inside == "h2":
            self.headings.append(data)
        else:
            self.text.append(data)


def page_of(study: optuna.Study, directory: Path) -> Page:
    path = report(study, directory / "report.html")
    assert path == directory / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def figures_of(page: Page) -> dict[str, dict[str, object]]:
    (line,) = re.findall(r"const figures = (.*);\n", page.scripts[-1])
    figures: dict[str, dict[str, object]] = json.loads(line)
    return figures


def searched(n: int) -> optuna.Study:
    study = optuna.create_study(direction="maximize", sampler=quick_sampler(3), pruner=optuna.pruners.NopPruner())
    study.optimize(make_objective(), n_trials=n)
    return study


def test_everything_is_in_one_file(tmp_path: Path) -> None:
    study = searched(14)
    page = page_of(study, tmp_path)
    best = study.best_trial
    assert page.headings == [
        "Summary", "Best trials", f"Architecture of trial {best.number}", f"Why trial {best.number}", "Family tree",
        "Growth", "Inheritance", "Surrogate", "Motifs", "Pareto front", "What helps", "Events",
    ]  # fmt: skip
    assert page.links == []
    assert page.figures == ["lineage", "growth", "inheritance", "surrogate", "motifs", "pareto"]
    assert list(figures_of(page)) == page.figures
    assert all(figure["data"] for figure in figures_of(page).values())
    words = " ".join(page.text)
    assert value_text(best.value) in words and study.study_name in words and "14 complete" in words
    assert not re.search(r"(?:src|href)=[\"']?https?:|@import|url\(", "".join(page.text))
    assert (tmp_path / "report.html").stat().st_size < 10_000_000


def test_it_is_drawn_by_a_script_that_runs_alone(tmp_path: Path) -> None:
    page = page_of(searched(6), tmp_path)
    assert len(page.scripts[0]) > 1_000_000  # plotly.js itself
    assert "Plotly.newPlot" in page.scripts[-1] and "prefers-color-scheme" in page.scripts[-1]
    (templates,) = re.findall(r"const templates = (.*);\n", page.scripts[-1])
    assert set(json.loads(templates)) == {"white", "dark"}


EVIL = "</script><script>alert(1)</script><img src=x>"


@EXPERIMENTAL
def test_no_text_can_break_it(tmp_path: Path) -> None:
    study = optuna.create_study(study_name=EVIL, direction="maximize")
    study.set_metric_names([EVIL])
    for i in range(8):
        study.add_trial(trial([float(i)], **({"steps": ["widen:2 at a"]} if i % 2 else {})))
    study.add_trial(
        optuna.trial.create_trial(
            value=9.0,
            params={EVIL: EVIL},
            distributions={EVIL: optuna.distributions.CategoricalDistribution([EVIL, "b"])},
            user_attrs={**study.trials[0].user_attrs, "nasmorph:fallback": [EVIL], "nasmorph:morphisms": [EVIL]},
        )
    )
    page = page_of(study, tmp_path)
    assert page.links == []
    assert len(page.scripts) == 2
    assert EVIL in page.text
    assert any(text == "could not inherit: " + EVIL for text in page.text)


def test_json_cannot_end_its_script() -> None:
    text = _script_json({"a": [EVIL, "\u2028"]})
    assert "<" not in text and "\u2028" not in text
    assert json.loads(text) == {"a": [EVIL, "\u2028"]}


@pytest.mark.parametrize("n_trials", [0, 1, 5, 50])
@pytest.mark.parametrize(
    "directions", [["maximize"], ["minimize"], ["maximize", "minimize"], ["minimize"] * 3], ids=str
)
def test_every_study_has_a_report(n_trials: int, directions: list[str], tmp_path: Path) -> None:
    study = grown_study(n_trials, directions=directions)
    page = page_of(study, tmp_path)
    assert page.headings[:2] == ["Summary", "Best trials"] and page.headings[-1] == "Events"
    assert f"{n_trials}" in " ".join(page.text)
    # The space of such a study is not stored.
    assert not [key for key in page.figures if key.startswith(("surrogate", "motifs"))]
    if n_trials == 50:
        kinds = {key.split("-")[0] for key in page.figures}
        assert kinds == {"lineage", "growth", "inheritance"} | ({"pareto"} if len(directions) < 3 else set())
        assert "failed" in page.text
    if n_trials == 0:
        assert "No trial has a value yet." in page.text and page.figures == []


@EXPERIMENTAL
def test_each_objective_has_its_own_pictures(tmp_path: Path) -> None:
    def two(trial: optuna.Trial) -> tuple[float, float]:
        value = joint(trial)
        return value, -value

    study = study_of(two, n=12, directions=("maximize", "minimize"))
    study.set_metric_names(["accuracy", "seconds"])
    page = page_of(study, tmp_path)
    assert "Surrogate: accuracy" in page.headings and "Surrogate: seconds" in page.headings
    assert "What helps: accuracy" in page.headings and "What helps: seconds" in page.headings
    assert {"surrogate-0", "surrogate-1", "motifs-0", "motifs-1"} <= set(page.figures)


def test_a_file_that_is_there_is_replaced_and_a_directory_is_not(tmp_path: Path) -> None:
    study = by_hand([trial([0.5])])
    path = tmp_path / "report.html"
    path.write_text("old")
    assert "old" not in report(study, str(path)).read_text(encoding="utf-8")[:100]
    with pytest.raises(OSError, match="report"):
        report(study, tmp_path / "missing" / "report.html")


def test_without_plotly() -> None:
    code = (
        "import sys; sys.modules['plotly'] = None\n"
        "import optuna\n"
        "from optuna_nas_morph import report\n"
        "try:\n    report(optuna.create_study(), 'x.html')\n"
        "except ImportError as e:\n    print('plotly' in str(e))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "True"
