"""What inherited weights are worth."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import accumulate

from optuna.study import Study

from optuna_nas_morph import history, lineage
from optuna_nas_morph.visualization.plotly_imports import go, plotly_imports, subplots
from optuna_nas_morph.visualization.states import State, marker, state_of
from optuna_nas_morph.visualization.theme import BLUE, GREY, VERMILLION, faded, titled, whole_numbers
from optuna_nas_morph.visualization.trials import (
    OBJECTIVE_VALUE,
    Target,
    check_target,
    details_of,
    last_value_of,
    value_of,
)
from optuna_nas_morph.visualization.words import plotly_text

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Training:
    """The training behind one trial.

    Attributes:
        number:
            Of the trial.
        donor:
            Number of the trial whose weights it started from; :obj:`None` from scratch.
        inherited:
            Epochs behind those weights.
        effective:
            Epochs behind its own weights at the end.
        value:
            What came of it; of a pruned trial the last value that it reported.
        state:
            What became of it.
        details:
            All about it.
    """

    number: int
    donor: int | None
    inherited: float
    effective: float
    value: float | None
    state: State
    details: tuple[str, ...]

    @property
    def trained(self) -> float:
        """Epochs of its own."""
        return self.effective - self.inherited


@dataclass(frozen=True)
class _InheritanceInfo:
    """Trials whose training is known, in the order of their numbers."""

    trainings: tuple[_Training, ...]
    target_name: str

    @property
    def trained(self) -> tuple[float, ...]:
        """Epochs trained up to each trial."""
        return tuple(accumulate(t.trained for t in self.trainings))

    @property
    def from_scratch(self) -> tuple[float, ...]:
        """Epochs that it would have taken up to each trial to train every network from scratch as long."""
        return tuple(accumulate(t.effective for t in self.trainings))


def plot_inheritance(study: Study, *, target: Target | None = None, target_name: str = OBJECTIVE_VALUE) -> go.Figure:
    """Plot the epochs that inherited weights have saved, and values against the training behind them.

    The upper panel sums up, trial by trial, the epochs that were trained, and those that it would have taken to train
    every network from scratch as long as it and its ancestors were: what lies between was saved. The lower panel has
    the value of every trial over all the training behind its weights, with a line from each donor to its heirs. Trials
    that started from scratch stand out: where they reach as high with as much training, inheritance has bought time
    and not quality. Trials whose training is not known (neither reported values nor a ``budget``) are left out.

    Args:
        study:
            A :class:`~optuna.study.Study` object whose trials are plotted.
        target:
            A function to specify the value to display. If it is :obj:`None` and ``study`` is being used for
            single-objective optimization, the objective values are plotted.

            .. note::
                Specify this argument if ``study`` is being used for multi-objective optimization.
        target_name:
            Target's name to display on the axis label.

    Returns:
        A :class:`plotly.graph_objects.Figure` object.

    Raises:
        ImportError: If plotly is not installed.
        ValueError: If the study has several objectives and ``target`` is left out.
    """
    plotly_imports.check()
    return _get_inheritance_plot(_get_inheritance_info(study, target, target_name))


def _get_inheritance_info(study: Study, target: Target | None, target_name: str) -> _InheritanceInfo:
    check_target(study, target)
    trainings = []
    for trial in study.get_trials(deepcopy=False):
        epochs = history.epochs_of(trial)
        if epochs is None or lineage.INHERITED_EPOCHS not in trial.user_attrs or not trial.state.is_finished():
            continue
        value = value_of(trial, target)
        trainings.append(
            _Training(
                trial.number,
                trial.user_attrs.get(lineage.DONOR),
                lineage.budgets_of(trial).inherited,
                epochs,
                last_value_of(trial) if value is None and target is None else value,
                state_of(trial),
                tuple(details_of(trial)),
            )
        )
    if not trainings:
        _logger.warning("There are no trials whose training is known.")
    return _InheritanceInfo(tuple(trainings), target_name)


def _get_inheritance_plot(info: _InheritanceInfo) -> go.Figure:
    figure = subplots.make_subplots(rows=2, cols=1, vertical_spacing=0.14, row_heights=[0.4, 0.6])
    figure.update_layout(
        title={"text": "Inheritance"},
        height=720,
        margin={"t": 120},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )
    for row, (x, y) in enumerate((("Trial", "Epochs in total"), ("Epochs behind the weights", info.target_name)), 1):
        figure.update_xaxes(title={"text": x}, row=row, col=1)
        figure.update_yaxes(title={"text": plotly_text(y)}, row=row, col=1)
    if not info.trainings:
        return figure
    trained, from_scratch = info.trained[-1], info.from_scratch[-1]
    caption = f"{trained:g} epochs trained; {from_scratch:g} if every network had been trained as long from scratch"
    figure.update_layout(title=titled("Inheritance", caption))
    numbers = [t.number for t in info.trainings]
    figure.update_xaxes(whole_numbers(numbers[-1]), row=1, col=1)
    for name, epochs, line, fill in (
        ("trained", info.trained, {"color": BLUE, "width": 2.5}, {}),
        (
            "as long from scratch",
            info.from_scratch,
            {"color": VERMILLION, "width": 2.5, "dash": "dash"},
            {"fill": "tonexty", "fillcolor": faded(GREY, 0.18)},
        ),
    ):
        figure.add_scatter(x=numbers, y=epochs, mode="lines", name=name, line=line, row=1, col=1, **fill)

    shown = {t.number: t for t in info.trainings if t.value is not None}
    xs: list[float | None] = []
    ys: list[float | None] = []
    for t in shown.values():
        if t.donor in shown:
            xs += [shown[t.donor].effective, t.effective, None]
            ys += [shown[t.donor].value, t.value, None]
    if xs:
        line = {"color": faded(GREY, min(0.6, max(0.15, 40 / len(shown)))), "width": 1}
        figure.add_scatter(x=xs, y=ys, mode="lines", line=line, name="donor to heir", hoverinfo="skip", row=2, col=1)
    for scratch, colour in ((False, BLUE), (True, VERMILLION)):
        for state in State:
            group = [t for t in shown.values() if (t.donor is None) == scratch and t.state == state]
            if group:
                origin = "from scratch" if scratch else "inherited"
                # Hollow where nothing was inherited, also in print.
                look = marker(state, size=8) | {"color": colour}
                look |= {"symbol": f"{look['symbol']}-open", "line": {"width": 2, "color": colour}} if scratch else {}
                figure.add_scatter(
                    x=[t.effective for t in group],
                    y=[t.value for t in group],
                    mode="markers",
                    marker=look,
                    name=origin if state == State.COMPLETE else f"{origin}, {state.value}",
                    hovertext=["<br>".join(map(plotly_text, t.details)) for t in group],
                    hoverinfo="text",
                    row=2,
                    col=1,
                )
    return figure
