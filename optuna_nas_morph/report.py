"""A study as one file, for sending to a colleague."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from itertools import compress
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from optuna_nas_morph import encoding, lineage
from optuna_nas_morph.interpret import explain
from optuna_nas_morph.spaces import MorphSpace

if TYPE_CHECKING:
    from optuna_nas_morph.visualization.gallery import Panel

N_BEST = 10
"""Trials in the table of the best."""


def report(study: Study, path: str | Path) -> Path:
    """Write everything about a study into one HTML file: the best trials and architectures, what helped, every picture.

    The file needs no network and no other file. It follows the reader's choice of light or dark, and prints on white.
    Parts that do not apply to the study say why.

    Args:
        study:
            The study.
        path:
            Where to write; a file that is there is replaced.

    Returns:
        The path.

    Raises:
        ImportError: If plotly is not installed.
        OSError: If the file cannot be written.
    """
    from optuna_nas_morph.visualization.plotly_imports import plotly_imports

    plotly_imports.check()
    from plotly.offline import get_plotlyjs

    from optuna_nas_morph.visualization.gallery import explanations, gallery, objective_names

    explained = explanations(study)
    panels = list(gallery(study, explained))
    names = objective_names(study)
    sections = [
        _section("Summary", _summary(study, names)),
        _section("Best trials", _best_trials(study, names)),
        *(_section(title, html) for title, html in _architectures(study)),
        *(_section(panel.title, _picture(panel), panel.words) for panel in panels),
    ]
    for name, explanation in zip(names, explained, strict=False):
        sections.append(_section(f"What helps: {name}" if len(names) > 1 else "What helps", explanation._repr_html_()))
    sections.append(_section("Events", _events(study)))
    figures = {panel.key: json.loads(panel.figure.to_json()) for panel in panels if panel.figure is not None}
    page = Template((Path(__file__).parent / "report.html").read_text(encoding="utf-8")).substitute(
        title=escape(study.study_name),
        sections="\n".join(sections),
        plotly=get_plotlyjs(),
        figures=_script_json(figures),
        templates=_script_json(_templates()),
    )
    path = Path(path)
    path.write_text(page, encoding="utf-8")
    return path


def _script_json(value: Any) -> str:
    """JSON that no text in it can end the script of."""
    return json.dumps(value).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _templates() -> dict[str, Any]:
    """How figures look on light and dark pages."""
    from plotly import io

    return {name: io.templates[f"plotly_{name}"].to_plotly_json() for name in ("white", "dark")}


def _section(title: str, html: str, words: str = "") -> str:
    intro = f"<p>{escape(words)}</p>" if words else ""
    return f"<section><h2>{escape(title)}</h2>{intro}{html}</section>"


def _picture(panel: Panel) -> str:
    return f'<div class="figure" data-figure="{panel.key}"></div>' if panel.figure is not None else ""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _summary(study: Study, names: Sequence[str]) -> str:
    trials = study.get_trials(deepcopy=False)
    counts = Counter(t.state.name.lower() for t in trials)
    rows = [("study", study.study_name)]
    rows += [(name, f"{direction.name.lower()}d") for name, direction in zip(names, study.directions, strict=True)]
    states = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
    rows.append(("trials", f"{len(trials)}" + (f" ({states})" if trials else "")))
    starts = [t.datetime_start for t in trials if t.datetime_start is not None]
    ends = [t.datetime_complete for t in trials if t.datetime_complete is not None]
    if starts and ends:
        rows.append(("time", f"{min(starts):%Y-%m-%d %H:%M} to {max(ends):%Y-%m-%d %H:%M}"))
    space = lineage.space_of(study)
    if isinstance(space, MorphSpace):
        rows.append(("seed architecture", f"{space.seed.n_parameters:,} parameters, {space.seed.flops:,} FLOPs"))
        rows.append(("morphisms", ", ".join(map(str, space.morphisms))))
        limits = f"{space.max_morphisms} morphisms, {space.max_parameters:,} parameters, {space.max_flops:,} FLOPs"
        rows.append(("limits", limits))
    return _table(("", ""), rows)


def _ranked(study: Study) -> list[FrozenTrial]:
    """Complete, feasible trials, the best first; of several objectives those on the front."""
    if len(study.directions) > 1:
        return list(study.best_trials)
    from optuna_nas_morph.visualization.trials import is_feasible, minimises, value_of

    sign = 1.0 if minimises(study) else -1.0
    found = [t for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if is_feasible(t)]
    valued = [(sign * value, t.number, t) for t in found if (value := value_of(t)) is not None]
    return [t for *_, t in sorted(valued, key=lambda item: item[:2])]


def _best_trials(study: Study, names: Sequence[str]) -> str:
    from optuna_nas_morph.visualization.words import count_text, morphisms_text, value_text

    best = _ranked(study)[:N_BEST]
    if not best:
        return "<p>No trial has a value yet.</p>"
    parameters = sorted({name for t in best for name in t.params if not name.startswith(encoding.PREFIX)})
    rows = []
    for t in best:
        attributes = t.user_attrs
        parent, epochs = attributes.get(lineage.PARENT), attributes.get(lineage.EFFECTIVE_EPOCHS)
        size = attributes.get(lineage.PARAMETERS)
        rows.append(
            [
                str(t.number),
                *map(value_text, t.values),
                "" if size is None else count_text(size),
                "" if epochs is None else f"{epochs:g}",
                "" if parent is None else str(parent),
                morphisms_text(attributes.get(lineage.MORPHISMS, [])) if lineage.STEPS in attributes else "",
                *(_short(t.params.get(name)) for name in parameters),
            ]
        )
    header = ("trial", *names, "parameters", "epochs behind it", "parent", "morphisms since", *parameters)
    used = [any(row[i] for row in rows) for i in range(len(header))]
    return _table(tuple(compress(header, used)), [tuple(compress(row, used)) for row in rows])


def _short(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) and math.isfinite(value) else str(value)


def _architectures(study: Study) -> Iterator[tuple[str, str]]:
    """The best architecture, drawn for light and dark pages, and why it is predicted so."""
    from optuna_nas_morph.visualization import DARK, LIGHT, Theme, architecture_to_svg
    from optuna_nas_morph.visualization.gallery import unexplained

    drawn = [t for t in _ranked(study) if lineage.FINGERPRINT in t.user_attrs]
    if not drawn:
        return
    number = drawn[0].number
    drawings = [
        f'<div class="{name} drawing">'
        f"{architecture_to_svg(study, trial=number, theme=Theme('none', theme.text, theme.muted))}</div>"
        for name, theme in (("light", LIGHT), ("dark", DARK))
    ]
    yield f"Architecture of trial {number}", "".join(drawings)
    if len(study.directions) == 1 and unexplained(study) is None:
        yield f"Why trial {number}", explain(study, drawn[0])._repr_html_()


def _events(study: Study) -> str:
    """What went wrong, and was dealt with."""
    rows = []
    for t in study.get_trials(deepcopy=False):
        attributes = t.user_attrs
        found = [f"could not inherit: {reason}" for reason in attributes.get(lineage.FALLBACK, [])]
        if lineage.OUT_OF_MEMORY in attributes:
            found.append("ran out of memory")
        if lineage.UNPUBLISHED in attributes:
            found.append(f"weights were not stored: {attributes[lineage.UNPUBLISHED]}")
        if t.state == TrialState.FAIL:
            found.append("failed")
        rows += [(str(t.number), text) for text in found]
    return _table(("trial", "event"), rows) if rows else "<p>Nothing went wrong.</p>"
