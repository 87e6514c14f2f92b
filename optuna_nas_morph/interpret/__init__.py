"""Which parts of architectures help, by how much, and what to build next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, overload

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial
from scipy.stats import norm

from optuna_nas_morph.encoding import AnySpace, Member
from optuna_nas_morph.interpret.contributions import contributions
from optuna_nas_morph.interpret.effects import Effect, contrasts, effects_of, features_of, in_units
from optuna_nas_morph.interpret.explanation import (
    Contribution,
    Explanation,
    HyperparameterEffect,
    Motif,
    NextStep,
    TrialExplanation,
)
from optuna_nas_morph.interpret.model import Model, Pool, fit_model, reference_pool
from optuna_nas_morph.kernels import WeisfeilerLehman, check_kernel
from optuna_nas_morph.spaces import Cell, CellSpace, Descendant, Space

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
    if kernel is not None:
        check_kernel(kernel)
    kernel = kernel if kernel is not None else WeisfeilerLehman()
    rng = np.random.default_rng(seed)
    model = fit_model(study, space, objective, kernel, rng)
    if trial is not None:
        return _of_trial(model, kernel, trial, level)
    pool = reference_pool(model, n_pool, rng)
    vocabulary = kernel if isinstance(kernel, WeisfeilerLehman) else WeisfeilerLehman()
    motifs = _motifs(model, pool, vocabulary, level, min_support)
    hyperparameters = _hyperparameters(model, pool, level)
    return Explanation(
        tuple(sorted(motifs, key=lambda m: -model.sign * m.effect.mean)),
        tuple(sorted(hyperparameters, key=lambda h: -model.sign * h.effect.mean)),
        level,
        float(np.median(model.values)),
        len(model.observed),
        len(pool.members),
    )


def _motifs(model: Model, pool: Pool, vocabulary: WeisfeilerLehman, level: float, min_support: int) -> Iterator[Motif]:
    """Motifs that some trials have and some have not; of those that always come together in the pool the smallest."""
    observed = features_of(vocabulary, model.graphs)
    in_pool = features_of(vocabulary, [member.graph for member in pool.members])
    n = len(model.observed)
    chosen: dict[bytes, tuple[int, int]] = {}
    for feature in sorted(observed):
        support = int(observed[feature].sum())
        has = in_pool.get(feature)
        if min_support <= support <= n - min_support and has is not None and not has.all():
            chosen.setdefault(has.tobytes(), feature)
    features = list(chosen.values())
    effects = effects_of(model, pool, np.array([in_pool[feature] for feature in features]), level)
    for feature, effect in zip(features, effects, strict=True):
        trials = tuple(model.observed[i].number for i in np.flatnonzero(observed[feature]).tolist())
        yield Motif(feature[0], vocabulary.describe(*feature), vocabulary.motif(*feature), effect, trials)


def _hyperparameters(model: Model, pool: Pool, level: float) -> Iterator[HyperparameterEffect]:
    """Each choice against the others, and of numbers the upper half against the lower."""
    known, names, rows = [], [], []
    for i, (name, distribution) in enumerate(model.encoder.cube.distributions.items()):
        column = pool.hyperparameters[:, i]
        if isinstance(distribution, CategoricalDistribution):
            parts = [(f"= {choice}", column == k) for k, choice in enumerate(distribution.choices)]
        else:
            median = float(np.nanmedian(column))
            border = model.encoder.cube.decode(np.where(np.arange(pool.hyperparameters.shape[1]) == i, median, np.nan))
            parts = [(f"> {border[name]:.3g}", column > median)]
        for text, has in parts:
            has = has & ~np.isnan(column)
            if has.any() and not has.all():
                known.append(name)
                names.append(text)
                rows.append(has)
    for name, text, effect in zip(known, names, effects_of(model, pool, np.array(rows), level), strict=True):
        yield HyperparameterEffect(name, text, effect)


def _of_trial(model: Model, kernel: Any, trial: FrozenTrial, level: float) -> TrialExplanation:
    observation = next((o for o in model.observed if o.number == trial.number), None)
    if observation is None or observation.member is None:
        raise ValueError(
            f"trial must be a trial of the study with values and an architecture, but trial {trial.number} is not."
        )
    vector = model.encoder.cube.encode(observation.hyperparameters)[None, :]
    point = model.points([observation.member], vector)
    (mean,), ((variance,),) = model.surrogate.joint(point)
    width = norm.ppf(0.5 + level / 2) * np.sqrt(max(variance, 0.0))
    baseline, prediction, *interval = map(float, model.in_units(np.array([0.0, mean, mean - width, mean + width])))
    shares, levels, rest = contributions(model, kernel, point)
    parts = [(kernel.describe(*feature), share) for feature, share in shares.items()]
    parts += [(f"graph, level {i}", share) for i, share in enumerate(levels)]
    parts.append(("hyperparameters, size and training", rest))
    # The scale is not linear: shares on it are told in the user's units in proportion, so that they add up there too.
    unit = (prediction - baseline) / mean if abs(mean) > 1e-12 else 0.0
    told = sorted((Contribution(part, share * unit) for part, share in parts), key=lambda c: -abs(c.value))
    i = model.observed.index(observation)
    return TrialExplanation(
        trial.number,
        None if observation.is_partial else float(model.values[i]),
        prediction,
        min(interval),
        max(interval),
        baseline,
        tuple(told),
        tuple(_next_steps(model, observation.member, vector, float(mean), level)),
        level,
    )


def _next_steps(model: Model, member: Member, vector: np.ndarray, start: float, level: float) -> list[NextStep]:
    """Every architecture one edit away that has not been evaluated, the most promising first."""
    known = {o.member.fingerprint for o in model.observed if o.member is not None}
    children: dict[str, Member] = {}
    space: Space[Any] = model.space
    for child in space.children(member):
        if child.fingerprint not in known:
            children.setdefault(child.fingerprint, child)
    if not children:
        return []
    members = [member, *children.values()]
    mean, covariance = model.surrogate.joint(model.points(members, np.repeat(vector, len(members), axis=0)))
    weights = np.concatenate([-np.ones((len(children), 1)), np.eye(len(children))], axis=1)
    means, deviations = contrasts(mean, covariance, weights)
    steps = [
        NextStep(_edit(model.space, member, child), in_units(model, m, s, level, start))
        for child, m, s in zip(children.values(), means, deviations, strict=True)
    ]
    order = np.argsort(-means, kind="stable")
    return [steps[i] for i in order]


def _edit(space: AnySpace, member: Any, child: Any) -> str:
    """What is different in a child, in words."""
    if isinstance(child, Descendant):
        return str(child.steps[-1])
    if isinstance(space, CellSpace) and isinstance(child, Cell):
        before, after = space.choices_of(member), space.choices_of(child)
        return ", ".join(f"{name} = {after[name]}" for name in after if after[name] != before[name])
    return str(child)
