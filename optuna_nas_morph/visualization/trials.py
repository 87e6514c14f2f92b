"""What plots ask of trials: which ones, their values, and what to show of one when the mouse rests on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_nas_morph import encoding, lineage
from optuna_nas_morph.visualization.words import count_text, morphisms_text, value_text

Target = Callable[[FrozenTrial], float]

OBJECTIVE_VALUE = "Objective Value"
_MAX_HYPERPARAMETERS = 12


def trials_with_architecture(study: Study) -> list[FrozenTrial]:
    """Trials that have asked for an architecture, open or closed, in the order of their numbers."""
    return [t for t in study.get_trials(deepcopy=False) if lineage.FINGERPRINT in t.user_attrs]


def check_target(study: Study, target: Target | None) -> None:
    """As Optuna's own plots check it.

    Raises:
        ValueError: If the study has several objectives and no target says which.
    """
    if target is None and len(study.directions) > 1:
        raise ValueError("If the `study` is being used for multi-objective optimization, please specify the `target`.")
    if target is not None and not callable(target):
        raise TypeError(f"target must be a function of a trial but got {target!r}.")


def value_of(trial: FrozenTrial, target: Target | None = None) -> float | None:
    """The value of a completed trial, or what a target makes of it; :obj:`None` if it has none that is finite."""
    if trial.state != TrialState.COMPLETE:
        return None
    value = target(trial) if target is not None else trial.value
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError) as e:
        raise ValueError(f"target must return a number but got {value!r} for trial {trial.number}.") from e
    return number if math.isfinite(number) else None


def last_value_of(trial: FrozenTrial) -> float | None:
    """What a pruned trial had reported last, if that is finite."""
    if trial.state != TrialState.PRUNED or trial.last_step is None:
        return None
    value = trial.intermediate_values[trial.last_step]
    return value if math.isfinite(value) else None


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether a trial violates no constraint."""
    return all(value <= 0 for value in trial.constraints.values())


def minimises(study: Study) -> bool:
    """Whether a study with one objective minimises it."""
    return study.direction == StudyDirection.MINIMIZE


def best_of(study: Study, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The first of the best trials that are complete and feasible, in a study with one objective."""
    sign = 1.0 if minimises(study) else -1.0
    ranked = [(sign * value, t.number, t) for t in trials if is_feasible(t) and (value := value_of(t)) is not None]
    return min(ranked, key=lambda item: item[:2])[2] if ranked else None


def details_of(trial: FrozenTrial) -> list[str]:
    """A trial in a few lines."""
    attributes, lines = trial.user_attrs, [f"trial {trial.number}, {trial.state.name.lower()}"]
    if trial.values is not None:
        lines.append("value " + ", ".join(map(value_text, trial.values)))
    elif (last := last_value_of(trial)) is not None:
        lines.append(f"last value {value_text(last)} at step {trial.last_step}")
    if not is_feasible(trial):
        violated = [name for name, value in trial.constraints.items() if value > 0]
        lines.append(f"violates {', '.join(map(str, violated))}")
    if lineage.PARAMETERS in attributes:
        n, flops = attributes[lineage.PARAMETERS], attributes.get(lineage.FLOPS, 0)
        lines.append(f"{count_text(n)} parameters, {count_text(flops)} FLOPs")
    if (parent := attributes.get(lineage.PARENT)) is not None:
        lines.append(f"child of trial {parent}: {morphisms_text(attributes.get(lineage.MORPHISMS, []))}")
    if lineage.INHERITED_EPOCHS in attributes:
        donor = attributes.get(lineage.DONOR)
        epochs = lineage.budgets_of(trial).inherited
        lines.append("trained from scratch" if donor is None else f"{epochs:g} epochs inherited from trial {donor}")
    names = [name for name in trial.params if not name.startswith(encoding.PREFIX)]
    for name in names[:_MAX_HYPERPARAMETERS]:
        value = trial.params[name]
        lines.append(f"{name} {value_text(value) if isinstance(value, float) else value}")
    return lines + [f"and {len(names) - _MAX_HYPERPARAMETERS} more"] * (len(names) > _MAX_HYPERPARAMETERS)
