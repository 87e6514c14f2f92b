"""Which parts of architectures help, by how much, and what to build next."""

from __future__ import annotations

from typing import Any, overload

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial

from optuna_nas_morph.encoding import AnySpace
from optuna_nas_morph.interpret.explanation import (
    Contribution,
    Effect,
    Explanation,
    HyperparameterEffect,
    Motif,
    NextStep,
    TrialExplanation,
)

__all__ = [
    "Contribution",
    "Effect",
    "Explanation",
    "HyperparameterEffect",
    "Motif",
    "NextStep",
    "TrialExplanation",
    "explain",
]


@overload
def explain(
    study: Study,
    trial: None = None,
    *,
    objective: int = 0,
    space: AnySpace | None = None,
    kernel: Any = None,
    level: float = 0.9,
    min_support: int = 5,
    n_pool: int = 1000,
    seed: int = 0,
) -> Explanation: ...


@overload
def explain(
    study: Study,
    trial: FrozenTrial,
    *,
    objective: int = 0,
    space: AnySpace | None = None,
    kernel: Any = None,
    level: float = 0.9,
    min_support: int = 5,
    n_pool: int = 1000,
    seed: int = 0,
) -> TrialExplanation: ...


def explain(
    study: Study,
    trial: FrozenTrial | None = None,
    *,
    objective: int = 0,
    space: AnySpace | None = None,
    kernel: Any = None,
    level: float = 0.9,
    min_support: int = 5,
    n_pool: int = 1000,
    seed: int = 0,
) -> Explanation | TrialExplanation:
    """Say what has helped in a study, or why one trial is predicted as it is.

    The effect of a motif (a neighbourhood of the Weisfeiler-Lehman test, level by level) is the posterior of a linear
    contrast: the average value of architectures with it minus that of architectures without, over a reference pool.
    NAS-BOWL (Ru et al., ICLR 2021, Section 3.3) takes the gradient of the posterior mean with respect to the count of
    the motif instead, which holds all that goes with it fixed. It is an average, not a cause: motifs that come together
    share their effect.

    Of a single objective effects are differences from the median of the trials on, since the surrogate's scale is not
    linear, see `optuna_nas_morph.targets.LogRegret`. Values are those at the reference training, where weights are
    inherited.

    Example:
        .. code-block:: python

            print(explain(study))
            print(explain(study, study.best_trial))
            for motif in explain(study).motifs:
                print(motif.effect.mean, motif.description, motif.trials)

    Args:
        study:
            A study with an architecture space.
        trial:
            One of its trials; :obj:`None` for the whole study.
        objective:
            Which objective, of several.
        space:
            The space, needed only for a `CellSpace` that this process has not used yet.
        kernel:
            The graph kernel; by default `optuna_nas_morph.kernels.WeisfeilerLehman`.
        level:
            Probability of the credible intervals.
        min_support:
            Motifs in fewer trials, or missing from fewer, are left out.
        n_pool:
            Size of the reference pool: in a closed space random members, in an open one the architectures evaluated and
            others up to two morphisms away.
        seed:
            Seed of the pool and of the fit.

    Returns:
        An `Explanation` or a `TrialExplanation`: print it, show it in a notebook, or take its data.

    Raises:
        ValueError: If the study has values for fewer than two architectures, or an argument is out of range.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1 but got {level!r}.")
    for name, value in (("min_support", min_support), ("n_pool", n_pool)):
        if type(value) is not int or value < 1:
            raise ValueError(f"{name} must be a positive integer but got {value!r}.")
    # Imported when it is needed, with GraKeL behind it, so that importing this package stays quick.
    from optuna_nas_morph.interpret.model import fit_model
    from optuna_nas_morph.interpret.study import explain_study
    from optuna_nas_morph.interpret.trial import explain_trial
    from optuna_nas_morph.kernels import WeisfeilerLehman, check_kernel

    if kernel is None:
        kernel = WeisfeilerLehman()
    check_kernel(kernel)
    rng = np.random.default_rng(seed)
    model = fit_model(study, space, objective, kernel, rng)
    if trial is not None:
        return explain_trial(model, kernel, trial, level)
    return explain_study(model, kernel, level, min_support, n_pool, rng)
