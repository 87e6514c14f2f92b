"""Who goes to the finals: the most promising architectures of a search, and baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_nas_morph import lineage
from optuna_nas_morph.finals import FINALIST, MOST_PARAMETERS, SEED_ARCHITECTURE, Entry, Request
from optuna_nas_morph.network import sampler_of
from optuna_nas_morph.spaces import CellSpace, MorphSpace
from optuna_nas_morph.targets import ranking

if TYPE_CHECKING:
    from optuna_nas_morph.proposal import Settings

RANKINGS = ("prediction", "value")


def choose(study: Study, request: Request, seed: int) -> tuple[Entry, ...]:
    """The finalists, the most promising first, then baselines that are no finalists.

    Args:
        study:
            The search.
        request:
            How many, and how they are ranked.
        seed:
            Of what the surrogate's fit draws.

    Raises:
        ValueError: If there is nobody to choose from, or the space is not known to this process.
    """
    trials = [
        t
        for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if lineage.FINGERPRINT in t.user_attrs and all(value <= 0 for value in t.constraints.values())
    ]
    if not trials:
        raise ValueError(
            f"study {study.study_name!r} must have a finished trial with an architecture that keeps to all constraints "
            "but has none."
        )
    signs = [-1.0 if d == StudyDirection.MINIMIZE else 1.0 for d in study.directions]
    by_value = ranking([tuple(t.values) for t in trials], signs)
    by_prediction = _predicted(study, trials, signs, seed) if request.rank_by == "prediction" else by_value
    # What a prediction cannot tell apart, the values do.
    order = np.lexsort((-by_value, -np.round(by_prediction, 9)))
    finalists: dict[str, FrozenTrial] = {}
    for i in order:
        finalists.setdefault(trials[i].user_attrs[lineage.FINGERPRINT], trials[i])
    chosen = dict(list(finalists.items())[: request.top_k])
    entries = {fingerprint: Entry(t.number, (FINALIST,)) for fingerprint, t in chosen.items()}

    best_first = [trials[i] for i in np.argsort(-by_value, kind="stable")]
    top = next(iter(chosen.values()))
    for role in request.baselines:
        baseline = _baseline(role, lineage.space_of(study), best_first, top)
        if baseline is not None:
            fingerprint, entry = baseline
            same = entries.setdefault(fingerprint, Entry(entry.trial, (), entry.is_unseen_seed))
            entries[fingerprint] = Entry(same.trial, (*same.roles, role), same.is_unseen_seed)
    return tuple(entries.values())


def _baseline(
    role: str, space: MorphSpace | CellSpace | None, best_first: Sequence[FrozenTrial], top: FrozenTrial
) -> tuple[str, Entry] | None:
    """Fingerprint and entry of a baseline; :obj:`None` where the search has no such thing (a `CellSpace`)."""
    if role == MOST_PARAMETERS:
        counted = [t for t in best_first if lineage.PARAMETERS in t.user_attrs]
        largest = max(counted, key=lambda t: t.user_attrs[lineage.PARAMETERS], default=None)
        return None if largest is None else (largest.user_attrs[lineage.FINGERPRINT], Entry(largest.number, ()))
    assert role == SEED_ARCHITECTURE
    if not isinstance(space, MorphSpace):
        return None
    fingerprint = space.seed.fingerprint
    evaluated = next((t for t in best_first if t.user_attrs[lineage.FINGERPRINT] == fingerprint), None)
    if evaluated is not None:
        return fingerprint, Entry(evaluated.number, ())
    return fingerprint, Entry(top.number, (), is_unseen_seed=True)


def _predicted(study: Study, trials: Sequence[FrozenTrial], signs: Sequence[float], seed: int) -> np.ndarray:
    """How good each trial is by the surrogate, all at one training; larger is better, of shape (n,)."""
    # Imported when first used, with scipy behind it, so that importing this package stays quick.
    from optuna_nas_morph.history import HistoryReader
    from optuna_nas_morph.hyperparameters import Cube
    from optuna_nas_morph.proposal import Task, predict_finished

    space = lineage.space_of(study)
    if space is None:
        raise ValueError(
            f"the space of study {study.study_name!r} must be known to rank by prediction, but it holds a Python "
            "function that this process has not seen: call suggest_architecture(trial, space) in it before, or use "
            "rank_by='value'."
        )
    history = HistoryReader().read(study, space, -1)
    task = Task(space, Cube(history.hyperparameters), {}, tuple(signs))
    observed, means = predict_finished(task, history.observations, _settings(study), np.random.default_rng(seed))
    predicted = {o.number: tuple(map(float, column)) for o, column in zip(observed, means.T, strict=True)}
    return ranking([predicted.get(t.number) for t in trials], [1.0] * len(signs))


def _settings(study: Study) -> Settings:
    """Those of the study's sampler, if it is a `MorphBOSampler`; else the default ones."""
    from optuna_nas_morph import kernels
    from optuna_nas_morph.proposal import Settings

    own: Any = getattr(sampler_of(study), "_proposal_settings", None)  # Samplers are above this module.
    settings = Settings(kernels.WeisfeilerLehman(), None, None, False) if own is None else own(len(study.directions))
    # With an acquisition, several objectives are made one, and none is predicted by itself.
    return replace(settings, acquisition=None)
