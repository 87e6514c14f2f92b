"""A pruner for trials that inherit training."""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable, Container, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from optuna.pruners import BasePruner
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_nas_morph import lineage
from optuna_nas_morph.lineage import Kind
from optuna_nas_morph.weights import WeightStore

if TYPE_CHECKING:
    from optuna.study import Study


class LineagePruner(BasePruner):
    """Prunes trials that are not going to reach the best, judged by others that began as they did.

    A child that inherits weights reports good values at once and gains little; a fresh start does the opposite. Pruners
    that compare values step by step therefore prune every fresh start, or children that are just about to be the best.
    Here a trial is compared with its own class only: *warm*, with inherited training behind it, or *cold*.

    At each check, after a share of the trial's budget, it is asked whether the trial can still end among the best of
    its class: a share ``top`` of it but at least ``ceil(1 / alpha) - 1``, and all that are as good as the last of them.
    Those that did are the finished trials with the best values; what each had reported after the same share of its own
    budget is the sample that the trial's value now is compared with. The trial is pruned if at most a share ``alpha``
    of the sample, itself counted in, is as bad: the conformal test of the hypothesis that it is one of them (Vovk,
    Gammerman and Shafer, Algorithmic Learning in a Random World, 2005, section 4.5, label-conditional). So of the
    trials that would end among the best, a share of at most ``alpha`` is lost at a check, if they report as those
    before them did, whatever the shape of learning curves: where early values say nothing, hardly any trial is pruned.
    The bound is that of one check; several can lose more in total, at most the sum. Pruned trials are counted in the
    class, and none of them among its best; as some would have been, in long studies somewhat more are lost.

    With fewer than ``ceil(1 / alpha) - 1`` finished trials of a class none is pruned. That is four by default: until
    40 of a class have ended these are more than its best tenth, and a trial is pruned if it is worse than all of them.

    Controls of `MorphBOSampler` (`optuna_nas_morph.lineage.Kind`) are never pruned: they are there to be measured. A
    trial that reports NaN is pruned.

    It has no state: it decides by what is in the storage, whatever the order in which trials finish. At every check it
    also records how many epochs are behind the weights (``nasmorph:effective_epochs``).

    With ``wrapped``, another pruner decides, and sees the trials of the same class only. In a study in which nothing is
    inherited it decides exactly as it would alone.

    Example:
        .. code-block:: python

            study = optuna.create_study(sampler=MorphBOSampler(), pruner=LineagePruner())
            study = optuna.create_study(sampler=MorphBOSampler(), pruner=LineagePruner(MedianPruner()))

    Args:
        wrapped:
            The pruner that decides instead.
        store:
            Where trained weights are kept; by default the store that the study has recorded, else a default directory.
        n_steps:
            How often a trial that is not pruned reports. By default the ``budget`` given to `suggest_network`, as often
            per epoch as finished trials have reported; without one, as often as finished trials have in the median.
        alpha:
            Share of the trials that would end among the best that may be lost at each check.
        top:
            Which share of a class is its best; never fewer than ``ceil(1 / alpha) - 1`` trials.
        checks:
            Shares of the budget after which trials are judged, once each: call ``trial.should_prune()`` after every
            report.

    Raises:
        TypeError: If ``wrapped`` is no pruner or ``store`` no store.
        ValueError: If another argument is out of range.
    """

    def __init__(
        self,
        wrapped: BasePruner | None = None,
        *,
        store: WeightStore | None = None,
        n_steps: int | None = None,
        alpha: float = 0.2,
        top: float = 0.1,
        checks: Iterable[float] = (0.125, 0.25, 0.375, 0.5),
    ) -> None:
        if wrapped is not None and not isinstance(wrapped, BasePruner):
            raise TypeError(f"wrapped must be an Optuna pruner or None but got {type(wrapped).__name__}.")
        if store is not None and not isinstance(store, WeightStore):
            raise TypeError(f"store must be a WeightStore or None but got {type(store).__name__}.")
        if n_steps is not None and (type(n_steps) is not int or n_steps < 1):
            raise ValueError(f"n_steps must be a positive integer or None but got {n_steps!r}.")
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must be between 0 and 1 but got {alpha!r}.")
        if not 0 < top <= 1:
            raise ValueError(f"top must be a share above 0 and up to 1 but got {top!r}.")
        checks = tuple(checks)
        if not checks or not all(0 < check < 1 for check in checks):
            raise ValueError(f"checks must be shares between 0 and 1 but got {checks!r}.")
        self.wrapped = wrapped
        self.store = store
        self._n_steps = n_steps
        self._alpha = alpha
        self._top = top
        self._checks = tuple(sorted(checks))

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether a running trial should end here.

        Args:
            study:
                A study with one objective.
            trial:
                The trial, which has just reported.
        """
        if lineage.FINGERPRINT in trial.user_attrs:
            _record_trained(study._storage, trial)
        if self.wrapped is not None:
            return self.wrapped.prune(_same_class(study, trial), trial)
        if trial.last_step is None or lineage.kind_of(trial) != Kind.SEARCH:
            return False
        if math.isnan(trial.intermediate_values[trial.last_step]):
            return True
        sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
        ended = [
            t
            for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
            if lineage.inherits(t) == lineage.inherits(trial) and t.intermediate_values
        ]
        finished = [t for t in ended if t.state == TrialState.COMPLETE]
        n_steps = self._expected_steps(trial, finished)
        if n_steps is None or not finished:
            return False
        values = _reported(trial, sign)
        checks = {_count(check, n_steps): check for check in self._checks}
        check = checks.get(len(values))
        if check is None or len(values) >= n_steps:
            return False
        return self._share_as_bad(values[-1], finished, len(ended), check, sign) <= self._alpha

    def _expected_steps(self, trial: FrozenTrial, finished: Sequence[FrozenTrial]) -> int | None:
        """How often the trial would report; :obj:`None` where nobody knows."""
        if self._n_steps is not None or not finished:
            return self._n_steps
        budget = trial.user_attrs.get(lineage.BUDGET)
        if budget is not None:
            budgets = [(t, t.user_attrs.get(lineage.BUDGET)) for t in finished]
            per_epoch = [len(t.intermediate_values) / b for t, b in budgets if b]
            return max(1, round(budget * statistics.median(per_epoch))) if per_epoch else None
        return max(1, round(statistics.median(len(t.intermediate_values) for t in finished)))

    def _share_as_bad(
        self, value: float, finished: Sequence[FrozenTrial], n_ended: int, check: float, sign: float
    ) -> float:
        """How many of the best of a class were as bad after a share of their reports, with the trial itself."""
        n_best = max(math.ceil(self._top * n_ended), math.ceil(1 / self._alpha) - 1)
        # All that are as good as the last of them, so that the order of trials has no meaning.
        least = sorted((sign * _value(t) for t in finished), reverse=True)[:n_best][-1]
        best = [t for t in finished if sign * _value(t) >= least]
        then = [values[_count(check, len(values)) - 1] for values in (_reported(t, sign) for t in best)]
        return (1 + sum(not other > value for other in then)) / (1 + len(then))


def _record_trained(storage: BaseStorage, trial: FrozenTrial) -> None:
    """Write that a trial has trained for an epoch per report, unless it has said when publishing that it was more."""
    epochs, budgets = float(len(trial.intermediate_values)), lineage.budgets_of(trial)
    has_published = any(trial.user_attrs.get(key) is not None for key in (lineage.WEIGHTS, lineage.UNPUBLISHED))
    # Without having published, what is recorded may be a budget that was announced.
    if has_published and budgets.effective is not None and budgets.effective >= budgets.inherited + epochs:
        return
    lineage.record_trained(storage, trial, epochs)


def _count(check: float, n_steps: int) -> int:
    """After how many reports a share of them is reached."""
    return max(1, math.ceil(check * n_steps))


def _reported(trial: FrozenTrial, sign: float) -> list[float]:
    """Reported values in the order of their steps, larger is better."""
    return [sign * value for _, value in sorted(trial.intermediate_values.items())]


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value


def _same_class(study: Study, trial: FrozenTrial) -> Study:
    """The study with the trials that began as this one did; the study itself where nothing is inherited."""
    if not any(lineage.inherits(t) for t in study.get_trials(deepcopy=False)):
        return study
    view = copy.copy(study)
    view._storage = _Trials(study._storage, lambda t: lineage.inherits(t) == lineage.inherits(trial))  # type: ignore[assignment]
    return view


class _Trials:
    """A storage that shows some of the trials. All else is the storage's own.

    What a pruner looks at is filtered here and not in the study, since Hyperband makes a study of its own.
    """

    def __init__(self, storage: BaseStorage, shows: Callable[[FrozenTrial], bool]) -> None:
        self._storage = storage
        self._shows = shows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [t for t in self._storage.get_all_trials(study_id, deepcopy, states) if self._shows(t)]

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        return BaseStorage.get_best_trial(self, study_id)  # type: ignore[arg-type]
