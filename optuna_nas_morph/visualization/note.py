"""A trial in words: the note that optuna-dashboard shows beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from optuna_nas_morph import lineage
from optuna_nas_morph.interpret.explanation import Motif
from optuna_nas_morph.interpret.forecast import Forecast
from optuna_nas_morph.visualization.trials import last_value_of
from optuna_nas_morph.visualization.words import count_text, step_text, value_text

N_MOTIFS = 5
"""Motifs in a note, of each objective."""

_MAX_PART = 90
"""Characters of a part's description: the page does not break the lines of a table."""

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def trial_note(
    study: Study,
    trial: FrozenTrial,
    names: Sequence[str],
    forecasts: Sequence[Forecast | None] = (),
    motifs: Sequence[Sequence[Motif]] = (),
    n_trials: int = 0,
) -> str:
    """A finished trial as Markdown: where its network comes from, what was expected of it and came, what it contains.

    Args:
        study:
            The study.
        trial:
            One of its trials, with an architecture.
        names:
            Names of the objectives.
        forecasts:
            Per objective, what earlier trials predict of it, if anything.
        motifs:
            Per objective, those that its architecture contains and whose effect is clear, the largest first.
        n_trials:
            Trials that effects of motifs are learned from.
    """
    rows = [*_descent(study, trial), *_training(trial), *_size(study, trial), *_values(trial, names, forecasts)]
    rows += _limits(trial)
    lines = ["| | |", "|---|---|", *(f"| **{head}** | {text} |" for head, text in rows)]
    for name, found in zip(names, motifs, strict=False):
        if found:
            of = f" on {_plain(name)}" if len(names) > 1 else ""
            lines += ["", f"**Parts of it that matter**, with their effect{of} as {n_trials} trials tell", ""]
            lines += ["| effect | interval | part |", "|---|---|---|", *map(_motif_row, found[:N_MOTIFS])]
    return "\n".join(lines) + "\n"


def _descent(study: Study, trial: FrozenTrial) -> Iterator[tuple[str, str]]:
    attributes = trial.user_attrs
    steps = attributes.get(lineage.MORPHISMS)
    if lineage.STEPS not in attributes:
        return
    parent = _trial_of(study, attributes.get(lineage.PARENT))
    if parent is None:
        yield "parent", "none: it comes straight from the seed architecture"
    else:
        value = "" if parent.values is None else f" ({', '.join(map(value_text, parent.values))})"
        yield "parent", f"[trial {parent.number}](?numbers={parent.number}){value}"
    kind = lineage.kind_of(trial)
    if kind == lineage.Kind.CONTINUED:
        yield "purpose", "control: the same architecture trained on"
    elif kind == lineage.Kind.FRESH:
        yield "purpose", "control: trained from scratch"
    yield "morphisms", "<br>".join(_plain(step_text(step)) for step in steps) if steps else "none"


def _training(trial: FrozenTrial) -> Iterator[tuple[str, str]]:
    attributes = trial.user_attrs
    if lineage.INHERITED_EPOCHS in attributes:
        budgets, donor = lineage.budgets_of(trial), attributes.get(lineage.DONOR)
        own = "" if budgets.effective is None else f"{budgets.effective - budgets.inherited:g} epochs, "
        if donor is None:
            yield "training", f"{own}from scratch"
        else:
            yield (
                "training",
                f"{own}after {budgets.inherited:g} inherited from [trial {donor}](?numbers={donor}), which were saved",
            )
    if (drift := attributes.get(lineage.DRIFT)) is not None:
        yield "before training", f"outputs {drift:.2g} standard deviations from the donor's"
    for reason in attributes.get(lineage.FALLBACK) or ():
        yield "could not inherit", _plain(reason)
    if attributes.get(lineage.UNPUBLISHED) is not None:
        yield "weights not stored", _plain(str(attributes[lineage.UNPUBLISHED]))
    if attributes.get(lineage.OUT_OF_MEMORY) is not None:
        yield "out of memory", _plain(str(attributes[lineage.OUT_OF_MEMORY]))


def _size(study: Study, trial: FrozenTrial) -> Iterator[tuple[str, str]]:
    parameters = trial.user_attrs.get(lineage.PARAMETERS)
    if parameters is None:
        return
    parent = _trial_of(study, trial.user_attrs.get(lineage.PARENT))
    before = None if parent is None else parent.user_attrs.get(lineage.PARAMETERS)
    change = "" if not before else f" ({parameters / before - 1:+.0%} on the parent's)"
    yield "size", f"{count_text(parameters)} parameters{change}, {count_text(trial.user_attrs[lineage.FLOPS])} FLOPs"


def _values(
    trial: FrozenTrial, names: Sequence[str], forecasts: Sequence[Forecast | None]
) -> Iterator[tuple[str, str]]:
    for i, name in enumerate(names):
        head = _plain(name) if len(names) > 1 else "value"
        forecast = forecasts[i] if i < len(forecasts) else None
        if trial.state == TrialState.COMPLETE and trial.values is not None:
            text = f"{value_text(trial.values[i])}"
            if forecast is not None:
                where = "inside of" if forecast.is_covered else "outside of"
                text += (
                    f"; {forecast.n_known} trials before it predict {value_text(forecast.mean)}, and this is {where} "
                    f"the interval from {value_text(forecast.low)} to {value_text(forecast.high)}"
                )
            yield head, text
    if trial.state == TrialState.PRUNED:
        last = last_value_of(trial)
        at = "" if last is None else f" at step {trial.last_step}, with {value_text(last)}"
        yield "pruned", f"stopped{at}"
    elif trial.state == TrialState.FAIL:
        yield "failed", "no value"


def _limits(trial: FrozenTrial) -> Iterator[tuple[str, str]]:
    for name, value in trial.constraints.items():
        kept = "kept" if value <= 0 else "**violated**"
        yield f"constraint {_plain(str(name))}", f"{kept} ({value:+.4g}, at most 0)"


def _trial_of(study: Study, number: int | None) -> FrozenTrial | None:
    if number is None:
        return None
    return next((t for t in study.get_trials(deepcopy=False) if t.number == number), None)


def _motif_row(motif: Motif) -> str:
    effect = motif.effect
    sign = "▲" if effect.is_better else "▼"
    part = motif.description if len(motif.description) <= _MAX_PART else motif.description[: _MAX_PART - 1] + "…"
    return f"| {sign} {effect.mean:+.3g} | {effect.low:+.3g} to {effect.high:+.3g} | {_plain(part)} |"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, within a line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
