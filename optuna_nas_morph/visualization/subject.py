"""What a picture is of: an architecture, or the trial of a study that has one."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial

from optuna_nas_morph import encoding, lineage
from optuna_nas_morph.ir import Architecture, LabelledGraph
from optuna_nas_morph.spaces import Cell
from optuna_nas_morph.visualization.diagram import Diagram, diagram_of_architecture, diagram_of_graph
from optuna_nas_morph.visualization.trials import best_of, trials_with_architecture

_logger = logging.getLogger(__name__)

Source = Architecture | LabelledGraph | FrozenTrial | optuna.Trial | Study
"""What has an architecture to draw."""


@dataclass(frozen=True)
class Subject:
    """What a picture is of.

    Attributes:
        title:
            What it is called.
        diagram:
            What it shows.
    """

    title: str
    diagram: Diagram


def subject_of(
    source: Source, trial: int | None = None, parent: Architecture | FrozenTrial | optuna.Trial | None = None
) -> Subject | None:
    """Find the architecture, and what to compare it with.

    Args:
        source:
            An architecture, a graph, a trial or a study.
        trial:
            Number of the trial of a study; by default its best trial with an architecture.
        parent:
            What to compare with; by default, where the study is known, the trial's parent.

    Returns:
        The subject; :obj:`None` for a study without a completed trial that has an architecture, which is warned of.

    Raises:
        TypeError: If an argument is none of these.
        ValueError: If a trial has no architecture, the study has no such trial, or it has several objectives and no
            trial is named.
    """
    if trial is not None and not isinstance(source, Study):
        raise ValueError(f"trial must be left out where source is no study but got {trial!r}.")
    if isinstance(source, LabelledGraph):
        if parent is not None:
            raise ValueError("parent must be left out for a LabelledGraph: its nodes have no names to compare by.")
        return Subject("Graph", diagram_of_graph(source))
    if isinstance(source, Architecture):
        return Subject("Architecture", diagram_of_architecture(source, _parent(parent)))
    if isinstance(source, FrozenTrial):
        return _of_trial(None, source, parent)
    if isinstance(source, optuna.Trial):
        return _of_trial(source.study, source.storage.get_trial(source._trial_id), parent)
    if not isinstance(source, Study):
        raise TypeError(
            f"source must be an Architecture, a LabelledGraph, a trial or a study but got a {type(source).__name__}."
        )
    frozen = _trial_of(source, trial)
    return None if frozen is None else _of_trial(source, frozen, parent)


def required_subject_of(
    source: Source, trial: int | None = None, parent: Architecture | FrozenTrial | optuna.Trial | None = None
) -> Subject:
    """`subject_of` where there is nothing to show without one.

    Raises:
        ValueError: Also if a study has no completed trial with an architecture.
    """
    subject = subject_of(source, trial, parent)
    if subject is None:
        raise ValueError("source must have a completed trial with an architecture but the study has none.")
    return subject


def _trial_of(study: Study, number: int | None) -> FrozenTrial | None:
    """The trial of a number, or the best."""
    if number is not None:
        trials = study.get_trials(deepcopy=False)
        if type(number) is not int or not 0 <= number < len(trials):
            raise ValueError(f"trial must be the number of a trial, below {len(trials)}, but got {number!r}.")
        return trials[number]
    if len(study.directions) > 1:
        raise ValueError(
            "If the `study` is being used for multi-objective optimization, please specify the `trial` by its number."
        )
    best = best_of(study, trials_with_architecture(study))
    if best is None:
        _logger.warning("There are no complete trials with an architecture.")
    return best


def _of_trial(
    study: Study | None, trial: FrozenTrial, parent: Architecture | FrozenTrial | optuna.Trial | None
) -> Subject:
    architecture = lineage.architecture_of(trial)
    if architecture is None:
        graph = None if study is None else _cell_of(study, trial)
        if graph is None:
            raise ValueError(
                f"trial {trial.number} has no architecture: its objective did not call suggest_architecture"
                " or suggest_network, or it is a cell, for which the study is needed and the space in this process."
            )
        return Subject(f"Cell of trial {trial.number}", diagram_of_graph(graph))
    title = f"Architecture of trial {trial.number}"
    number = trial.user_attrs.get(lineage.PARENT)
    if parent is None and study is not None and number is not None:
        parent = study.get_trials(deepcopy=False)[number]
    other = _parent(parent)
    if isinstance(parent, FrozenTrial | optuna.Trial):
        title += f" against trial {parent.number}"
    return Subject(title, diagram_of_architecture(architecture, other))


def _parent(parent: Architecture | FrozenTrial | optuna.Trial | None) -> Architecture | None:
    """What to compare with, as an architecture."""
    if parent is None or isinstance(parent, Architecture):
        return parent
    if not isinstance(parent, FrozenTrial | optuna.Trial):
        raise TypeError(f"parent must be an Architecture or a trial but got a {type(parent).__name__}.")
    architecture = lineage.architecture_of(parent)
    if architecture is None:
        raise ValueError(f"parent must have an architecture but trial {parent.number} has none.")
    return architecture


def _cell_of(study: Study, trial: FrozenTrial) -> LabelledGraph | None:
    """The graph of a trial in a closed space that this process knows."""
    space = lineage.space_of(study)
    if space is None or lineage.FINGERPRINT not in trial.user_attrs:
        return None
    member = encoding.decode(space, trial.params)
    return member.graph if isinstance(member, Cell) else None
