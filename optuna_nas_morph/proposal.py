"""One ask: from a history to the parameters of the next trial. Pure functions of their arguments."""

from __future__ import annotations

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
from optuna_nas_morph.encoder import Encoder
from optuna_nas_morph.encoding import AnySpace, Member
from optuna_nas_morph.history import Key, Observation, key_of
from optuna_nas_morph.hyperparameters import Cube
from optuna_nas_morph.lineage import Kind
from optuna_nas_morph.prior import Prior
from optuna_nas_morph.search import Search, default_search, random_walk
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
    priors: Sequence[Prior] = ()


@dataclass(frozen=True)
class Proposal:
    """Parameters that are not decided yet, as plain Python scalars.

    Attributes:
        params:
            What the trial is going to be.
        spare:
            Hyperparameters that it is not expected to ask for, should it ask nevertheless.
        kind:
            What it is for.
    """

    params: Mapping[str, Any]
    spare: Mapping[str, Any]
    kind: Kind = Kind.SEARCH


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


def propose_control(
    task: Task, history: Sequence[Observation], kind: Kind, rng: np.random.Generator
) -> Proposal | None:
    """A trial that was evaluated, again, with more training behind it or with less.

    Which one is drawn uniformly from the better half of those that can be: what is believed of good lineages matters
    most, and always the best one would say nothing of the others.

    Args:
        task:
            What is asked for.
        history:
            What the study knows.
        kind:
            Continued: of trials that have published weights. Fresh: of trials that have inherited weights.
        rng:
            Source of randomness.

    Returns:
        :obj:`None` where there is no such trial of which this was not done before.
    """
    seen = {o.key for o in history}
    pool = [
        o
        for o in history
        if o.state == TrialState.COMPLETE
        and o.values is not None
        and (o.is_donor if kind == Kind.CONTINUED else o.inherits)
        and task.cube.contains(o.hyperparameters)
        and o.member is not None
        and task.fits(o.member)
        and key_of(o.member, o.hyperparameters, kind) not in seen
    ]
    if task.space is None or not pool:
        return None
    best_first = np.argsort(-ranking([o.values for o in pool], task.signs), kind="stable")
    chosen = pool[best_first[int(rng.integers((len(pool) + 1) // 2))]]
    assert chosen.member is not None
    return Proposal({**encoding.encode(task.space, chosen.member), **chosen.hyperparameters}, {}, kind)


def predict_finished(
    task: Task, history: Sequence[Observation], settings: Settings, rng: np.random.Generator
) -> tuple[list[Observation], np.ndarray]:
    """What the surrogate says of finished trials at one reference training, whatever is behind their own weights.

    Args:
        task:
            As for `propose`; nothing is decided.
        history:
            What the study knows; at least one observation has values.
        settings:
            How.
        rng:
            Source of randomness.

    Returns:
        Observations, and per objective the predicted means on the scale of its targets, larger is better, (k, n).
    """
    observed, _, running = _known(task, history)
    encoder = Encoder.of(task.space, task.cube, observed)
    belief = _believe(task, settings, encoder, observed, running, rng)
    means, _ = belief.surrogate.predict(encoder.points_of(observed, encoder.reference))
    return observed, means[: len(task.signs)]


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
    observed, order, running = _known(task, history)
    encoder = Encoder.of(task.space, task.cube, observed)
    belief = _believe(task, settings, encoder, observed, running, rng)
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


def _known(task: Task, history: Sequence[Observation]) -> tuple[list[Observation], np.ndarray, list[Observation]]:
    """Finished trials that the surrogate is fitted to, by how much they are better, and those that are running."""
    usable = [o for o in history if task.cube.contains(o.hyperparameters)]
    observed = [o for o in usable if o.state.is_finished() and (o.values is not None or o.constraints)]
    order = ranking([o.values for o in observed], task.signs)
    kept = best_and_latest(order, MAX_OBSERVATIONS)
    return [observed[i] for i in kept], order[kept], [o for o in usable if o.state == TrialState.RUNNING]


def _believe(
    task: Task,
    settings: Settings,
    encoder: Encoder,
    observed: Sequence[Observation],
    running: Sequence[Observation],
    rng: np.random.Generator,
) -> Belief:
    return believe(
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
        means=[means for prior in settings.priors if (means := prior.means(encoder, settings.kernel))],
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


@dataclass(frozen=True)
class _Model:
    """The acquisition over architectures and hyperparameters."""

    task: Task
    encoder: Encoder
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
