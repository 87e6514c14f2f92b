"""A pruner for trials that inherit training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial

from optuna_nas_morph import lineage
from optuna_nas_morph.weights import WeightStore

if TYPE_CHECKING:
    from optuna.study import Study


class LineagePruner(BasePruner):
    """Owns the weight store of a study, keeps account of training, and lets another pruner decide.

    At every check it records how many epochs are behind the trial's weights, inherited ones included
    (``nasmorph:effective_epochs``).

    Args:
        wrapped:
            The pruner that decides; :obj:`None` prunes nothing.
        store:
            Where trained weights are kept; by default the store that the study has recorded, else a default directory.
    """

    def __init__(self, wrapped: BasePruner | None = None, *, store: WeightStore | None = None) -> None:
        if wrapped is not None and not isinstance(wrapped, BasePruner):
            raise TypeError(f"wrapped must be an Optuna pruner or None but got {type(wrapped).__name__}.")
        if store is not None and not isinstance(store, WeightStore):
            raise TypeError(f"store must be a WeightStore or None but got {type(store).__name__}.")
        self.wrapped = wrapped
        self.store = store

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Record the training so far, and ask the wrapped pruner."""
        if lineage.FINGERPRINT in trial.user_attrs:
            lineage.record_trained(study._storage, trial, float(len(trial.intermediate_values)))
        return self.wrapped is not None and self.wrapped.prune(study, trial)
