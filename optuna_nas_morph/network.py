"""What an objective calls: an architecture, a network with inherited weights, and making a trial a donor."""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np
import optuna
import torch
from optuna.samplers import BaseSampler
from optuna.trial import BaseTrial, FrozenTrial
from torch import Tensor, nn

from optuna_nas_morph import lineage
from optuna_nas_morph.encoding.cell import decode as decode_cell
from optuna_nas_morph.encoding.cell import suggest as suggest_cell
from optuna_nas_morph.encoding.morph import decode, suggest
from optuna_nas_morph.errors import (
    StoreError,
    WeightsError,
    WeightsMismatchError,
    WeightsMissingError,
    WeightsNotFiniteError,
)
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import Opaque
from optuna_nas_morph.morphisms import fresh_weights
from optuna_nas_morph.nets import Network, build_layer
from optuna_nas_morph.spaces import CellSpace, Descendant, MorphSpace
from optuna_nas_morph.weights import WeightRecord, WeightStore, optimizers, resolve
from optuna_nas_morph.weights.inherit import check_weights, inherit, inherit_moments
from optuna_nas_morph.weights.moments import Moments, check_moments
from optuna_nas_morph.weights.probe import calibrated, check_probe, drift
from optuna_nas_morph.weights.wrappers import average_of, parameters_of, state_dict_of


@overload
def suggest_architecture(trial: BaseTrial, space: MorphSpace) -> Architecture: ...


@overload
def suggest_architecture(trial: BaseTrial, space: CellSpace) -> dict[str, Any]: ...


def suggest_architecture(trial: BaseTrial, space: MorphSpace | CellSpace) -> Architecture | dict[str, Any]:
    """Suggest an architecture of a space.

    Works with every sampler: the architecture is a few ordinary parameters named ``arch/...``. In a study it also
    records the architecture, its fingerprint and its parent as user attributes of the trial, and the space as one of
    the study. Asking twice in one trial gives the same architecture.

    Args:
        trial:
            A trial of a study, or a :class:`~optuna.trial.FixedTrial` or :class:`~optuna.trial.FrozenTrial`.
        space:
            Where to search. A study has one space.

    Returns:
        The architecture; in a `CellSpace` the choices, by name.

    Raises:
        SpaceMismatchError: If the study was made with another space.
        EncodingError: If a value that was enqueued or fixed is not one that the space knows, or another sampler drew
            a combination that a `CellSpace` does not allow.
    """
    return _suggest_cell(trial, space) if isinstance(space, CellSpace) else _suggest(trial, space)[0].architecture


def suggest_network(
    trial: BaseTrial,
    space: MorphSpace,
    *,
    budget: float | None = None,
    max_inherited_epochs: float | None = None,
    probe: Tensor | Sequence[Tensor] | None = None,
) -> Network:
    """Suggest an architecture and build its network, with the weights of its nearest ancestor.

    The nearest trial on the way from the seed to this architecture that has published weights is the donor; the
    morphisms that are left are replayed on its weights, so that the network computes what the donor's computed. Where
    a donor's weights cannot be used (missing, damaged, another store) the next one is taken, and from scratch after the
    last: noted in the user attribute ``nasmorph:fallback`` and warned of. Donors whose weights were removed to save
    space (`WeightStore.collect`) are passed over in silence.

    A trial whose user attribute ``nasmorph:kind`` is ``"fresh"`` (a control of `MorphBOSampler`, or enqueued so) starts
    from scratch, and so does every trial of a study that `finalize` has made. In a space that has weights
    (`MorphSpace.from_module`) that means from these, with all morphisms replayed.

    What is drawn depends on the sampler's seed (if it is a `MorphBOSampler`; else on the name of the study) and on the
    number of the trial, not on PyTorch's global generator.

    Args:
        trial:
            A trial of a study. For a :class:`~optuna.trial.FixedTrial` or :class:`~optuna.trial.FrozenTrial`, which
            have no study, it starts from scratch.
        space:
            Where to search.
        budget:
            Epochs that this trial is going to train, if known.
        max_inherited_epochs:
            Most training that inherited weights may have behind them: ancestors with more are passed over, and without
            a younger one the network starts from scratch. So no lineage lives on its age alone. By default there is no
            limit. Training that is not recorded counts as none.
        probe:
            A batch of training inputs, of shape ``(samples, *input_shape)``, or one per input of the network. With it,
            batch norms that were inserted since the donor get its statistics (`InsertBatchNorm`), and how far the
            function has moved since is noted in the user attribute ``nasmorph:drift``: the root mean square of the
            differences of outputs over the standard deviation of the donor's outputs. That is rounding, but for
            morphisms that are not exact.

    Returns:
        The network, on the CPU and in train mode; ``network.architecture`` is its architecture.

    Raises:
        SpaceMismatchError: If the study was made with another space.
        EncodingError: If a value that was enqueued or fixed is not one that the space knows.
        StoreError: If the store is not the one of the study, or cannot be used when this process first asks for it;
            later troubles are warned of.
        WeightsError: If the weights that the space starts from are not at hand and not in the store.
        ValueError: If ``budget`` is negative or infinite, ``max_inherited_epochs`` is negative, or ``probe`` does not
            fit the network.
    """
    if budget is not None and not 0 <= budget < math.inf:
        raise ValueError(f"budget must be a non-negative number of epochs but got {budget!r}.")
    if max_inherited_epochs is not None and not max_inherited_epochs >= 0:
        raise ValueError(
            f"max_inherited_epochs must be a non-negative number of epochs but got {max_inherited_epochs!r}."
        )
    descendant, ancestors = _suggest(trial, space)
    batches = None if probe is None else check_probe(space.seed, probe)
    rng = _generator(trial)
    weights: dict[str, Tensor] | None = None
    if isinstance(trial, optuna.Trial):
        _publish_seed(trial, space)
        weights = _inherited_weights(trial, space, descendant, ancestors, rng, budget, max_inherited_epochs, batches)
    if weights is None:
        weights = _first_weights(trial, space, descendant, rng, batches)
    network = _skip_init(descendant.architecture)
    network.load_state_dict(weights, assign=False)
    return network


def epochs_to_train(trial: BaseTrial, default: int) -> int:
    """How long an objective shall train: as long as it likes in a search, for the budget of `finalize` in finals.

    Args:
        trial:
            The trial.
        default:
            Epochs in a search, outside of a study, and in finals without a budget.
    """
    if not isinstance(trial, optuna.Trial) or not lineage.is_finals(trial.study):
        return default
    budget: int | None = trial.study.user_attrs.get(lineage.BUDGET)
    return default if budget is None else budget


def publish_weights(
    trial: BaseTrial,
    network: nn.Module,
    *,
    epochs: float | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    average: nn.Module | None = None,
    store: WeightStore | None = None,
) -> WeightRecord | None:
    """Make a trial a donor: store the weights of its network, and record the training behind them.

    Call it before the objective returns or raises :class:`optuna.TrialPruned`; a second call replaces the first. Then
    weights that the store need not keep (`Keep`) are removed.

    Args:
        trial:
            The running trial. For a :class:`~optuna.trial.FixedTrial` or :class:`~optuna.trial.FrozenTrial` nothing is
            stored.
        network:
            The network from `suggest_network`, also wrapped by ``DataParallel``, ``DistributedDataParallel`` or
            ``torch.compile``. Under distributed training call it on rank 0.
        epochs:
            Epochs that this trial has trained it; by default the number of values that the trial has reported, else the
            ``budget`` given to `suggest_network`. Where nobody has said, it is warned that an old lineage will not be
            told from a good architecture.
        optimizer:
            The SGD, Adam or AdamW that trained it, if children shall go on with its moments (`inherit_optimizer`).
        average:
            The network with averaged weights, such as a :class:`torch.optim.swa_utils.AveragedModel` of it, if the
            trial's value is that of the average. Then `load_network` and `best_network` return the average, and
            children go on from ``network``. Batch norms need averaged statistics too: ``use_buffers=True``, or
            :func:`torch.optim.swa_utils.update_bn` before. A model that has averaged nothing yet is no average.
        store:
            Where to; by default the store of the study (the pruner's, the recorded one, or a default directory).

    Returns:
        The committed record; :obj:`None` where nothing was stored: outside of a study; where weights, moments or the
        average are not finite (a training that diverged); and where the store cannot be written (a full disk). The last
        two are noted in the user attribute ``nasmorph:unpublished`` and warned of; the trial keeps its value, and has
        no heirs.

    Raises:
        WeightsMismatchError: If the network, or the average, is not that of the trial's architecture.
        StoreError: If the store is not the one of the study, or cannot be used when this process first asks for it.
        TypeError: If the optimizer is none of those named, or the average no module.
        ValueError: If the optimizer trains none of the network's parameters.
    """
    if epochs is not None and not 0 <= epochs < math.inf:
        raise ValueError(f"epochs must be a non-negative number but got {epochs!r}.")
    if average is not None and not isinstance(average, nn.Module):
        raise TypeError(f"average must be a module or None but got {type(average).__name__}.")
    if not isinstance(trial, optuna.Trial):
        return None
    frozen = trial.storage.get_trial(trial._trial_id)
    architecture = _recorded_architecture(frozen)
    weights = state_dict_of(network, architecture)
    check_weights(architecture, weights)
    averaged = None if average is None else average_of(average, architecture, weights)
    if epochs is None:
        budget = frozen.user_attrs.get(lineage.BUDGET)
        epochs = float(len(frozen.intermediate_values)) if frozen.intermediate_values else budget
    metadata: dict[str, Any] = {"fingerprint": architecture.fingerprint}
    moments: dict[str, dict[str, Tensor]] = {}
    if optimizer is not None:
        parameters = parameters_of(network, architecture)
        metadata["optimizer"] = optimizers.describe(optimizer, parameters)
        moments = optimizers.read(optimizer, parameters)
        check_moments(architecture, moments)
    if epochs is not None:
        metadata["effective_epochs"] = lineage.budgets_of(frozen).inherited + epochs
        lineage.record_trained(trial.storage, frozen, epochs)
    else:
        warnings.warn(
            "Nothing says how long this trial was trained, so an old lineage is not told from a good architecture: "
            "give epochs to publish_weights, report a value per epoch, or give suggest_network a budget.",
            stacklevel=2,
        )
    target = resolve(trial.study, store)
    try:
        record = target.publish(trial, weights, moments=moments, average=averaged, metadata=metadata)
    except (WeightsNotFiniteError, StoreError) as e:
        # A training that diverged and a full disk are normal events of a search.
        trial.set_user_attr(lineage.UNPUBLISHED, str(e))
        warnings.warn(f"Trial {trial.number} does not become a donor: {e}", stacklevel=2)
        return None
    if frozen.user_attrs.get(lineage.UNPUBLISHED) is not None:
        trial.set_user_attr(lineage.UNPUBLISHED, None)
    try:
        target.collect(trial.study)
    except StoreError as e:
        warnings.warn(f"Weights that are not needed any more take up space: {e}", stacklevel=2)
    return record


def inherit_optimizer(trial: BaseTrial, network: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
    """Let an optimizer go on with the moments of the donor's, instead of starting without any.

    That takes a donor published with ``publish_weights(..., optimizer=...)``. Its momentum (SGD) or means of gradients
    and squared gradients (Adam, AdamW) are mapped through the morphisms as gradients are; see
    `optuna_nas_morph.weights.moments`. Learning rate, weight decay and all other settings stay those of ``optimizer``.

    The optimizer stays as it is where there is nothing to go on with: from scratch; the donor published no moments;
    it had another class, or other ``momentum``, ``dampening``, ``betas``, ``amsgrad`` or ``maximize``; or its file is
    gone by now. The user attribute ``nasmorph:optimizer`` says which.

    Args:
        trial:
            The trial that `suggest_network` was called with.
        network:
            What that returned, on any device, wrapped or not.
        optimizer:
            An SGD, Adam or AdamW of the network's parameters.

    Returns:
        Whether it goes on with the donor's moments.

    Raises:
        WeightsMismatchError: If the trial has no network yet.
        TypeError: If the optimizer is none of those named.
        ValueError: If it trains none of the network's parameters.
    """
    if not isinstance(trial, optuna.Trial):
        return False
    frozen = trial.storage.get_trial(trial._trial_id)
    parameters = parameters_of(network, _recorded_architecture(frozen))
    mine = optimizers.describe(optimizer, parameters)
    donor = frozen.user_attrs.get(lineage.DONOR)
    try:
        moments = _donated_moments(trial, donor, mine)
    except WeightsError as e:
        trial.set_user_attr(lineage.OPTIMIZER, f"new: {e}")
        if not isinstance(e, WeightsMismatchError) and not _is_garbage(trial.study, donor, e):
            warnings.warn(f"Trial {trial.number} could not inherit the optimizer of trial {donor}: {e}", stacklevel=2)
        return False
    optimizers.write(optimizer, parameters, moments)
    trial.set_user_attr(lineage.OPTIMIZER, f"that of trial {donor}")
    return True


def inherited_epochs(trial: BaseTrial) -> float:
    """Epochs of training that were behind a trial's weights when `suggest_network` returned them.

    All that it takes for a learning rate that goes on where the donor's stopped, instead of from its beginning::

        done = inherited_epochs(trial)
        schedule = LambdaLR(optimizer, lambda epoch: 0.5 * (1 + math.cos(math.pi * min(1, (done + epoch) / 60))))

    Args:
        trial:
            The trial.

    Returns:
        Epochs, as counted by `publish_weights` along the lineage; 0 for fresh weights, and outside of a study.

    Raises:
        WeightsMismatchError: If the trial has no network yet.
    """
    if not isinstance(trial, optuna.Trial):
        return 0.0
    frozen = trial.storage.get_trial(trial._trial_id)
    _recorded_architecture(frozen)
    return lineage.budgets_of(frozen).inherited


def load_network(
    study: optuna.Study, trial: FrozenTrial, *, store: WeightStore | None = None, space: MorphSpace | None = None
) -> Network:
    """The network of a trial with the weights that the trial published; with their average, if it published one.

    Args:
        study:
            The study.
        trial:
            One of its trials.
        store:
            Where the weights are; by default the store of the study.
        space:
            What `MorphSpace.from_module` returned, where the network has opaque parts and this process has suggested no
            network of the study.

    Returns:
        The network, on the CPU and in eval mode.

    Raises:
        ArchitectureError: If it has opaque parts whose modules are not at hand.
        WeightsError: If the trial has published no weights, or they cannot be read.
    """
    architecture = lineage.architecture_of(trial)
    record = WeightStore.record(trial)
    if architecture is None or record is None:
        raise WeightsMismatchError(f"trial {trial.number} has published no weights.")
    try:
        weights = resolve(study, store).load_average(record)
    except WeightsMissingError as e:
        if not _is_garbage(study, trial.number, e):
            raise
        raise WeightsMissingError(
            f"weights of trial {trial.number} were removed to save space: WeightStore(keep=...) says whose are kept."
        ) from e
    check_weights(architecture, weights)
    network = _skip_init(_with_modules(architecture, lineage.space_of(study) if space is None else space))
    network.load_state_dict(weights)
    return network.eval()


def _with_modules(architecture: Architecture, space: MorphSpace | CellSpace | None) -> Architecture:
    """An architecture that was read from a study, with the modules of its opaque parts: those of the seed."""
    if not isinstance(space, MorphSpace):
        return architecture
    live = {node.name: node.op for node in space.seed.nodes if isinstance(node.op, Opaque)}
    return architecture.replace({n.name: live[n.name] for n in architecture.nodes if live.get(n.name) == n.op})


def _recorded_architecture(trial: FrozenTrial) -> Architecture:
    architecture = lineage.architecture_of(trial)
    if architecture is None:
        raise WeightsMismatchError(
            f"trial {trial.number} has no architecture: call suggest_network(trial, space) before."
        )
    return architecture


def _suggest_cell(trial: BaseTrial, space: CellSpace) -> dict[str, Any]:
    """The choices of a trial, recorded where there is a study."""
    if isinstance(trial, optuna.Trial):
        lineage.register_space(trial.study, space)
    cell = decode_cell(space, suggest_cell(trial, space))
    if isinstance(trial, optuna.Trial) and not lineage.is_recorded(trial):
        lineage.record_cell(trial, cell)
    return space.choices_of(cell)


def _suggest(trial: BaseTrial, space: MorphSpace) -> tuple[Descendant, list[FrozenTrial]]:
    """The architecture of a trial and its ancestors, recorded where there is a study."""
    if not isinstance(space, MorphSpace):
        hint = ": a cell has no network; build it from suggest_architecture" if isinstance(space, CellSpace) else ""
        raise TypeError(f"space must be a MorphSpace but got {type(space).__name__}{hint}.")
    if not isinstance(trial, optuna.Trial):
        return decode(space, suggest(trial, space)), []
    lineage.register_space(trial.study, space)
    descendant = decode(space, suggest(trial, space))
    kind = lineage.requested_kind(trial.study, trial._trial_id)
    ancestors: list[FrozenTrial] = []
    if kind != lineage.Kind.FRESH:
        ancestors = lineage.find_ancestors(trial.study, trial.number, list(map(str, descendant.steps)))
    if not lineage.is_recorded(trial):
        lineage.record_architecture(trial, descendant, ancestors, kind)
    return descendant, ancestors


def _inherited_weights(
    trial: optuna.Trial,
    space: MorphSpace,
    descendant: Descendant,
    ancestors: Sequence[FrozenTrial],
    rng: np.random.Generator,
    budget: float | None,
    max_epochs: float | None,
    probe: Sequence[Tensor] | None,
) -> dict[str, Tensor] | None:
    """Weights from the nearest ancestor whose weights can be used, and a record of how it went."""
    store = resolve(trial.study)
    collected = lineage.collected_of(trial.study)
    fallback: list[str] = []
    for ancestor in ancestors:
        if ancestor.number in collected:
            continue
        n_done = len(lineage.steps_of(ancestor) or ())
        try:
            donation = _donation(trial.study, ancestor, store, max_epochs)
            if donation is None:
                continue
            inherited, donated = donation
            weights = inherit(space, descendant.steps, n_done, donated, rng)
        except WeightsError as e:
            if not _is_garbage(trial.study, ancestor.number, e):
                fallback.append(f"trial {ancestor.number}: {e}")
        else:
            lineage.record_inheritance(trial, ancestor.number, inherited, budget, fallback)
            _warn_of(trial, fallback, f"it starts from trial {ancestor.number}")
            return weights if probe is None else _fitted(trial, space, descendant, n_done, donated, weights, probe)
    lineage.record_inheritance(trial, None, 0.0, budget, fallback)
    _warn_of(
        trial, fallback, "it starts from scratch" if space.weights is None else "it starts from the seed's weights"
    )
    return None


def _donation(
    study: optuna.Study, ancestor: FrozenTrial, store: WeightStore, max_epochs: float | None
) -> tuple[float, dict[str, Tensor]] | None:
    """Epochs behind an ancestor's weights, and the weights; :obj:`None` if it has none, or none that are young enough.

    Raises:
        WeightsError: If they cannot be read.
    """
    record = WeightStore.record(ancestor)
    if record is None:
        return None
    epochs = record.metadata.get("effective_epochs")
    inherited = float(epochs) if isinstance(epochs, int | float) else 0.0
    if max_epochs is not None and inherited > max_epochs:
        return None
    try:
        return inherited, store.load(record)
    except WeightsMissingError:
        # A trial that runs may have published anew since it was looked at, which removes what it had published.
        now = study._storage.get_trial(ancestor._trial_id)
        if WeightStore.record(now) == record:
            raise
        return _donation(study, now, store, max_epochs)


def _fitted(
    trial: BaseTrial,
    space: MorphSpace,
    descendant: Descendant,
    n_done: int,
    donated: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    probe: Sequence[Tensor],
) -> dict[str, Tensor]:
    """Inherited weights with batch norms calibrated on a probe, and a record of how far the function moved."""
    result = calibrated(space, descendant.steps, n_done, weights, probe)
    if isinstance(trial, optuna.Trial):
        donor = space.replay(descendant.steps[:n_done])
        lineage.record_drift(trial, drift(donor, donated, descendant.architecture, result, probe))
    return result


def _publish_seed(trial: optuna.Trial, space: MorphSpace) -> None:
    """Store the weights that a space starts from, for processes that know only their digest."""
    if space.weights is not None and space.weights.tensors is not None:
        store = resolve(trial.study)
        try:
            store.publish_seed(space.weights)
        except StoreError as e:  # A full disk is a normal event; here the weights are at hand.
            warnings.warn(f"Other processes will not find the weights of the seed: {e}", stacklevel=3)


def _first_weights(
    trial: BaseTrial,
    space: MorphSpace,
    descendant: Descendant,
    rng: np.random.Generator,
    probe: Sequence[Tensor] | None,
) -> dict[str, Tensor]:
    """Weights of a network that inherits from no other trial: the seed's with all steps replayed, else fresh ones.

    Raises:
        WeightsError: If the space has weights of which only the digest is known here, and the store has them not.
    """
    seed = space.weights
    if seed is None:
        return fresh_weights(descendant.architecture, rng)
    if seed.tensors is None:
        if not isinstance(trial, optuna.Trial):
            raise WeightsMissingError(
                "space must have the weights of its seed where there is no study: use the one that "
                "MorphSpace.from_module returned."
            )
        seed = resolve(trial.study).load_seed(seed)
    assert seed.tensors is not None
    weights = inherit(space, descendant.steps, 0, seed.tensors, rng)
    return weights if probe is None else _fitted(trial, space, descendant, 0, seed.tensors, weights, probe)


def _donated_moments(trial: optuna.Trial, donor: int | None, optimizer: Mapping[str, Any]) -> Moments:
    """Moments for a trial's optimizer, described by `optimizers.describe`, from those of its donor.

    Raises:
        WeightsMismatchError: If the donor has none of this kind.
        WeightsError: If they cannot be read.
    """
    ancestor = next((t for t in trial.study.get_trials(deepcopy=False) if t.number == donor), None)
    record = None if ancestor is None else WeightStore.record(ancestor)
    if ancestor is None or record is None:
        raise WeightsMismatchError("the weights are new too.")
    if record.metadata.get("optimizer") != optimizer:
        found = record.metadata.get("optimizer", "none")
        raise WeightsMismatchError(f"that of trial {donor} must be {optimizer} but is {found}.")
    space = lineage.space_of(trial.study)
    assert isinstance(space, MorphSpace)
    steps, n_done = decode(space, trial.params).steps, len(lineage.steps_of(ancestor) or ())
    # The generator starts as it did for the weights, so that moments follow the same draws.
    store = resolve(trial.study)
    moments, weights = store.load_moments(record), store.load(record)
    return inherit_moments(space, steps, n_done, moments, weights, _generator(trial))


def _is_garbage(study: optuna.Study, number: int | None, error: WeightsError) -> bool:
    """Whether weights are missing because they were removed to save space; another worker may do so at any time."""
    return isinstance(error, WeightsMissingError) and number in lineage.collected_of(study)


def _warn_of(trial: optuna.Trial, fallback: Sequence[str], outcome: str) -> None:
    if fallback:
        warnings.warn(
            f"Trial {trial.number} could not inherit the weights of {len(fallback)} nearer ancestors; {outcome}. "
            f"First reason: {fallback[0]}",
            stacklevel=4,
        )


def seed_of(study: optuna.Study) -> int:
    """The sampler's seed, else one that the study's name makes."""
    own = getattr(sampler_of(study), "seed", None)
    return own if isinstance(own, int) else zlib.crc32(study.study_name.encode())


def sampler_of(study: optuna.Study) -> BaseSampler:
    """The study's sampler without what only fixes parameters for it."""
    sampler: Any = study.sampler
    while hasattr(sampler, "_base_sampler"):  # PartialFixedSampler
        sampler = sampler._base_sampler
    return sampler  # type: ignore[no-any-return]


def _generator(trial: BaseTrial) -> np.random.Generator:
    """Randomness of one trial: the seed of the study, and the trial's number; in finals the seed of the training."""
    if not isinstance(trial, optuna.Trial):
        return np.random.default_rng([0, trial.number])
    final = lineage.final_of(trial.storage.get_trial(trial._trial_id))
    return np.random.default_rng([seed_of(trial.study), trial.number if final is None else final[1]])


def _skip_init(architecture: Architecture) -> Network:
    """A network whose weights are not drawn, since they are about to be loaded."""
    with torch.device("meta"):
        network = Network(architecture)
    network.to_empty(device="cpu")
    for node in architecture.nodes:
        if isinstance(node.op, Opaque):  # It may hold more than weights.
            network.add_module(node.name, build_layer(node.op.layer(architecture.input_specs(node.name))))
    return network
