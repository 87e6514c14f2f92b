"""One ask: from a history to the parameters of the next trial. Pure functions of their arguments."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from optuna.trial import TrialState

from optuna_nas_morph import encoding
from optuna_nas_morph.acquisition import Acquisition
from optuna_nas_morph.history import Key, Observation, key_of
from optuna_nas_morph.hyperparameters import Cube
from optuna_nas_morph.search import TreeSearch, random_walk
from optuna_nas_morph.space import Descendant, MorphSpace
from optuna_nas_morph.surrogate import Points, Surrogate, fit_surrogate, size_features, training_feature
from optuna_nas_morph.targets import best_and_latest, scalarise

MAX_OBSERVATIONS = 500
"""Observations that the surrogate is fitted to; of more, the best half of that number and the latest are kept."""

N_REFINED = 5
"""Architectures whose hyperparameters are searched closely, once architectures have been ranked."""

N_STARTUP_DRAWS = 64
"""Random walks at most until one leads to a new architecture."""


@dataclass(frozen=True)
class Task:
    """What is asked for.

    Attributes:
        space:
            The open space; :obj:`None` in a study without one, or where the architecture is decided.
        cube:
            Hyperparameters that are modelled.
        fixed:
            Parameters that are decided already (enqueued, fixed, or suggested before).
        signs:
            Per objective, 1 to maximise and -1 to minimise.
    """

    space: MorphSpace | None
    cube: Cube
    fixed: Mapping[str, Any]
    signs: tuple[float, ...]

    @property
    def fixed_architecture(self) -> dict[str, Any]:
        """Decided parameters of the architecture."""
        return {k: v for k, v in self.fixed.items() if k.startswith(encoding.PREFIX)}

    @property
    def fixed_hyperparameters(self) -> dict[str, Any]:
        """Decided parameters among those that are modelled."""
        return {k: v for k, v in self.fixed.items() if k in self.cube.distributions}


def propose_startup(task: Task, history: Sequence[Observation], rng: np.random.Generator) -> dict[str, Any]:
    """The seed first, then random walks of any length from it, as far as the space goes; no hyperparameters."""
    space = task.space
    if space is None:
        return {}
    if not any(o.descendant is not None for o in history):
        params, _ = _fit_to_fixed(task, space, Descendant((), space.seed), rng)
        return {name: value for name, value in params.items() if name not in task.fixed}
    seed = Descendant((), space.seed)
    seen = {o.descendant.architecture.fingerprint for o in history if o.descendant is not None}
    params = {}
    for _ in range(N_STARTUP_DRAWS):
        n_steps = int(rng.integers(1, space.max_morphisms + 1))
        params, descendant = _fit_to_fixed(task, space, random_walk(space, seed, n_steps, rng), rng)
        if descendant.architecture.fingerprint not in seen:
            break
    return {name: value for name, value in params.items() if name not in task.fixed}


def propose(
    task: Task,
    history: Sequence[Observation],
    *,
    kernel: Any,
    acquisition: Acquisition,
    search: TreeSearch,
    deterministic: bool,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """The point with the largest acquisition that has not been tried.

    Args:
        task:
            What is asked for.
        history:
            What the study knows; at least one observation has values.
        kernel:
            The graph kernel.
        acquisition:
            The acquisition function.
        search:
            How architectures are searched.
        deterministic:
            Whether values have no noise.
        rng:
            Source of randomness.

    Returns:
        Parameters by name that are not decided yet, as plain Python scalars.
    """
    usable = [o for o in history if task.cube.contains(o.hyperparameters)]
    observed = [o for o in usable if o.values is not None]
    pending = [o for o in usable if o.state == TrialState.RUNNING]
    targets = scalarise(np.array([o.values for o in observed]) * task.signs, rng)
    kept = best_and_latest(targets, MAX_OBSERVATIONS)
    observed, targets = [observed[i] for i in kept], targets[kept]

    reference = training_feature(float(np.median([o.epochs or 0.0 for o in observed])))
    encoder = _Encoder(task.space, task.cube, reference)
    surrogate = fit_surrogate(
        encoder.points_of(observed),
        targets,
        encoder.points_of(pending),
        encoder.at_reference(observed),
        encoder.is_categorical,
        kernel=kernel,
        deterministic=deterministic,
        rng=rng,
    )
    best = np.array([task.cube.encode(observed[i].hyperparameters) for i in np.argsort(-targets, kind="stable")[:5]])
    model = _Model(task, encoder, surrogate, acquisition, frozenset(o.key for o in history), best, rng)
    if task.space is None:
        _, params, _ = model.best_hyperparameters(None)
    else:
        roots = _distinct([Descendant((), task.space.seed), *(o.descendant for o in observed if o.descendant)])
        params = _best_architecture(task, task.space, roots, model, search, rng)
    return {name: value for name, value in params.items() if name not in task.fixed}


def _best_architecture(
    task: Task,
    space: MorphSpace,
    roots: Sequence[Descendant],
    model: _Model,
    search: TreeSearch,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Parameters of the best architecture with its best hyperparameters."""
    encodings: dict[str, dict[str, Any]] = {}
    if task.fixed_architecture:
        pool: list[Descendant] = []
        for _ in range(search.n_candidates):
            params, descendant = _fit_to_fixed(
                task, space, random_walk(space, roots[int(rng.integers(len(roots)))], int(rng.integers(3)), rng), rng
            )
            if descendant.architecture.fingerprint not in encodings:
                encodings[descendant.architecture.fingerprint] = params
                pool.append(descendant)
        order = np.argsort(-model.score(pool), kind="stable")
        best = sorted((pool[i] for i in order), key=lambda d: not model.may_propose(d))  # stable: untried ones first
    else:
        best = [descendant for _, descendant in search(space, roots, model.score, model.may_propose, rng)]
    if not best:
        # Every architecture within reach has been tried: at least the hyperparameters may be new.
        order = np.argsort(-model.score(roots), kind="stable")
        best = [roots[i] for i in order]
    pairs = [(model.best_hyperparameters(descendant), descendant) for descendant in best[:N_REFINED]]
    (_, hyperparameters, is_new), descendant = max(pairs, key=lambda pair: (pair[0][2], pair[0][0]))
    if not is_new:
        warnings.warn("Everything within reach in this space has been tried: a trial is repeated.", stacklevel=2)
    architecture = encodings.get(descendant.architecture.fingerprint) or encoding.encode(space, descendant.steps)
    return {**architecture, **hyperparameters}


def _fit_to_fixed(
    task: Task, space: MorphSpace, descendant: Descendant, rng: np.random.Generator
) -> tuple[dict[str, Any], Descendant]:
    """Parameters of an architecture with those that are decided put in, and what they then stand for."""
    params = {**encoding.encode(space, descendant.steps), **task.fixed_architecture}
    for i in range(encoding.value_of(space, params, encoding.N_STEPS)):
        params.setdefault(encoding.op_name(i), str(space.morphisms[int(rng.integers(len(space.morphisms)))]))
        params.setdefault(encoding.at_name(i), float(rng.random()))
    return params, encoding.decode(space, params)


def _distinct(descendants: Iterable[Descendant]) -> list[Descendant]:
    """The first of each fingerprint."""
    return list({d.architecture.fingerprint: d for d in reversed(list(descendants))}.values())[::-1]


# Points.


@dataclass(frozen=True)
class _Encoder:
    """Turns architectures and hyperparameters into points of the surrogate."""

    space: MorphSpace | None
    cube: Cube
    reference: float

    @property
    def is_categorical(self) -> np.ndarray:
        n_sizes = 4 if self.space is not None else 0
        return np.concatenate([self.cube.is_categorical, np.zeros(n_sizes, dtype=bool)])

    def vector(self, descendant: Descendant | None, point: np.ndarray, training: float) -> np.ndarray:
        if self.space is None or descendant is None:
            return point
        return np.concatenate([point, size_features(self.space, descendant), [training]])

    def points_of(self, observations: Sequence[Observation]) -> Points:
        rows = [
            self.vector(o.descendant, self.cube.encode(o.hyperparameters), training_feature(o.epochs))
            for o in observations
        ]
        return self._points([o.descendant for o in observations], rows)

    def at_reference(self, observations: Sequence[Observation]) -> np.ndarray:
        rows = [self.vector(o.descendant, self.cube.encode(o.hyperparameters), self.reference) for o in observations]
        return np.array(rows).reshape(len(rows), len(self.is_categorical))

    def product(self, descendants: Sequence[Descendant | None], points: np.ndarray) -> Points:
        """Every architecture with every vector of hyperparameters, architecture by architecture."""
        rows = [self.vector(d, p, self.reference) for d in descendants for p in points]
        return self._points([d for d in descendants for _ in points], rows)

    def _points(self, descendants: Sequence[Descendant | None], rows: Sequence[np.ndarray]) -> Points:
        z = np.array(rows).reshape(len(rows), len(self.is_categorical))
        index: dict[Any, int] = {}
        graphs = [d.graph for d in descendants if d is not None]
        owner = [index.setdefault(graph, len(index)) for graph in graphs]
        return Points(tuple(index), np.array(owner or np.zeros(len(rows)), dtype=int), z)


@dataclass(frozen=True)
class _Model:
    """The acquisition over architectures and hyperparameters."""

    task: Task
    encoder: _Encoder
    surrogate: Surrogate
    acquisition: Acquisition
    seen: frozenset[Key]
    best_points: np.ndarray  # (5, d), hyperparameters of the best observations
    rng: np.random.Generator

    @cached_property
    def few_points(self) -> np.ndarray:
        """The vectors of hyperparameters on which architectures are compared: good ones, near them, anywhere."""
        cube = self.task.cube
        if cube.n_dims == 0:
            return np.empty((1, 0))
        near = cube.perturb(self.best_points[:3], 0.1, self.rng)
        return self._pinned(np.concatenate([self.best_points[:2], near, cube.sample(3, self.rng)]))

    def score(self, descendants: Sequence[Descendant]) -> np.ndarray:
        """Largest acquisition of each architecture over `few_points`, of shape (m,)."""
        if not descendants:
            return np.empty(0)
        scores: np.ndarray = self._acquisition(descendants, self.few_points).max(axis=1)
        return scores

    def may_propose(self, descendant: Descendant) -> bool:
        """Whether an architecture has not been tried, or can be tried with other hyperparameters."""
        return self.task.cube.n_dims > 0 or key_of(descendant, {}) not in self.seen

    def best_hyperparameters(self, descendant: Descendant | None) -> tuple[float, dict[str, Any], bool]:
        """The largest acquisition of an architecture, at which hyperparameters, and whether those are untried.

        Uniform points and neighbours of good ones, then neighbours of the best of these, ever closer.
        """
        cube = self.task.cube
        if cube.n_dims == 0:
            value = float(self._acquisition([descendant], np.empty((1, 0)))[0, 0])
            return value, {}, key_of(descendant, {}) not in self.seen
        near = np.repeat(self.best_points, 20, axis=0)
        points = np.concatenate([self.best_points, cube.sample(128, self.rng), cube.perturb(near, 0.1, self.rng)])
        values, tried = np.empty(0), np.empty((0, cube.n_dims))
        for scale in (0.1, 0.03, 0.01, 0.003):
            points = self._pinned(cube.snap(points))
            values = np.concatenate([values, self._acquisition([descendant], points)[0]])
            tried = np.concatenate([tried, points])
            top = tried[np.argsort(-values, kind="stable")[:8]]
            points = cube.perturb(np.repeat(top, 8, axis=0), scale, self.rng)
        order = np.argsort(-values, kind="stable")
        for i in order:
            params = cube.decode(tried[i])
            if key_of(descendant, params) not in self.seen:
                return float(values[i]), params, True
        return float(values[order[0]]), cube.decode(tried[order[0]]), False

    def _pinned(self, points: np.ndarray) -> np.ndarray:
        """Points with the decided hyperparameters in place."""
        points = points.copy()
        for i, (name, distribution) in enumerate(self.task.cube.distributions.items()):
            if name in self.task.fixed:
                points[:, i] = Cube({name: distribution}).encode(self.task.fixed)
        return points

    def _acquisition(self, descendants: Sequence[Descendant | None], points: np.ndarray) -> np.ndarray:  # (m, p)
        mean, variance = self.surrogate.predict(self.encoder.product(descendants, points))
        values = self.acquisition(mean, variance, self.surrogate.best)
        return values.reshape(len(descendants), len(points))
