"""What has helped in a study: motifs and hyperparameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution

from optuna_nas_morph.interpret.effects import effects_of, features_of
from optuna_nas_morph.interpret.explanation import Explanation, HyperparameterEffect, Motif
from optuna_nas_morph.interpret.model import Model, Pool, reference_pool
from optuna_nas_morph.kernels import WeisfeilerLehman


def explain_study(
    model: Model, kernel: Any, level: float, min_support: int, n_pool: int, rng: np.random.Generator
) -> Explanation:
    """The study part of `optuna_nas_morph.interpret.explain`."""
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
