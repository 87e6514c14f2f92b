"""What an objective calls: an architecture, a network with inherited weights, and making a trial a donor."""

from __future__ import annotations

import re
import warnings
import zlib
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import optuna
import torch
from optuna.trial import BaseTrial, FrozenTrial
from torch import Tensor, nn

from optuna_nas_morph import lineage
from optuna_nas_morph.encoding.cell import decode as decode_cell
from optuna_nas_morph.encoding.cell import suggest as suggest_cell
from optuna_nas_morph.encoding.morph import decode, suggest
from optuna_nas_morph.errors import WeightsError, WeightsMismatchError, WeightsNotFiniteError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.morphisms import fresh_weights
from optuna_nas_morph.nets import Network
from optuna_nas_morph.spaces import CellSpace, Descendant, MorphSpace
from optuna_nas_morph.weights import WeightRecord, WeightStore, resolve
from optuna_nas_morph.weights.inherit import check_weights, inherit


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
    trial: BaseTrial, space: MorphSpace, *, budget: float | None = None, max_inherited_epochs: float | None = None
) -> Network:
    """Suggest an architecture and build its network, with the weights of its nearest ancestor.

    The nearest trial on the way from the seed to this architecture that has published weights is the donor; the
    morphisms that are left are replayed on its weights, so that the network computes what the donor's computed. Where
    a donor's weights cannot be used (missing, damaged, another store) the next one is taken, and from scratch after the
    last: noted in the user attribute ``nasmorph:fallback`` and warned of.

    A trial whose user attribute ``nasmorph:kind`` is ``"fresh"`` (a control of `MorphBOSampler`, or enqueued so) starts
    from scratch, and so does every trial of a study that `finalize` has made.

    What is drawn depends on the sampler's seed (if it is a `MorphBOSampler`; else on the name of the study) and on the
    number of the trial, not on PyTorch's global generator.

    Args:
        trial:
            A trial of a study. For a :class:`~optuna.trial.FixedTrial` or :class:`~optuna.trial.FrozenTrial`, which
            have no study, weights are fresh.
        space:
            Where to search.
        budget:
            Epochs that this trial is going to train, if known.
        max_inherited_epochs:
            Most training that inherited weights may have behind them: ancestors with more are passed over, and without
            a younger one the network starts from scratch. So no lineage lives on its age alone. By default there is no
            limit. Training that is not recorded counts as none.

    Returns:
        The network, on the CPU and in train mode; ``network.architecture`` is its architecture.

    Raises:
        SpaceMismatchError: If the study was made with another space.
        EncodingError: If a value that was enqueued or fixed is not one that the space knows.
        StoreError: If the store is not the one of the study.
        ValueError: If ``budget`` or ``max_inherited_epochs`` is negative.
    """
    for name, value in (("budget", budget), ("max_inherited_epochs", max_inherited_epochs)):
        if value is not None and not value >= 0:
            raise ValueError(f"{name} must be a non-negative number of epochs but got {value!r}.")
    descendant, ancestors = _suggest(trial, space)
    rng = _generator(trial)
    weights: dict[str, Tensor] | None = None
    if isinstance(trial, optuna.Trial):
        weights = _inherited_weights(trial, space, descendant, ancestors, rng, budget, max_inherited_epochs)
    if weights is None:
        weights = fresh_weights(descendant.architecture, rng)
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
    trial: BaseTrial, network: nn.Module, *, epochs: float | None = None, store: WeightStore | None = None
) -> WeightRecord | None:
    """Make a trial a donor: store the weights of its network, and record the training behind them.

    Call it before the objective returns or raises :class:`optuna.TrialPruned`; a second call replaces the first.

    Args:
        trial:
            The running trial. For a :class:`~optuna.trial.FixedTrial` or :class:`~optuna.trial.FrozenTrial` nothing is
            stored.
        network:
            The network from `suggest_network`, also wrapped by ``DataParallel``, ``DistributedDataParallel`` or
            ``torch.compile``. Under distributed training call it on rank 0.
        epochs:
            Epochs that this trial has trained it; by default the number of values that the trial has reported, else the
            ``budget`` given to `suggest_network`.
        store:
            Where to; by default the store of the study (the pruner's, the recorded one, or a default directory).

    Returns:
        The committed record; :obj:`None` where nothing was stored: outside of a study, and where weights are not finite
        (a training that diverged), which is noted in the user attribute ``nasmorph:unpublished`` and warned of.

    Raises:
        WeightsMismatchError: If the network is not that of the trial's architecture.
        StoreError: If the store cannot be written; nothing that it holds is lost.
    """
    if epochs is not None and not epochs >= 0:
        raise ValueError(f"epochs must be a non-negative number but got {epochs!r}.")
    if not isinstance(trial, optuna.Trial):
        return None
    frozen = trial.storage.get_trial(trial._trial_id)
    architecture = lineage.architecture_of(frozen)
    if architecture is None:
        raise WeightsMismatchError(
            f"trial {trial.number} has no architecture: call suggest_network(trial, space) before publish_weights."
        )
    weights = _state_dict(network)
    check_weights(architecture, weights)
    if epochs is None:
        budget = frozen.user_attrs.get(lineage.BUDGET)
        epochs = float(len(frozen.intermediate_values)) if frozen.intermediate_values else budget
    metadata: dict[str, Any] = {"fingerprint": architecture.fingerprint}
    if epochs is not None:
        metadata["effective_epochs"] = lineage.budgets_of(frozen).inherited + epochs
    if epochs is not None:
        lineage.record_trained(trial.storage, frozen, epochs)
    try:
        return resolve(trial.study, store).publish(trial, weights, metadata=metadata)
    except WeightsNotFiniteError as e:
        # A training that diverged is a normal event of a search: the trial keeps its value, but has no heirs.
        trial.set_user_attr(lineage.UNPUBLISHED, str(e))
        warnings.warn(f"Trial {trial.number} does not become a donor: {e}", stacklevel=2)
        return None


def load_network(study: optuna.Study, trial: FrozenTrial, *, store: WeightStore | None = None) -> Network:
    """The network of a trial with the weights that the trial published.

    Args:
        study:
            The study.
        trial:
            One of its trials.
        store:
            Where the weights are; by default the store of the study.

    Returns:
        The network, on the CPU and in eval mode.

    Raises:
        WeightsError: If the trial has published no weights, or they cannot be read.
    """
    architecture = lineage.architecture_of(trial)
    record = WeightStore.record(trial)
    if architecture is None or record is None:
        raise WeightsMismatchError(f"trial {trial.number} has published no weights.")
    weights = resolve(study, store).load(record)
    check_weights(architecture, weights)
    network = _skip_init(architecture)
    network.load_state_dict(weights)
    return network.eval()


def _suggest_cell(trial: BaseTrial, space: CellSpace) -> dict[str, Any]:
    """The choices of a trial, recorded where there is a study."""
    if isinstance(trial, optuna.Trial):
        lineage.register_space(trial.study, space)
    cell = decode_cell(space, suggest_cell(trial, space))
    if isinstance(trial, optuna.Trial) and lineage.FINGERPRINT not in trial.user_attrs:
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
    if lineage.FINGERPRINT not in trial.user_attrs:
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
) -> dict[str, Tensor] | None:
    """Weights from the nearest ancestor whose weights can be used, and a record of how it went."""
    store = resolve(trial.study)
    fallback: list[str] = []
    for ancestor in ancestors:
        n_done = len(lineage.steps_of(ancestor) or ())
        try:
            record = WeightStore.record(ancestor)
            if record is None:
                continue
            epochs = record.metadata.get("effective_epochs")
            inherited = float(epochs) if isinstance(epochs, int | float) else 0.0
            if max_epochs is not None and inherited > max_epochs:
                continue
            weights = inherit(space, descendant.steps, n_done, store.load(record), rng)
        except WeightsError as e:
            fallback.append(f"trial {ancestor.number}: {e}")
        else:
            lineage.record_inheritance(trial, ancestor.number, inherited, budget, fallback)
            _warn_of(trial, fallback, f"it starts from trial {ancestor.number}")
            return weights
    lineage.record_inheritance(trial, None, 0.0, budget, fallback)
    _warn_of(trial, fallback, "it starts from scratch")
    return None


def _warn_of(trial: optuna.Trial, fallback: Sequence[str], outcome: str) -> None:
    if fallback:
        warnings.warn(
            f"Trial {trial.number} could not inherit the weights of {len(fallback)} nearer ancestors; {outcome}. "
            f"First reason: {fallback[0]}",
            stacklevel=4,
        )


def seed_of(study: optuna.Study) -> int:
    """The sampler's seed, else one that the study's name makes."""
    sampler: Any = study.sampler
    while hasattr(sampler, "_base_sampler"):  # PartialFixedSampler
        sampler = sampler._base_sampler
    own = getattr(sampler, "seed", None)
    return own if isinstance(own, int) else zlib.crc32(study.study_name.encode())


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
    return network.to_empty(device="cpu")


_WRAPPERS = re.compile(r"(^|\.)((module|_orig_mod)\.)+")


def _state_dict(network: nn.Module) -> dict[str, Tensor]:
    """A state dict without the prefixes that wrappers add.

    Raises:
        WeightsMismatchError: If the network is sharded, so that this process holds only a part.
    """
    sharded = [
        type(m).__name__
        for m in network.modules()
        if "FullyShardedDataParallel" in _bases(m) or "FSDPModule" in _bases(m)
    ]
    if sharded:
        raise WeightsMismatchError(
            f"network must be whole on this process but is sharded ({sharded[0]}): gather a full state dict into a "
            "network from suggest_network, and publish that."
        )
    return {_WRAPPERS.sub(r"\1", name): tensor.detach() for name, tensor in network.state_dict().items()}


def _bases(module: nn.Module) -> set[str]:
    return {cls.__name__ for cls in type(module).__mro__}
