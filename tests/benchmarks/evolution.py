"""Regularized evolution, the baseline that a surrogate has to beat.

Real, Aggarwal, Huang and Le, Regularized Evolution for Image Classifier Architecture Search, AAAI 2019, Algorithm 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_nas_morph import CellSpace, LabelledGraph, encoding, lineage
from optuna_nas_morph.hyperparameters import Cube
from optuna_nas_morph.spaces import Descendant

_N_DRAWS = 100


class RegularizedEvolutionSampler(BaseSampler):
    """Aging evolution over architectures: of the latest trials some compete, and the winner has a child.

    In a closed space, and where an objective has only categorical parameters named ``arch/<choice>``, a child makes one
    choice differently. In an open one it takes one random morphism more; where its chain is as long as it may be, its
    last morphism is drawn anew. Other numbers move by normal noise in the unit cube, about one other choice in every d
    is drawn anew.

    Nothing is kept on the sampler: the population is the last ``population_size`` trials to be completed. Running
    trials count for the first population, so that workers do not draw more of it than they should.

    Args:
        population_size:
            How many trials live: P of the paper.
        sample_size:
            How many compete, drawn with replacement: S of the paper.
        backtrack:
            In an open space, how likely a child takes its parent's last morphism back before it draws its own, so that
            a population can leave what it has grown into. 0 is the pure algorithm.
        scale:
            Standard deviation of the noise on numbers.
        seed:
            Seed of everything that is drawn.
    """

    def __init__(
        self,
        population_size: int = 10,
        sample_size: int = 10,
        seed: int | None = None,
        *,
        backtrack: float = 0.0,
        scale: float = 0.1,
    ) -> None:
        self._population_size = population_size
        self._sample_size = sample_size
        self._backtrack = backtrack
        self._scale = scale
        self._seed = int(np.random.default_rng().integers(2**31)) if seed is None else seed
        self._random = RandomSampler(seed=self._seed)

    def reseed_rng(self) -> None:
        self._random.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Everything that a trial can need: also what only some trials have had."""
        space = lineage.space_of(study)
        result: dict[str, BaseDistribution] = {} if space is None else encoding.distributions(space)
        for other in study._get_trials(deepcopy=False, states=(TrialState.COMPLETE,), use_cache=True):
            result |= {
                k: d for k, d in other.distributions.items() if space is None or not k.startswith(encoding.PREFIX)
            }
        return result

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if len(study.directions) > 1:
            raise ValueError(f"study must have one objective but has {len(study.directions)}.")
        space = lineage.space_of(study) or _space_of_choices(search_space)
        rng = np.random.default_rng([self._seed, trial.number])
        states = (TrialState.COMPLETE, TrialState.RUNNING)
        trials = study._get_trials(deepcopy=False, states=states, use_cache=False)
        begun = [t for t in trials if t.number != trial.number]
        completed = [t for t in begun if t.state == TrialState.COMPLETE]
        if len(begun) < self._population_size or not completed:
            if space is None:
                return {}
            first = isinstance(space.first(rng), Descendant) and trial.number == 0
            return encoding.encode(space, space.first(rng) if first else space.random(rng))
        parent = self._parent(completed, study.direction, rng)
        child = self._moved(parent, rng)
        if space is not None:
            child.update(encoding.encode(space, self._mutated(space, parent, rng)))
        return {name: value for name, value in child.items() if name in search_space}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The first population's hyperparameters, and those that the parent did not have."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _parent(self, completed: list[FrozenTrial], direction: StudyDirection, rng: np.random.Generator) -> FrozenTrial:
        completed = sorted(completed, key=lambda t: (t.datetime_complete, t.number))
        population = completed[-self._population_size :]
        sample = [population[int(rng.integers(len(population)))] for _ in range(self._sample_size)]
        return (min if direction == StudyDirection.MINIMIZE else max)(sample, key=lambda t: t.value)

    def _mutated(self, space: encoding.AnySpace, parent: FrozenTrial, rng: np.random.Generator) -> encoding.Member:
        """A neighbour of a trial's architecture; another random one if draw after draw leads nowhere."""
        member = encoding.decode(space, parent.params)
        back = isinstance(member, Descendant) and (
            len(member.steps) == space.max_morphisms or rng.random() < self._backtrack
        )
        if back and member.steps:
            member = Descendant(member.steps[:-1], space.trace(member.steps)[-2])
        for _ in range(_N_DRAWS):
            child = space.random_child(member, rng)
            if child is not None:
                return child
        return space.random(rng)

    def _moved(self, parent: FrozenTrial, rng: np.random.Generator) -> dict[str, Any]:
        """Hyperparameters near a trial's."""
        cube = Cube({k: d for k, d in parent.distributions.items() if not k.startswith(encoding.PREFIX)})
        return cube.decode(cube.perturb(cube.encode(parent.params)[None], self._scale, rng)[0])


def _space_of_choices(search_space: dict[str, BaseDistribution]) -> CellSpace | None:
    """The closed space that categorical parameters ``arch/<choice>`` span, where none was declared."""
    n = len(encoding.PREFIX)
    choices = {
        name[n:]: distribution.choices
        for name, distribution in search_space.items()
        if name.startswith(encoding.PREFIX) and isinstance(distribution, CategoricalDistribution)
    }
    return CellSpace(choices, lambda _: LabelledGraph((), ())) if choices else None
