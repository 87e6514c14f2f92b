"""What optuna-dashboard shows of a study: architectures and notes of its trials, pictures of the whole."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna._imports import try_import
from optuna.artifacts import ArtifactMeta
from optuna.study import Study
from optuna.trial import FrozenTrial

from optuna_nas_morph import lineage
from optuna_nas_morph.history import HistoryReader, Observation
from optuna_nas_morph.interpret.explanation import Explanation, Motif
from optuna_nas_morph.interpret.forecast import Forecast, forecast_by, forecasts
from optuna_nas_morph.interpret.model import Evidence, Model, fit_to, read_evidence
from optuna_nas_morph.kernels import WeisfeilerLehman
from optuna_nas_morph.visualization import architecture_to_svg
from optuna_nas_morph.visualization.gallery import Panel, explanations, gallery, objective_names
from optuna_nas_morph.visualization.note import trial_note
from optuna_nas_morph.visualization.plotly_imports import go, plotly_imports
from optuna_nas_morph.visualization.trials import trials_with_architecture
from optuna_nas_morph.weights import WeightStore, resolve

with try_import() as dashboard_imports:
    from optuna_dashboard import save_plotly_graph_object

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore

_logger = logging.getLogger(__name__)

_LEVEL = 0.9
"""Probability of the intervals in notes."""

_BETWEEN_CHECKS = 50
"""Trials between two looks at whether another worker has begun to show them too."""


def attach(
    study: Study, *, artifact_store: ArtifactStore | str | os.PathLike[str] | None = None, share: float = 0.05
) -> Dashboard:
    """Show a study in optuna-dashboard: all that there is now, and what comes, with the callback that is returned.

    Example:
        .. code-block:: python

            study.optimize(objective, n_trials=100, callbacks=[dashboard.attach(study)])

        and, beside it, ``optuna-dashboard sqlite:///nas.db --artifact-dir optuna-nas-morph/weights``.

    Every finished trial with an architecture gets a drawing of it that shows what has changed since its parent (an
    artifact), and a note: parent, morphisms, training, what was predicted and what came, the parts that matter. The
    study gets the figures of `optuna_nas_morph.report`. Any number of workers may do so in one study.

    After a trial the callback writes that trial's drawing and note. Figures, and the surrogate that predicts values and
    effects in notes, are renewed as often as what is left of ``share`` of the time allows: they can be some minutes old
    in a study of hundreds of trials. Attach once more in the end for those that show all.

    Args:
        study:
            The study, of any sampler.
        artifact_store:
            Where drawings go, an Optuna artifact store or a directory: that which optuna-dashboard is told of by
            ``--artifact-dir``. By default it is where the study keeps its weights.
        share:
            How much of the time the callback may take, between 0 and 1. A trial is shown even if that takes more.

    Returns:
        The callback. What goes wrong in it is warned of once, and does not end the study.

    Raises:
        ImportError: If optuna-dashboard or plotly is not installed.
        StoreError: If the store cannot be written.
        TypeError: If ``artifact_store`` is none.
        ValueError: If ``share`` is out of range.
    """
    dashboard_imports.check()
    plotly_imports.check()
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1 but got {share!r}.")
    dashboard = Dashboard(None if artifact_store is None else WeightStore(artifact_store), share)
    dashboard.refresh(study)
    return dashboard


@dataclass(frozen=True)
class _Beliefs:
    """What the surrogate made of the trials there were at one time; per objective."""

    names: tuple[str, ...] = ()
    models: tuple[Model, ...] = ()
    explained: tuple[Explanation, ...] = ()
    n_trials: int = 0


class Dashboard:
    """A callback for :meth:`optuna.study.Study.optimize`, made by `attach`."""

    def __init__(self, store: WeightStore | None, share: float) -> None:
        self._store = store
        self._share = share
        self._worker = str(uuid.uuid4())
        self._kernel = WeisfeilerLehman()
        self._reader = HistoryReader()
        self._beliefs = _Beliefs()
        self._due = 0.0
        self._lock = threading.Lock()  # Threads of one process (n_jobs) share what has been read.
        self._warned: set[str] = set()

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Show a finished trial, and renew the figures where it is time to."""
        with self._lock:
            began = time.monotonic()
            attributes = _attributes(study)
            if lineage.FINGERPRINT in trial.user_attrs:
                with self._trouble(f"trial {trial.number}"):
                    observation = self._observations(study).get(trial.number)
                    self._show(study, trial, observation, _predict(self._beliefs, observation), attributes)
            self._due += (time.monotonic() - began) / self._share
            with self._trouble("the figures"):
                if time.monotonic() >= self._due:
                    self._renew(study, lineage.last_refresh(attributes))

    def refresh(self, study: Study) -> None:
        """Renew the figures, and show every trial that has not been shown yet."""
        with self._lock:
            self._renew(study, None)
            attributes = _attributes(study)
            drawn = _drawn(attributes)
            new = [t for t in trials_with_architecture(study) if t.state.is_finished() and t._trial_id not in drawn]
            predicted: list[dict[int, Forecast]] = []
            if new and self._beliefs.models:
                n = len(study.directions)
                predicted = [{f.trial: f for f in forecasts(study, objective=i, level=_LEVEL)} for i in range(n)]
            observations = self._observations(study)
            for i, trial in enumerate(new):
                if i % _BETWEEN_CHECKS == 0 and not self._leads(study):
                    return
                found = [forecast.get(trial.number) for forecast in predicted]
                self._show(study, trial, observations.get(trial.number), found, attributes)

    def _leads(self, study: Study) -> bool:
        """Whether no other worker has begun to renew the figures since this one has."""
        last = lineage.last_refresh(_attributes(study))
        return last is None or last.worker == self._worker

    def _renew(self, study: Study, last: lineage.Refresh | None) -> None:
        """Fit the surrogate anew, and write the figures if no worker has done so of late."""
        began = time.monotonic()
        explained = explanations(study)
        names = tuple(objective_names(study))
        self._beliefs = _Beliefs(names)
        if explained:
            evidence = read_evidence(study, None, self._reader)
            self._beliefs = _Beliefs(names, self._fit(evidence), tuple(explained), len(evidence.observed))
        if last is None or time.time() - last.at >= last.cost / self._share:
            self._draw(study, explained)
        now = time.monotonic()
        self._due = now + (now - began) / self._share

    def _draw(self, study: Study, explained: list[Explanation]) -> None:
        """Write the figures, but go no further where another worker has begun to do so too."""
        began = time.monotonic()
        last = lineage.last_refresh(_attributes(study))
        lineage.record_refresh(study, lineage.Refresh(self._worker, time.time(), 0.0 if last is None else last.cost))
        for panel in gallery(study, explained):
            if panel.figure is not None:
                if not self._leads(study):
                    return
                save_plotly_graph_object(study, _fitted(panel), graph_object_id=f"nasmorph-{panel.key}")
        if self._leads(study):
            refresh = lineage.Refresh(self._worker, time.time(), time.monotonic() - began)
            lineage.record_refresh(study, refresh)

    def _fit(self, evidence: Evidence) -> tuple[Model, ...]:
        rng = np.random.default_rng(0)
        return tuple(fit_to(evidence, i, self._kernel, rng) for i in range(len(evidence.signs)))

    def _observations(self, study: Study) -> dict[int, Observation]:
        """Trials with values as the surrogate sees them, by number; none if the space is not known."""
        space = lineage.space_of(study)
        return {} if space is None else {o.number: o for o in read_evidence(study, space, self._reader).observed}

    def _show(
        self,
        study: Study,
        trial: FrozenTrial,
        observation: Observation | None,
        predicted: Sequence[Forecast | None],
        attributes: Mapping[str, Any],
    ) -> None:
        beliefs = self._beliefs
        motifs = [] if observation is None else [self._motifs_of(observation, e) for e in beliefs.explained]
        note = trial_note(study, trial, beliefs.names, predicted, motifs, beliefs.n_trials)
        _save_note(study, trial, note, attributes)
        drawing = architecture_to_svg(study, trial=trial.number)
        artifact_id = (self._store or resolve(study)).write_file(drawing.encode())
        _save_drawing(study, trial, ArtifactMeta(artifact_id, f"trial-{trial.number}.svg", "image/svg+xml", None))

    def _motifs_of(self, observation: Observation, explained: Explanation) -> list[Motif]:
        """Motifs of clear effect that an architecture contains, the largest effect first."""
        if observation.member is None:
            return []
        levels = enumerate(self._kernel.features(observation.member.graph))
        parts = {(i, self._kernel.describe(i, feature)) for i, counts in levels for feature in counts}
        found = [m for m in explained.motifs if m.effect.is_clear and (m.level, m.description) in parts]
        return sorted(found, key=lambda motif: -abs(motif.effect.mean))

    @contextmanager
    def _trouble(self, what: str) -> Iterator[None]:
        """A picture must not end a search: what goes wrong is warned of, once for each kind of error."""
        try:
            yield
        except Exception as e:
            kind = type(e).__name__
            if kind not in self._warned:
                self._warned.add(kind)
                _logger.warning(f"optuna-dashboard lacks {what}, the study goes on: {kind}: {e}", exc_info=True)


def _predict(beliefs: _Beliefs, observation: Observation | None) -> list[Forecast | None]:
    """What a surrogate makes of a trial that it does not know yet; nothing where it knows too little or too much."""
    if observation is None or not beliefs.models:
        return []
    first = beliefs.models[0]
    known = any(o.number == observation.number for o in first.observed)
    if known or not first.encoder.cube.contains(observation.hyperparameters):
        return []
    return [
        next(forecast_by(model, [observation], i, _LEVEL, beliefs.n_trials), None)
        for i, model in enumerate(beliefs.models)
    ]


# What optuna-dashboard shows.

_CARD = 450
"""Height of the place for a figure, in pixels; what is below is cut off."""


def _fitted(panel: Panel) -> go.Figure:
    """A picture as large as the place for it.

    Labels and bars that there is no room for are left out: the mouse shows what they say. Motifs, which are nothing
    without their text, keep their scale and can be dragged.
    """
    figure = go.Figure(panel.figure)
    height = figure.layout.height or _CARD
    figure.update_layout(width=None, height=None)
    kind = panel.key.partition("-")[0]
    if kind == "growth":
        figure.update_yaxes(nticks=4)
    elif kind == "surrogate":
        figure.update_traces(marker_showscale=False, selector={"type": "scatter"})
    elif kind == "lineage" and height > _CARD:
        figure.data = [trace for trace in figure.data if trace.mode != "text"]
    elif kind == "motifs" and height > _CARD:
        bottom, top = figure.layout.yaxis.range
        left, _ = figure.layout.xaxis.range
        shown = _CARD - (height - (bottom - top))
        figure.update_layout(dragmode="pan", yaxis_range=[top + shown, top])
        figure.update_xaxes(range=[left, left + shown], scaleanchor="y", constrain="range", constraintoward="left")
    return figure


# What it reads. Its own functions and Optuna's are for running trials, and read all there is each time.

_DRAWING = "dashboard:artifacts:"
"""Artifacts of finished trials are attributes of their study, of this prefix, the trial's ID and the artifact's."""

_PIECE = 2045
"""Longest piece of a note: what a column of a database takes."""


def _attributes(study: Study) -> dict[str, Any]:
    return study._storage.get_study_system_attrs(study._study_id)


def _save_note(study: Study, trial: FrozenTrial, note: str, attributes: Mapping[str, Any]) -> None:
    """Write a note; below what a person has written, where there is something."""
    prefix = f"dashboard:{trial._trial_id}:note_"
    written: list[str] = []
    while attributes.get(f"{prefix}str:{len(written)}"):
        written.append(attributes[f"{prefix}str:{len(written)}"])
    body = "\n\n".join(["".join(written), note]) if written else note
    for i in range(0, len(body), _PIECE):
        study._storage.set_study_system_attr(study._study_id, f"{prefix}str:{i // _PIECE}", body[i : i + _PIECE])
    version = attributes.get(f"{prefix}ver", 0) + 1
    study._storage.set_study_system_attr(study._study_id, f"{prefix}ver", version)


def _save_drawing(study: Study, trial: FrozenTrial, artifact: ArtifactMeta) -> None:
    key = f"{_DRAWING}{trial._trial_id}:{artifact.artifact_id}"
    study._storage.set_study_system_attr(study._study_id, key, json.dumps(asdict(artifact)))


def _drawn(attributes: Mapping[str, Any]) -> set[int]:
    """IDs of the trials that have been shown."""
    return {int(key.removeprefix(_DRAWING).partition(":")[0]) for key in attributes if key.startswith(_DRAWING)}
