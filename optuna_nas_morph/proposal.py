"""One ask: from a history to the parameters of the next trial. Pure functions of their arguments."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from optuna.trial import TrialState

from optuna_nas_morph import encoding
from optuna_nas_morph.acquisition import Acquisition, ThompsonSampling
from optuna_nas_morph.belief import Belief, believe
from optuna_nas_morph.encoding import AnySpace, Member
from optuna_nas_morph.history import Key, Observation, key_of
from optuna_nas_morph.hyperparameters import Conditions, Cube
from optuna_nas_morph.search import Search, default_search, random_walk
from optuna_nas_morph.surrogate import Points
from optuna_nas_morph.targets import best_and_latest, ranking

MAX_OBSERVATIONS = 1000
"""Observations that the surrogate is fitted to; of more, the best half of that number and the latest are kept."""

N_REFINED = 5
"""Architectures whose hyperparameters are searched closely, once architectures have been ranked."""

N_STARTUP_DRAWS = 64
"""Random architectures at most until one is new."""

N_WALKS = 300
"""Architectures drawn where a part of their parameters is decided."""


@dataclass(frozen=True)
class Task:
    """What is asked for.

    Attributes:
        space:
            The space; :obj:`None` in a study without one.
        cube:
            Hyperparameters that are modelled.
        fixed:
            Parameters that are decided already (enqueued, fixed, or suggested before).
        signs:
            Per objective, 1 to maximise and -1 to minimise.
        fits:
            Whether the worker that asks can train a member of the space.
    """

    space: AnySpace | None
    cube: Cube
    fixed: Mapping[str, Any]
    signs: tuple[float, ...]
    fits: Callable[[Member], bool] = lambda _: True

    @property
    def fixed_architecture(self) -> dict[str, Any]:
        """Decided parameters of the architecture."""
        return {k: v for k, v in self.fixed.items() if k.startswith(encoding.PREFIX)}


@dataclass(frozen=True)
class Settings:
    """How proposals are made, see `MorphBOSampler`."""

    kernel: Any
    acquisition: Acquisition | ThompsonSampling | None
    search: Search | None
    deterministic: bool


@dataclass(frozen=True)
class Proposal:
    """Parameters that are not decided yet, as plain Python scalars.

    Attributes:
        params:
            What the trial is going to be.
        spare:
            Hyperparameters that it is not expected to ask for, should it ask nevertheless.
    """

    params: Mapping[str, Any]
    spare: Mapping[str, Any]


def propose_startup(task: Task, history: Sequence[Observation], rng: np.random.Generator) -> Proposal:
    """The first member of the space, then random ones that fit; no hyperparameters."""
    space = task.space
    if space is None:
        return Proposal({}, {})
    seen = {o.member.fingerprint for o in history if o.member is not None}
    member = space.random(rng) if seen else space.first(rng)
    params: dict[str, Any] | None = None
    for _ in range(N_STARTUP_DRAWS):
        drawn, member = encoding.complete(space, member, task.fixed_architecture, rng)
        if task.fits(member):
            params = drawn
            if member.fingerprint not in seen:
                break
        member = space.random(rng)
    if params is None:  # Next to nothing fits: what a search starts with is the smallest.
        params, _ = encoding.complete(space, space.first(rng), task.fixed_architecture, rng)
    return Proposal({name: value for name, value in params.items() if name not in task.fixed}, {})


def propose(task: Task, history: Sequence[Observation], settings: Settings, rng: np.random.Generator) -> Proposal:
    """The point with the largest acquisition that has not been tried.

    Args:
        task:
            What is asked for.
        history:
            What the study knows; at least one observation has values.
        settings:
            How.
        rng:
            Source of randomness.
    """
    usable = [o for o in history if task.cube.contains(o.hyperparameters)]
    observed = [o for o in usable if o.state.is_finished() and (o.values is not None or o.constraints)]
    order = ranking([o.values for o in observed], task.signs)
    kept = best_and_latest(order, MAX_OBSERVATIONS)
    observed, order = [observed[i] for i in kept], order[kept]
    running = [o for o in usable if o.state == TrialState.RUNNING]

    encoder = _Encoder.of(task, observed)
    belief = believe(
        observed,
        encoder.points_of(observed),
        encoder.points_of(running),
        encoder.points_of(observed, encoder.reference).z,
        encoder.is_categorical,
        signs=task.signs,
        kernel=settings.kernel,
        acquisition=settings.acquisition,
        deterministic=settings.deterministic,
        rng=rng,
    )
    best_first = [observed[i] for i in np.argsort(-order, kind="stable")]
    good = encoder.filled(np.array([task.cube.encode(o.hyperparameters) for o in best_first[:5]]))
    model = _Model(task, encoder, belief, frozenset(o.key for o in history), good, rng)
    if task.space is None:
        _, params, spare, _ = model.best_hyperparameters(None)
    else:
        members = [o.member for o in best_first if o.member is not None]
        if task.space.size is None:
            members.append(task.space.first(rng))
        members = [member for member in members if task.fits(member)] or members
        params, spare = _best_architecture(task, task.space, _distinct(members), model, settings.search, rng)
    decided = task.fixed.keys()
    return Proposal(
        {name: value for name, value in params.items() if name not in decided},
        {name: value for name, value in spare.items() if name not in decided},
    )


def _best_architecture(
    task: Task,
    space: AnySpace,
    roots: Sequence[Member],
    model: _Model,
    search: Search | None,
    rng: np.random.Generator,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters of the best architecture with its best hyperparameters."""
    encodings: dict[str, dict[str, Any]] = {}
    if task.fixed_architecture:
        pool: list[Member] = []
        for _ in range(N_WALKS):
            start = random_walk(space, roots[int(rng.integers(len(roots)))], int(rng.integers(3)), rng)
            params, member = encoding.complete(space, start, task.fixed_architecture, rng)
            if member.fingerprint not in encodings:
                encodings[member.fingerprint] = params
                pool.append(member)
        order = np.argsort(-model.score(pool), kind="stable")
        best = sorted((pool[i] for i in order), key=lambda m: not model.may_propose(m))  # stable: untried ones first
    else:
        n_covariances = len(model.few_points) * model.belief.n_covariances
        search = search or default_search(space, n_covariances, inherits=model.encoder.reference is not None)
        found = search(space, roots, model.score, model.may_propose, rng)
        known = [root for root in roots if model.may_propose(root)]
        found += list(zip(map(float, model.score(known)), known, strict=True))
        # Of two members that compute the same, such as one that was evaluated and found again, one is enough.
        best = _distinct(member for _, member in sorted(found, key=lambda pair: -pair[0]))
    if not best:
        # Every architecture within reach has been tried.
        best = [roots[i] for i in np.argsort(-model.score(roots), kind="stable")]
    options: list[tuple[tuple[float, dict[str, Any], dict[str, Any], bool], Member]] = []
    for i, member in enumerate(best):
        if i >= N_REFINED and any(is_new for (*_, is_new), _ in options):
            break
        options.append((model.best_hyperparameters(member), member))
    (_, hyperparameters, spare, is_new), member = max(options, key=lambda option: (option[0][3], option[0][0]))
    if not is_new:
        warnings.warn("Everything within reach in this space has been tried: a trial is repeated.", stacklevel=2)
    architecture = encodings.get(member.fingerprint) or encoding.encode(space, member)
    return {**architecture, **hyperparameters}, spare


def _distinct(members: Iterable[Member]) -> list[Member]:
    """The first of each fingerprint."""
    found: dict[str, Member] = {}
    for member in members:
        found.setdefault(member.fingerprint, member)
    return list(found.values())


# Points.


def training_feature(epochs: float | None) -> float:
    """Effective epochs on a logarithmic scale; 0 where nothing is known."""
    return math.log1p(epochs or 0.0) / math.log(1000.0)


@dataclass(frozen=True)
class _Encoder:
    """Turns architectures and hyperparameters into points of the surrogate.

    A vector is: hyperparameters in the unit cube, for each conditional one whether it is asked for, features of the
    architecture, and the training behind its weights (where that is known of any). Candidates are predicted at one
    reference training, so that an old lineage is not mistaken for a good architecture.
    """

    space: AnySpace | None
    cube: Cube
    conditions: Conditions
    reference: float | None

    @staticmethod
    def of(task: Task, observed: Sequence[Observation]) -> _Encoder:
        points = np.array([task.cube.encode(o.hyperparameters) for o in observed]).reshape(len(observed), -1)
        members = [o.member for o in observed]
        known = [o.epochs for o in observed if o.epochs is not None]
        reference = training_feature(float(np.median(known))) if known else None
        return _Encoder(task.space, task.cube, Conditions(task.cube, points, _features(task.space, members)), reference)

    @property
    def is_categorical(self) -> np.ndarray:
        flags = np.ones(len(self.conditions.conditional), dtype=bool)
        of_space = np.array(() if self.space is None else self.space.feature_is_categorical, dtype=bool)
        training = np.zeros(int(self.reference is not None), dtype=bool)
        return np.concatenate([self.cube.is_categorical, flags, of_space, training])

    def filled(self, points: np.ndarray) -> np.ndarray:
        """Vectors of hyperparameters with the middle where one was not asked for."""
        return np.where(np.isnan(points), np.where(self.cube.is_categorical, 0.0, 0.5), points)

    def points_of(self, observations: Sequence[Observation], training: float | None = None) -> Points:
        """Observations as they are, or as if all had had one training."""
        points = np.array([self.cube.encode(o.hyperparameters) for o in observations])
        points = points.reshape(len(observations), self.cube.n_dims)
        epochs = [training_feature(o.epochs) if training is None else training for o in observations]
        return self._points([o.member for o in observations], points, np.array(epochs))

    def product(self, members: Sequence[Member | None], points: np.ndarray) -> tuple[np.ndarray, Points]:
        """Every architecture with every vector of hyperparameters, architecture by architecture.

        Returns:
            The vectors, NaN where a hyperparameter would not be asked for, of shape (m * p, d); and the points.
        """
        every = [member for member in members for _ in points]
        tiled = np.tile(points, (len(members), 1))
        if len(self.conditions.conditional):
            tiled = self.conditions.apply(tiled, _features(self.space, every))
        return tiled, self._points(every, tiled, np.full(len(every), self.reference or 0.0))

    def _points(self, members: Sequence[Member | None], points: np.ndarray, training: np.ndarray) -> Points:
        parts = [self.conditions.expand(points), _features(self.space, members)]
        if self.reference is not None:
            parts.append(training[:, None])
        index: dict[Any, int] = {}
        owner = [index.setdefault(member.graph, len(index)) for member in members if member is not None]
        z = np.concatenate(parts, axis=1)
        return Points(tuple(index), np.array(owner or np.zeros(len(members)), dtype=int), z)


def _features(space: AnySpace | None, members: Sequence[Member | None]) -> np.ndarray:
    """Features of architectures, of shape (n, f)."""
    n_features = 0 if space is None else len(space.feature_is_categorical)
    compute: Callable[[Any], tuple[float, ...]] = (lambda _: ()) if space is None else space.features
    return np.array([compute(member) for member in members], dtype=float).reshape(len(members), n_features)


@dataclass(frozen=True)
class _Model:
    """The acquisition over architectures and hyperparameters."""

    task: Task
    encoder: _Encoder
    belief: Belief
    seen: frozenset[Key]
    good: np.ndarray  # (5, d), hyperparameters of the best observations
    rng: np.random.Generator

    @cached_property
    def few_points(self) -> np.ndarray:
        """The vectors of hyperparameters on which architectures are compared: good ones, near them, anywhere."""
        cube = self.task.cube
        if cube.n_dims == 0:
            return np.empty((1, 0))
        near = cube.perturb(self.good[:3], 0.1, self.rng)
        return self._pinned(np.concatenate([self.good[:2], near, cube.sample(3, self.rng)]))

    def score(self, members: Sequence[Member]) -> np.ndarray:
        """Largest acquisition of each architecture over `few_points`, of shape (m,)."""
        if not members:
            return np.empty(0)
        _, points = self.encoder.product(members, self.few_points)
        scores: np.ndarray = self.belief.acquisition(points).reshape(len(members), -1).max(axis=1)
        return scores

    def may_propose(self, member: Member) -> bool:
        """Whether an architecture fits, and has not been tried or can be tried with other hyperparameters."""
        return (self.task.cube.n_dims > 0 or key_of(member, {}) not in self.seen) and self.task.fits(member)

    def best_hyperparameters(self, member: Member | None) -> tuple[float, dict[str, Any], dict[str, Any], bool]:
        """The largest acquisition of an architecture, at which hyperparameters, and whether those are untried.

        Uniform points and neighbours of good ones, then neighbours of the best of these, ever closer.

        Returns:
            The value, the hyperparameters that will be asked for, those that will not, and whether they are untried.
        """
        cube = self.task.cube
        if cube.n_dims == 0:
            _, point = self.encoder.product([member], np.empty((1, 0)))
            return float(self.belief.acquisition(point)[0]), {}, {}, key_of(member, {}) not in self.seen
        near = np.repeat(self.good, 20, axis=0)
        points = np.concatenate([self.good, cube.sample(128, self.rng), cube.perturb(near, 0.1, self.rng)])
        values, tried, asked = np.empty(0), np.empty((0, cube.n_dims)), np.empty((0, cube.n_dims))
        for scale in (0.1, 0.03, 0.01, 0.003):
            points = self._pinned(cube.snap(points))
            masked, at = self.encoder.product([member], points)
            values = np.concatenate([values, self.belief.acquisition(at)])
            tried, asked = np.concatenate([tried, points]), np.concatenate([asked, self._pinned(masked)])
            top = tried[np.argsort(-values, kind="stable")[:8]]
            points = cube.perturb(np.repeat(top, 8, axis=0), scale, self.rng)
        order = np.argsort(-values, kind="stable")
        new = (i for i in order if key_of(member, cube.decode(asked[i])) not in self.seen)
        i = next(new, None)
        chosen = order[0] if i is None else i
        params = cube.decode(asked[chosen])
        spare = {name: value for name, value in cube.decode(tried[chosen]).items() if name not in params}
        return float(values[chosen]), params, spare, i is not None

    def _pinned(self, points: np.ndarray) -> np.ndarray:
        """Points with the decided hyperparameters in place."""
        points = points.copy()
        for i, (name, distribution) in enumerate(self.task.cube.distributions.items()):
            if name in self.task.fixed:
                points[:, i] = Cube({name: distribution}).encode(self.task.fixed)
        return points
