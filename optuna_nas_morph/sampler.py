"""The sampler: glue between a study and a proposal."""

from __future__ import annotations

import math
import threading
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_nas_morph import encoding, kernels, lineage, memory
from optuna_nas_morph.acquisition import Acquisition, ThompsonSampling
from optuna_nas_morph.ahead import Ahead
from optuna_nas_morph.capacity import Device
from optuna_nas_morph.encoding import AnySpace
from optuna_nas_morph.errors import EncodingError
from optuna_nas_morph.history import History, HistoryReader, write_claim
from optuna_nas_morph.hyperparameters import Cube
from optuna_nas_morph.lineage import Kind
from optuna_nas_morph.search import Search
from optuna_nas_morph.spaces import Descendant

if TYPE_CHECKING:
    import grakel

    from optuna_nas_morph.prior import Prior
    from optuna_nas_morph.proposal import Proposal, Settings, Task


N_CLAIMS = 3
"""Proposals at most for one trial, where other workers claim the same at the same moment."""

N_STARTUP_AFTER_PRIORS = 3
"""Trials before the first proposal of a sampler with prior studies."""


class MorphBOSampler(BaseSampler):
    """Bayesian optimisation over architectures and hyperparameters.

    Architectures come from `suggest_architecture` or `suggest_network`, whose space the sampler reads from the study. A
    Gaussian process with a Weisfeiler-Lehman graph kernel (NAS-BOWL, Ru et al., 2021) on architectures and a Matern
    kernel on hyperparameters is fitted to the finished trials; the proposal has the largest acquisition found, in an
    open space by a tree-structured search over morphisms from every architecture that was evaluated (Auto-Keras, Jin et
    al., 2019).
    Running trials of all workers are taken into account, and nothing is proposed twice.

    Hyperparameters that the objective suggests, before or after the architecture, are modelled jointly with it, also
    those that it asks for under a condition. Without an architecture in the objective it is a Gaussian-process sampler
    for ordinary parameters.

    Of several objectives the hypervolume is improved. Constraints that trials have set
    (:meth:`optuna.trial.Trial.set_constraint`) are modelled, and proposals are likely to keep to them. A pruned trial
    counts with what it would have come to, judging by the others from its last step on.

    Nothing that is fitted is kept as truth on the sampler: everything is derived from the storage at each proposal, so
    that studies can be resumed and shared by processes.

    Args:
        kernel:
            A graph kernel of GraKeL's; by default `optuna_nas_morph.kernels.WeisfeilerLehman`.
        acquisition:
            The acquisition function; by default `optuna_nas_morph.acquisition.LogExpectedImprovement`, and with several
            objectives `optuna_nas_morph.acquisition.LogExpectedHypervolumeImprovement`. With one given, several
            objectives are scalarised with random weights (ParEGO).
        search:
            How architectures are searched (`optuna_nas_morph.search`). By default `TreeSearch` in a `MorphSpace`, in
            turns with `RandomSearch` where no training is inherited; in a `CellSpace` every cell is looked at, or where
            those are too many, `NeighbourSearch`.
        n_startup_trials:
            Trials before the surrogate is used. The first is the seed architecture, the others are random chains of
            morphisms of any length; hyperparameters are drawn by ``independent_sampler``.
        seed:
            Seed of everything that is drawn. A proposal depends on it, on the number of the trial, and on the history.
        independent_sampler:
            Draws the hyperparameters of startup trials, and those that not every trial has had (conditional ones). By
            default uniformly, by the seed, the number of the trial and the name of the parameter.
        deterministic_objective:
            Whether the objective has no noise.
        warn_independent_sampling:
            Whether to warn when a hyperparameter is drawn by ``independent_sampler`` after the startup.
        device:
            Where this worker trains, such as ``"cuda:1"``; by default on the current GPU, or without one on the CPU.
            If objectives train inside of `optuna_nas_morph.memory.guard`, only what fits into its memory is proposed.
        max_staleness:
            How many results a proposal may lack. With 0 a proposal is made when it is asked for. With 1 or more the
            next one is computed on the CPU while the objective trains (on a GPU): it then lacks the result of that
            trial, which counts as running, and those that other workers have brought meanwhile; where these are more
            than allowed, it is made anew when it is asked for. For ``w`` workers, ``max_staleness=w`` keeps all of them
            from waiting.
        control_share:
            Share of the trials after the startup that are controls, in a study whose children inherit weights: an
            earlier trial continued (its architecture and hyperparameters, trained on), and in turn an earlier trial
            afresh (without what it had inherited). They tell the surrogate apart how good an architecture is and how
            long its ancestors were trained; see `optuna_nas_morph.lineage.Kind`. The number of a trial decides whether
            it is one. With 0 there are none.
        prior_studies:
            Finished studies of other tasks, to start from what they say: of the same space, or of another whose
            architectures have parts in common. Directions may differ, the number of objectives may not. The objective
            of this study is thought to follow theirs as far as its own trials show that it does, see
            `optuna_nas_morph.prior`; theirs are read once, before the first trial. At most 3 trials are
            startup trials then.
    """

    def __init__(
        self,
        *,
        kernel: grakel.Kernel | None = None,
        acquisition: Acquisition | ThompsonSampling | None = None,
        search: Search | None = None,
        n_startup_trials: int = 10,
        seed: int | None = None,
        independent_sampler: BaseSampler | None = None,
        deterministic_objective: bool = False,
        warn_independent_sampling: bool = True,
        device: Device | str | None = None,
        max_staleness: int = 0,
        control_share: float = 0.1,
        prior_studies: Sequence[Study] = (),
    ) -> None:
        if type(n_startup_trials) is not int or n_startup_trials < 0:
            raise ValueError(f"n_startup_trials must be a non-negative integer but got {n_startup_trials!r}.")
        if type(max_staleness) is not int or max_staleness < 0:
            raise ValueError(f"max_staleness must be a non-negative integer but got {max_staleness!r}.")
        if isinstance(control_share, bool) or not 0 <= control_share <= 0.5:
            raise ValueError(f"control_share must be a number from 0 to 0.5 but got {control_share!r}.")
        if seed is not None and (type(seed) is not int or seed < 0):
            raise ValueError(f"seed must be a non-negative integer or None but got {seed!r}.")
        if kernel is not None:
            kernels.check_kernel(kernel)
        known = isinstance(acquisition, ThompsonSampling) or callable(acquisition)
        if acquisition is not None and (not known or isinstance(acquisition, type)):
            raise TypeError(f"acquisition must be an acquisition function or None but got {acquisition!r}.")
        if search is not None and (not callable(search) or isinstance(search, type)):
            raise TypeError(f"search must be a search, such as TreeSearch(), or None but got {search!r}.")
        if independent_sampler is not None and not isinstance(independent_sampler, BaseSampler):
            raise TypeError(f"independent_sampler must be an Optuna sampler or None but got {independent_sampler!r}.")
        if device is not None and not isinstance(device, Device | str):
            raise TypeError(f"device must be the name of a device, such as 'cuda:1', or None but got {device!r}.")
        self.seed = int(np.random.default_rng().integers(2**31)) if seed is None else seed
        self._kernel = kernel
        self._acquisition = acquisition
        self._search = search
        self._n_startup_trials = n_startup_trials
        self._independent_sampler = independent_sampler
        self._deterministic = deterministic_objective
        self._warn_independent_sampling = warn_independent_sampling
        self._device = device
        self._max_staleness = max_staleness
        self._control_share = control_share
        self._prior_studies = _checked(prior_studies)
        self._reset_caches()

    def _reset_caches(self) -> None:
        """What can be lost at any time: decoded trials, proposals that are prepared, the rest of proposals."""
        self._lock = threading.RLock()
        self._reader = HistoryReader()
        self._ahead = Ahead(self._max_staleness)
        self._conditioned: dict[tuple[int, int], dict[str, Any]] = {}
        self._read_priors: tuple[Prior, ...] | None = None

    def __getstate__(self) -> dict[str, Any]:
        caches = ("_lock", "_reader", "_ahead", "_conditioned", "_read_priors")
        return {name: value for name, value in self.__dict__.items() if name not in caches}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset_caches()

    def reseed_rng(self) -> None:
        """Reseed the independent sampler. Proposals depend on the trial's number and need no reseeding."""
        if self._independent_sampler is not None:
            self._independent_sampler.reseed_rng()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Read the prior studies, whose errors no parameter shall be blamed for; pass on to the independent sampler."""
        self._priors(len(study.directions))
        if self._independent_sampler is not None:
            self._independent_sampler.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Pass on to the independent sampler."""
        self._conditioned.pop((study._study_id, trial._trial_id), None)
        if self._independent_sampler is not None:
            self._independent_sampler.after_trial(study, trial, state, values)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Everything that an architecture can need, and the hyperparameters that all finished trials have had."""
        space = lineage.space_of(study)
        result = {} if space is None else encoding.distributions(space)
        result.update(self._reader.hyperparameters(study))
        return result

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose the architecture and the hyperparameters of a trial together."""
        if not search_space:
            return {}
        hyperparameters = {k: d for k, d in search_space.items() if not k.startswith(encoding.PREFIX)}
        space = lineage.space_of(study) if any(k.startswith(encoding.PREFIX) for k in search_space) else None
        params = self._propose(study, trial, space, hyperparameters)
        return {name: value for name, value in params.items() if name in search_space}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw what `sample_relative` did not propose.

        A parameter of the architecture gets here when the space became known only after the first parameter of the
        trial was asked for, or when others were fixed: then the whole proposal is made again, given what is decided.
        """
        is_architecture = param_name.startswith(encoding.PREFIX)
        if is_architecture:
            value = self._sample_architecture(study, trial, param_name)
            if value is not None:
                return value
        sampler = self._independent_sampler or self._own_draws(trial, param_name)
        if (
            not is_architecture
            and self._warn_independent_sampling
            and self._past_startup(study)
            # Not if it has become known since this trial began: the next trial will have it proposed.
            and self._reader.hyperparameters(study).get(param_name) != param_distribution
        ):
            warnings.warn(
                f"The parameter {param_name!r} of trial {trial.number} is drawn by {type(sampler).__name__}, not by "
                "MorphBOSampler, because not all finished trials have had it. Disable this warning with "
                "warn_independent_sampling=False.",
                stacklevel=2,
            )
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def _own_draws(self, trial: FrozenTrial, name: str) -> RandomSampler:
        """Draws of each parameter of each trial by themselves: workers with one seed do not draw the same."""
        seed = np.random.SeedSequence([self.seed, trial.number, zlib.crc32(name.encode())])
        return RandomSampler(seed=int(seed.generate_state(1)[0]))

    def _sample_architecture(self, study: Study, trial: FrozenTrial, name: str) -> Any:
        """A parameter of the architecture, given all that is decided; :obj:`None` outside of a known space."""
        space = lineage.space_of(study)
        if space is None:
            return None
        key = (study._study_id, trial._trial_id)
        if name not in self._conditioned.get(key, {}):
            self._conditioned[key] = self._propose(study, trial, space, self._reader.hyperparameters(study))
        return self._conditioned[key].get(name)

    def _propose(
        self, study: Study, trial: FrozenTrial, space: AnySpace | None, hyperparameters: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        fixed = {**_fixed_params(study, trial), **trial.params}
        asked = {k: d for k, d in self._reader.hyperparameters(study).items() if k in fixed}
        modelled = {**asked, **hyperparameters}
        fixed = {k: v for k, v in fixed.items() if k not in modelled or Cube({k: modelled[k]}).contains({k: v})}
        signs = tuple(-1.0 if d == StudyDirection.MINIMIZE else 1.0 for d in study.directions)
        # Imported when first used, with scipy behind it, so that importing this package stays quick.
        from optuna_nas_morph.proposal import Task

        task = Task(space, Cube(modelled), fixed, signs)
        requested = recorded = lineage.kind_of(trial)
        with self._lock:
            for attempt in range(N_CLAIMS):
                history = self._read(study, space, trial.number)
                task = self._within_memory(task, history)
                control = self._control(task, history, trial.number, requested)
                prepared = self._prepared(study, task, history) if attempt == 0 and control is None else None
                try:
                    rng = np.random.default_rng([self.seed, trial.number])
                    proposal = control or prepared or self._propose_once(task, history, rng)
                except EncodingError as e:
                    raise EncodingError(f"trial {trial.number} cannot be proposed: {e}") from e
                if not proposal.params:
                    break
                params = {**proposal.params, **fixed}
                kind = requested if proposal.kind == Kind.SEARCH else proposal.kind
                if kind != recorded:  # Before the claim, which shows it to other workers.
                    lineage.record_kind(study._storage, trial._trial_id, kind)
                    recorded = kind
                write_claim(study._storage, trial._trial_id, params)
                if space is None:
                    break
                # Of two workers that claim the same at once, each writes before it reads, so one sees the other's
                # claim at least, and proposes anew.
                known = {o.key for o in history.observations}
                rivals = {o.key for o in self._read(study, space, trial.number).observations} - known
                if self._reader.key(space, params, trial.distributions, kind) not in rivals:
                    break
            self._prepare(study, trial.number, Task(space, Cube(hyperparameters), {}, signs))
        return {**proposal.spare, **proposal.params}

    def _control(self, task: Task, history: History, number: int, requested: Kind) -> Proposal | None:
        """A control, if this trial is to be one: as requested, else by its number, which all workers agree on."""
        from optuna_nas_morph.proposal import propose_control

        inherits = any(o.inherits for o in history.observations)
        if task.fixed or (requested == Kind.SEARCH and (not inherits or self._is_startup(task, history))):
            return None
        kind = requested if requested != Kind.SEARCH else scheduled_kind(number, self._control_share)
        if kind == Kind.SEARCH:
            return None
        return propose_control(task, history.observations, kind, np.random.default_rng([self.seed, number, 2]))

    def _read(self, study: Study, space: AnySpace | None, except_number: int) -> History:
        """The history as it looks from the device of this worker."""
        history = self._reader.read(study, space, except_number)
        return history.seen_from(self._own_device()) if history.memory_facts else history

    def _within_memory(self, task: Task, history: History) -> Task:
        """The task, bounded by the memory of this worker's device. Of a cell nobody knows what memory it takes."""
        if not history.memory_facts:
            return task
        fits = memory.fits(history.memory_facts, self._own_device())
        return replace(task, fits=lambda member: not isinstance(member, Descendant) or fits(member.architecture))

    def _own_device(self) -> Device:
        """Where this worker trains."""
        if isinstance(self._device, Device):
            return self._device
        return memory.current_device() if self._device is None else memory.describe(self._device)

    def _prepare(self, study: Study, number: int, task: Task) -> None:
        """Begin to compute the proposal that follows a trial, which counts as running."""
        if self._ahead.max_staleness == 0:
            return
        history = self._read(study, task.space, -1)
        task = self._within_memory(task, history)
        if self._is_startup(task, history):
            return
        rng = np.random.default_rng([self.seed, number, 1])
        n_results = sum(o.state.is_finished() for o in history.observations)
        self._ahead.prepare(study._study_id, task, n_results, lambda: self._propose_once(task, history, rng))

    def _prepared(self, study: Study, task: Task, history: History) -> Proposal | None:
        """The proposal prepared for this trial, if it may be used: it is not too old, and no one has made it his."""
        n_results = sum(o.state.is_finished() for o in history.observations)
        proposal = self._ahead.take(study._study_id, task, n_results)
        if proposal is None:
            return None
        key = self._reader.key(task.space, proposal.params, task.cube.distributions)
        if key in {o.key for o in history.observations}:
            return None
        is_too_large = task.space is not None and not task.fits(encoding.decode(task.space, proposal.params))
        return None if is_too_large else proposal

    def _is_startup(self, task: Task, history: History) -> bool:
        usable = (o for o in history.observations if task.cube.contains(o.hyperparameters))
        return sum(o.values is not None for o in usable) < self._n_startup

    @property
    def _n_startup(self) -> int:
        """Values to wait for: where earlier studies say where to look, those that show whether they are right."""
        most = N_STARTUP_AFTER_PRIORS if self._prior_studies else self._n_startup_trials
        return max(1, min(self._n_startup_trials, most))

    def _propose_once(self, task: Task, history: History, rng: np.random.Generator) -> Proposal:
        from optuna_nas_morph.proposal import propose, propose_startup

        observations = history.observations
        if self._is_startup(task, history):
            return propose_startup(task, observations, rng)
        return propose(task, observations, self._proposal_settings(len(task.signs)), rng)

    def _proposal_settings(self, n_objectives: int) -> Settings:
        """How it proposes."""
        from optuna_nas_morph.proposal import Settings

        priors = self._priors(n_objectives)
        return Settings(self._graph_kernel(), self._acquisition, self._search, self._deterministic, priors)

    def _priors(self, n_objectives: int) -> tuple[Prior, ...]:
        from optuna_nas_morph.prior import read_prior

        if self._read_priors is None:
            self._read_priors = tuple(read_prior(study, n_objectives) for study in self._prior_studies)
        return self._read_priors

    def _graph_kernel(self) -> Any:
        if self._kernel is None:
            self._kernel = kernels.WeisfeilerLehman()
        return self._kernel

    def _past_startup(self, study: Study) -> bool:
        finished = study._get_trials(deepcopy=False, states=(TrialState.COMPLETE,), use_cache=True)
        return len(finished) >= self._n_startup


def scheduled_kind(number: int, share: float) -> Kind:
    """Whether the trial of a number is a control, and which: a share of all, evenly spread, both kinds in turn."""
    n_before, n = math.floor(number * share), math.floor((number + 1) * share)
    if n == n_before:
        return Kind.SEARCH
    return Kind.CONTINUED if n % 2 else Kind.FRESH


def _checked(studies: Sequence[Study]) -> tuple[Study, ...]:
    """Prior studies, if each has something to say."""
    if not isinstance(studies, Sequence) or not all(isinstance(study, Study) for study in studies):
        raise TypeError(f"prior_studies must be a sequence of optuna.Study but got {studies!r}.")
    for study in studies:
        values = {tuple(t.values) for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
        if len(values) < 2:
            raise ValueError(
                "prior_studies must hold studies with completed trials of at least two different values but "
                f"{study.study_name!r} has {len(values)}."
            )
    return tuple(studies)


def _fixed_params(study: Study, trial: FrozenTrial) -> dict[str, Any]:
    """What was enqueued for a trial, and what a `optuna.samplers.PartialFixedSampler` fixes."""
    fixed: dict[str, Any] = {}
    sampler: Any = study.sampler
    while hasattr(sampler, "_base_sampler"):
        fixed.update(sampler._fixed_params)
        sampler = sampler._base_sampler
    fixed.update(trial.system_attrs.get("fixed_params", {}))
    return fixed
