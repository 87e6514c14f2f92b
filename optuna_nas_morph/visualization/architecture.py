"""A picture of an architecture."""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial

from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.visualization.boxes import diagram_traces
from optuna_nas_morph.visualization.plotly_imports import go, plotly_imports
from optuna_nas_morph.visualization.subject import Source, Subject, subject_of
from optuna_nas_morph.visualization.theme import titled

_MARGIN = 24
_HEAD = 78
"""Room for title and legend, in pixels."""
_MIN_WIDTH = 560
_PADDING = 16


def plot_architecture(
    source: Source,
    *,
    trial: int | None = None,
    parent: Architecture | FrozenTrial | optuna.Trial | None = None,
) -> go.Figure:
    """Plot an architecture as boxes in layers, from the input down to the output.

    Norms and activations are folded into the layer before them, and a tall drawing is broken into columns. A bar in a
    box says how many parameters it has relative to the box with the most. Against a parent, what was added has a thick
    rim and a ``+``, and what was changed a dashed rim and a ``~`` with the old and the new size.

    Args:
        source:
            An :class:`~optuna_nas_morph.Architecture`, a :class:`~optuna_nas_morph.LabelledGraph`, a trial, or a study.
        trial:
            For a study, the number of the trial; by default the best one.
        parent:
            What to compare with. By default, for a study and for a running trial, the trial's parent; for all else
            nothing.

    Returns:
        A :class:`plotly.graph_objects.Figure` object, as large as the drawing. It is empty, after a warning, for a
        study without a completed trial that has an architecture.

    Raises:
        ImportError: If plotly is not installed.
        TypeError: If ``source`` or ``parent`` is something else.
        ValueError: If there is no such trial or it has no architecture, or the study has several objectives and
            ``trial`` is left out.
    """
    plotly_imports.check()
    subject = subject_of(source, trial, parent)
    return go.Figure(layout={"title": "Architecture"}) if subject is None else _get_architecture_plot(subject)


def _get_architecture_plot(subject: Subject) -> go.Figure:
    layout = subject.diagram.layout()
    width, height = max(_MIN_WIDTH, layout.width + 2 * _PADDING), layout.height + 2 * _PADDING
    figure = go.Figure(diagram_traces(subject.diagram, layout, ((width - layout.width) / 2, _PADDING)))
    axis = {"visible": False, "fixedrange": False}
    figure.update_layout(
        title=titled(subject.title, subject.diagram.caption),
        width=width + 2 * _MARGIN,
        height=height + _HEAD + _MARGIN,
        margin={"l": _MARGIN, "r": _MARGIN, "t": _HEAD, "b": _MARGIN},
        xaxis={**axis, "range": [0, width]},
        yaxis={**axis, "range": [height, 0]},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.0, "yanchor": "bottom"},
        hoverdistance=40,
    )
    return figure
