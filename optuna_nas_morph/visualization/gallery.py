"""Every picture of a study that applies to it, for reports and dashboards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from optuna.study import Study
from optuna.trial import FrozenTrial

from optuna_nas_morph import lineage
from optuna_nas_morph.interpret import Explanation, explain
from optuna_nas_morph.interpret.forecast import FIRST
from optuna_nas_morph.visualization.growth import plot_growth
from optuna_nas_morph.visualization.inheritance import plot_inheritance
from optuna_nas_morph.visualization.lineage import plot_lineage
from optuna_nas_morph.visualization.motifs import plot_motifs
from optuna_nas_morph.visualization.pareto import plot_pareto
from optuna_nas_morph.visualization.surrogate import plot_surrogate
from optuna_nas_morph.visualization.trials import trials_with_architecture

if TYPE_CHECKING:
    from optuna_nas_morph.visualization.plotly_imports import go

_TREE = 2
"""Trials of which at least one can have a parent."""


@dataclass(frozen=True)
class Panel:
    """A picture of a study.

    Attributes:
        key:
            What it is, as one word.
        title:
            What stands above it.
        words:
            What it shows, or why there is nothing to show.
        figure:
            The picture, if there is one.
    """

    key: str
    title: str
    words: str
    figure: go.Figure | None


_Plot = Callable[[], "go.Figure"]
_WORDS = {
    "lineage": "Every mark is a trial; lines lead from parents to children. What is brighter is better.",
    "growth": "The line leads from each best trial to the next: where sizes rise with it, growing has paid.",
    "inheritance": "Epochs that inherited weights have saved, and values against all the training behind them.",
    "pareto": "Trials that no other one beats in both respects are on the front.",
    "surrogate": "What the surrogate predicts of each trial from the trials before it, against what came.",
    "motifs": "Parts of architectures that help or harm, and by how much; averages, not causes.",
}


def objective_names(study: Study) -> list[str]:
    """Names of the objectives: those of the study, else numbers."""
    if study.metric_names is not None:
        return list(study.metric_names)
    n = len(study.directions)
    return ["Objective Value"] if n == 1 else [f"Objective {i}" for i in range(n)]


def explanations(study: Study) -> list[Explanation]:
    """What has helped, per objective; nothing where that cannot be said, see `unexplained`."""
    if unexplained(study) is not None:
        return []
    return [explain(study, objective=i) for i in range(len(study.directions))]


def unexplained(study: Study) -> str | None:
    """Why a study cannot be explained; :obj:`None` if it can."""
    trials = trials_with_architecture(study)
    if len({t.user_attrs[lineage.FINGERPRINT] for t in trials if t.values is not None}) < 2:
        return "There are no two architectures with values yet."
    if lineage.space_of(study) is None:
        return "The space of the study holds a Python function that this process does not know."
    return None


def gallery(study: Study, explained: list[Explanation]) -> Iterator[Panel]:
    """The pictures of a study, each made when it is asked for.

    With several objectives there is one of each kind per objective.

    Args:
        study:
            The study.
        explained:
            Its `explanations`.
    """
    trials = trials_with_architecture(study)
    n_values = sum(t.values is not None for t in trials)
    names = objective_names(study)
    for i, name in enumerate(names):
        suffix = "" if len(names) == 1 else f": {name}"
        key = "" if len(names) == 1 else f"-{i}"
        target = None if len(names) == 1 else partial(_value, i)
        plots: dict[str, tuple[str, str | None, _Plot]] = {
            "lineage": (
                "Family tree",
                None if sum(lineage.STEPS in t.user_attrs for t in trials) >= _TREE else "No trial has a parent yet.",
                partial(plot_lineage, study, target=target, target_name=name),
            ),
            "growth": (
                "Growth",
                None if any(lineage.PARAMETERS in t.user_attrs for t in trials) else "Sizes are not known.",
                partial(plot_growth, study, target=target, target_name=name),
            ),
            "inheritance": (
                "Inheritance",
                None if any(lineage.DONOR in t.user_attrs for t in trials) else "No trial has inherited weights.",
                partial(plot_inheritance, study, target=target, target_name=name),
            ),
            "surrogate": (
                "Surrogate",
                unexplained(study) if n_values > FIRST else "There are too few values to predict any.",
                partial(plot_surrogate, study, objective=i, target_name=name),
            ),
            "motifs": (
                "Motifs",
                unexplained(study),
                partial(plot_motifs, explained[i]) if explained else partial(plot_motifs, study),
            ),
        }
        for kind, (title, reason, plot) in plots.items():
            yield _panel(kind + key, title + suffix, kind, reason, plot)
    if len(names) <= 2:
        has_values = any(t.values is not None and lineage.PARAMETERS in t.user_attrs for t in trials)
        reason = None if has_values else "There are no values with known sizes."
        yield _panel("pareto", "Pareto front", "pareto", reason, partial(plot_pareto, study))


def _panel(key: str, title: str, kind: str, reason: str | None, plot: _Plot) -> Panel:
    figure = plot() if reason is None else None
    if figure is not None and not figure.data:
        figure, reason = None, "There is too little to show yet."
    return Panel(key, title, _WORDS[kind] if reason is None else reason, figure)


def _value(i: int, trial: FrozenTrial) -> float:
    return float(trial.values[i])
