"""What an objective calls: networks with inherited weights, and donors."""

from __future__ import annotations

import contextlib
import copy
import errno
import json
import pickle
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.artifacts import FileSystemArtifactStore
from optuna.pruners import NopPruner
from optuna.trial import FixedTrial, TrialState
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from optuna_nas_morph import (
    Keep,
    LineagePruner,
    MorphBOSampler,
    Network,
    WeightStore,
    best_network,
    encoding,
    lineage,
    load_network,
    publish_weights,
    suggest_architecture,
    suggest_network,
)
from optuna_nas_morph.errors import StoreError, WeightsMismatchError
from optuna_nas_morph.ir.ops import Conv, Input, Linear
from optuna_nas_morph.morphisms import Widen
from optuna_nas_morph.spaces import MorphSpace
from optuna_nas_morph.weights import WeightRecord
from tests.morphisms.architectures import RELU, graph
from tests.studies import CNN, CNN_SPACE, MLP, SPACE, make_objective, quick_sampler

SEED: dict[str, Any] = {"arch/n": 0}
WIDER: dict[str, Any] = {"arch/n": 1, "arch/00/op": "widen:2", "arch/00/at": 0.25}
WIDER_DEEPER: dict[str, Any] = {**WIDER, "arch/n": 2, "arch/01/op": "deepen:relu", "arch/01/at": 0.9}
X = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
IMAGES = torch.randn(6, 1, 5, 5, generator=torch.Generator().manual_seed(0))


def make_study(**arguments: Any) -> optuna.Study:
    return optuna.create_study(sampler=arguments.pop("sampler", MorphBOSampler(seed=0)), **arguments)


def start(
    study: optuna.Study, params: dict[str, Any], space: MorphSpace = SPACE, **rest: Any
) -> tuple[optuna.Trial, Network]:
    study.enqueue_trial(params)
    trial = study.ask()
    return trial, suggest_network(trial, space, **rest)


def donor(study: optuna.Study, params: dict[str, Any], value: float = 0.0, space: MorphSpace = SPACE) -> Network:
    """A finished trial with weights that no initialisation gives."""
    trial, network = start(study, params, space)
    shift(network, trial.number)
    publish_weights(trial, network, epochs=2)
    study.tell(trial, value)
    return network


def shift(network: nn.Module, seed: int) -> None:
    """Stands for a training."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            change = torch.rand(tensor.shape, generator=generator)
            tensor.add_(change if name.endswith("running_var") else change - 0.4)


def same_function(a: nn.Module, b: nn.Module, x: torch.Tensor = X) -> bool:
    with torch.no_grad():
        return torch.allclose(a.eval()(x), b.eval()(x), rtol=1e-4, atol=1e-5)


def attributes(study: optuna.Study, number: int = -1) -> dict[str, Any]:
    return study.get_trials()[number].user_attrs


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


# Fresh networks.


def test_the_first_network_is_fresh_and_in_train_mode() -> None:
    study = make_study()
    trial, network = start(study, WIDER)
    assert network.training
    assert network.architecture == Widen(2.0).apply(MLP, ("a",)) == suggest_architecture(trial, SPACE)
    assert network(X).shape == (7, 2)
    assert all(torch.isfinite(t).all() for t in network.state_dict().values())
    assert all(p.requires_grad for p in network.parameters())
    recorded = attributes(study)
    assert recorded["nasmorph:inherited_epochs"] == 0.0
    assert "nasmorph:donor" not in recorded and "nasmorph:fallback" not in recorded


def test_outside_of_a_study_weights_are_fresh_and_nothing_is_published() -> None:
    study = make_study()
    donor(study, WIDER)
    for trial in (FixedTrial({**WIDER}, number=5), study.best_trial):
        network = suggest_network(trial, SPACE)
        assert network.architecture == lineage.architecture_of(study.best_trial)
        assert not same_function(network, load_network(study, study.best_trial))
        assert publish_weights(trial, network) is None
    assert len(study.trials) == 1


@pytest.mark.parametrize("budget", [-1, float("nan"), -0.5, float("inf")])
def test_wrong_budgets(budget: float) -> None:
    study = make_study()
    with pytest.raises(ValueError, match="budget must be a non-negative number of epochs"):
        start(study, SEED, budget=budget)
    trial, network = start(study, SEED)
    with pytest.raises(ValueError, match="epochs must be a non-negative number"):
        publish_weights(trial, network, epochs=budget)


def test_a_wrong_space() -> None:
    with pytest.raises(TypeError, match="space must be a MorphSpace but got Architecture"):
        suggest_network(make_study().ask(), MLP)  # type: ignore[arg-type]


# Inheritance.


@pytest.mark.parametrize("seed", range(8))
def test_a_child_computes_what_its_parent_published(seed: int) -> None:
    rng = np.random.default_rng(seed)
    way = [CNN_SPACE.first()]
    while len(way) < 5:
        way.append(CNN_SPACE.random_child(way[-1], rng) or way[-1])
    parent_steps = way[int(rng.integers(3))]
    child_steps = way[way.index(parent_steps) + 2]
    study = make_study()
    parent = donor(study, encoding.encode(CNN_SPACE, parent_steps), space=CNN_SPACE)
    _, child = start(study, encoding.encode(CNN_SPACE, child_steps), CNN_SPACE)
    assert child.architecture == child_steps.architecture
    assert same_function(parent, child, IMAGES)
    assert attributes(study)["nasmorph:donor"] == attributes(study)["nasmorph:parent"] == 0
    assert attributes(study)["nasmorph:inherited_epochs"] == 2.0


def test_create_study_exactly_as_written_inherits() -> None:
    study = optuna.create_study(sampler=MorphBOSampler())
    networks: dict[int, Network] = {}

    def objective(trial: optuna.Trial) -> float:
        network = suggest_network(trial, SPACE)
        inherited = attributes(study).get("nasmorph:donor")
        if inherited is not None:
            assert same_function(networks[inherited], network)
        shift(network, trial.number)
        publish_weights(trial, network, epochs=1)
        networks[trial.number] = network
        return float(trial.number)

    study.optimize(objective, n_trials=6)
    recorded = [t.user_attrs for t in study.trials]
    assert "nasmorph:donor" not in recorded[0]  # the seed
    assert recorded[0]["nasmorph:steps"] == []
    for child in recorded[1:]:
        parent = child["nasmorph:donor"]
        assert parent == child["nasmorph:parent"]
        assert child["nasmorph:inherited_epochs"] == recorded[parent]["nasmorph:effective_epochs"]
        assert child["nasmorph:effective_epochs"] == child["nasmorph:inherited_epochs"] + 1
        assert child["nasmorph:steps"][: len(recorded[parent]["nasmorph:steps"])] == recorded[parent]["nasmorph:steps"]
        assert child["nasmorph:steps"] == recorded[parent]["nasmorph:steps"] + child["nasmorph:morphisms"]
    assert study.user_attrs["nasmorph:store"]["kind"] == "filesystem"


def test_the_nearest_ancestor_with_weights_gives_them() -> None:
    study = make_study()
    seed = donor(study, SEED)
    study.tell(start(study, WIDER)[0], 0.0)  # published nothing: parent, but no donor
    _, child = start(study, WIDER_DEEPER)
    assert (attributes(study)["nasmorph:parent"], attributes(study)["nasmorph:donor"]) == (1, 0)
    assert same_function(seed, child)
    assert "nasmorph:fallback" not in attributes(study)
    wider = donor(study, WIDER)
    _, child = start(study, WIDER_DEEPER)
    assert attributes(study)["nasmorph:donor"] == 3
    assert same_function(wider, child)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_among_equals_the_better_donor(direction: str) -> None:
    study = make_study(direction=direction)
    networks = [donor(study, SEED, value) for value in (0.5, 0.1, 0.9)]
    _, child = start(study, WIDER)
    best = 1 if direction == "minimize" else 2
    assert attributes(study)["nasmorph:donor"] == best
    assert same_function(child, networks[best])


def test_running_and_failed_trials_with_weights_are_donors() -> None:
    study = make_study()
    trial, network = start(study, SEED)
    shift(network, 1)
    publish_weights(trial, network, epochs=1)
    assert same_function(start(study, WIDER)[1], network)
    study.tell(trial, state=TrialState.FAIL)
    assert same_function(start(study, WIDER)[1], network)
    assert attributes(study)["nasmorph:donor"] == 0


def test_a_network_asked_for_twice_is_the_same() -> None:
    study = make_study()
    donor(study, SEED)
    trial, network = start(study, WIDER)
    assert same_weights(network, suggest_network(trial, SPACE))


# Donors that cannot be used.


def only_file(store: WeightStore, study: optuna.Study, number: int) -> Path:
    record = WeightStore.record(study.trials[number])
    assert record is not None and store.path is not None
    return store.path / record.artifact_id


@contextlib.contextmanager
def one_warning(match: str) -> Iterator[None]:
    with pytest.warns(UserWarning, match=match) as caught:
        yield
    assert len(caught) == 1


DAMAGES = ["missing", "truncated", "flipped", "foreign", "no record", "another version", "other network", "other store"]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("grandparent", [True, False])
def test_a_donor_that_cannot_be_used(damage: str, grandparent: bool, tmp_path: Path) -> None:
    store = WeightStore(tmp_path / "weights")
    study = make_study(pruner=LineagePruner(store=store))
    if grandparent:
        seed = donor(study, SEED)
    trial, network = start(study, WIDER)
    publish_weights(trial, network, epochs=3)
    number = trial.number
    file = only_file(store, study, number)
    content = file.read_bytes()
    record = dict(attributes(study)["nasmorph:weights"])
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(content[:-1])
    elif damage == "flipped":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "foreign":
        file.write_bytes(b"not weights at all"[: len(content)])
    elif damage == "no record":
        trial.set_user_attr("nasmorph:weights", "nonsense")
    elif damage == "another version":
        trial.set_user_attr("nasmorph:weights", {**record, "version": 2})
    elif damage == "other store":
        trial.set_user_attr("nasmorph:weights", {**record, "store_token": "0" * 8 + record["store_token"][8:]})
    else:
        store.publish(trial, Network(CNN).state_dict())
    study.tell(trial, 0.0)

    expected = "it starts from trial 0" if grandparent else "it starts from scratch"
    with one_warning(f"could not inherit the weights of 1 nearer ancestors; {expected}"):
        trial, child = start(study, WIDER_DEEPER)
    recorded = attributes(study)
    assert len(recorded["nasmorph:fallback"]) == 1
    assert recorded["nasmorph:fallback"][0].startswith(f"trial {number}: ")
    assert recorded["nasmorph:parent"] == number
    if grandparent:
        assert same_function(child, seed)
        assert (recorded["nasmorph:donor"], recorded["nasmorph:inherited_epochs"]) == (0, 2.0)
    else:
        assert "nasmorph:donor" not in recorded
        assert recorded["nasmorph:inherited_epochs"] == 0.0
    # The child is as good a donor as any.
    publish_weights(trial, child, epochs=1)
    study.tell(trial, 0.0)
    assert same_function(start(study, WIDER_DEEPER)[1], child)


def test_a_retry_does_not_keep_what_its_first_run_recorded(tmp_path: Path) -> None:
    # As Optuna's RetryHeartbeatStaleTrialCallback does.
    store = WeightStore(tmp_path)
    study = make_study(pruner=LineagePruner(store=store))
    donor(study, SEED)
    trial, network = start(study, WIDER)
    publish_weights(trial, network, epochs=1)
    stale = study.trials[1]
    study.tell(trial, state=TrialState.FAIL)
    for number in (0, 1):
        only_file(store, study, number).unlink()
    study.enqueue_trial(stale.params, user_attrs=stale.user_attrs)
    retry = study.ask()
    with one_warning("it starts from scratch"):
        suggest_network(retry, SPACE)
    assert attributes(study).get("nasmorph:donor") is None
    assert attributes(study)["nasmorph:inherited_epochs"] == 0.0
    assert len(attributes(study)["nasmorph:fallback"]) == 2


CALLBACKS = ["RetryHeartbeatStaleTrialCallback", "RetryFailedTrialCallback"]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("callback", CALLBACKS)
@pytest.mark.parametrize("published", [True, False])
def test_a_retry_is_a_trial_of_its_own(callback: str, published: bool, tmp_path: Path) -> None:
    study = make_study(pruner=LineagePruner(store=WeightStore(tmp_path)))
    seed = donor(study, SEED)
    trial, network = start(study, WIDER, budget=7)
    if published:
        publish_weights(trial, network, epochs=3)
    else:
        with torch.no_grad():
            network.a.weight[0, 0] = float("nan")
        with pytest.warns(UserWarning, match="does not become a donor"):
            publish_weights(trial, network, epochs=3)
    for key in ("nasmorph:oom", "nasmorph:fallback"):
        trial.set_user_attr(key, "of the first run")
    trial.set_user_attr("mine", "a user's")
    stale = study.tell(trial, state=TrialState.FAIL)
    getattr(optuna.storages, callback)(inherit_intermediate_values=False)(study, stale)
    retry = study.ask()
    assert retry.user_attrs["nasmorph:effective_epochs"] == 5.0  # as Optuna copied it
    network = suggest_network(retry, SPACE)
    recorded = attributes(study)
    own = {"architecture", "fingerprint", "parameters", "flops", "steps", "kind"}
    for key in own:
        assert recorded[f"nasmorph:{key}"] == stale.user_attrs[f"nasmorph:{key}"]
    assert recorded["mine"] == "a user's"
    assert recorded["nasmorph:trial"] == 2
    # It starts from what its first run published, if that did.
    assert recorded["nasmorph:donor"] == recorded["nasmorph:parent"] == (1 if published else 0)
    assert recorded["nasmorph:inherited_epochs"] == (5.0 if published else 2.0)
    assert recorded["nasmorph:morphisms"] == ([] if published else stale.user_attrs["nasmorph:morphisms"])
    written = {*own, "morphisms", "trial", "donor", "parent", "inherited_epochs"}
    for key, value in recorded.items():
        assert not key.startswith("nasmorph:") or key.removeprefix("nasmorph:") in written or value is None
    assert WeightStore.record(study.trials[2]) is None
    assert lineage.budgets_of(study.trials[2]).effective is None
    with pytest.raises(WeightsMismatchError, match="trial 2 has published no weights"):
        load_network(study, study.trials[2])
    if not published:
        assert same_function(network, seed)
    # Asking twice empties nothing.
    retry.set_user_attr("nasmorph:oom", "of this run")
    suggest_network(retry, SPACE)
    assert attributes(study)["nasmorph:oom"] == "of this run"
    publish_weights(retry, network, epochs=1)
    study.tell(retry, 0.0)
    assert attributes(study)["nasmorph:effective_epochs"] == (6.0 if published else 3.0)
    assert load_network(study, study.trials[2])


@pytest.mark.parametrize("asked", [True, False])
def test_a_retry_without_weights_of_its_own_is_no_donor(asked: bool, tmp_path: Path) -> None:
    study = make_study(pruner=LineagePruner(store=WeightStore(tmp_path)))
    trial, network = start(study, WIDER)
    publish_weights(trial, network, epochs=1)
    stale = study.tell(trial, state=TrialState.FAIL)
    study.enqueue_trial(stale.params, user_attrs=stale.user_attrs)
    retry = study.ask()
    if asked:
        suggest_network(retry, SPACE)
        study.tell(retry, state=TrialState.FAIL)
    steps = lineage.steps_of(study.trials[1]) or ()
    assert steps
    assert [t.number for t in lineage.find_ancestors(study, 99, steps)] == [0]


def test_a_donor_that_publishes_anew_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(pruner=LineagePruner(store=WeightStore(tmp_path)))
    trial, network = start(study, SEED)
    publish_weights(trial, network, epochs=1)
    load, n_loads = WeightStore.load, 0

    def late(store: WeightStore, record: WeightRecord) -> dict[str, torch.Tensor]:
        nonlocal n_loads
        n_loads += 1
        if n_loads < 3:  # Twice the file is gone by the time it is opened.
            shift(network, n_loads)
            publish_weights(trial, network, epochs=1 + n_loads)
        return load(store, record)

    monkeypatch.setattr(WeightStore, "load", late)
    _, child = start(study, WIDER)
    assert same_function(child, network)
    assert attributes(study)["nasmorph:donor"] == 0
    assert attributes(study)["nasmorph:inherited_epochs"] == 3.0
    assert "nasmorph:fallback" not in attributes(study)


def test_a_store_that_is_not_the_studys_is_an_error(tmp_path: Path) -> None:
    study = make_study(pruner=LineagePruner(store=WeightStore(tmp_path / "one")))
    donor(study, SEED)
    again = optuna.load_study(
        study_name=study.study_name,
        storage=study._storage,
        sampler=MorphBOSampler(seed=0),
        pruner=LineagePruner(store=WeightStore(tmp_path / "two")),
    )
    with pytest.raises(StoreError, match="looks at another directory"):
        start(again, WIDER)


# Publishing.


def test_what_is_published_comes_back() -> None:
    study = make_study()
    trial, network = start(study, WIDER)
    shift(network, 3)
    record = publish_weights(trial, network, epochs=4)
    assert record is not None
    assert record.trial_number == trial.number
    assert record.metadata["fingerprint"] == network.architecture.fingerprint
    study.tell(trial, 1.0)
    loaded = load_network(study, study.trials[0])
    assert not loaded.training
    assert same_weights(loaded, network)
    assert attributes(study)["nasmorph:effective_epochs"] == 4.0


def test_epochs_come_from_the_argument_else_from_reports_else_from_the_budget() -> None:
    study = make_study()
    donor(study, SEED)  # 2 epochs
    expected = {}
    for given, reports, budget, own in [
        (5.0, 3, 7, 5.0),
        (None, 3, 7, 3.0),
        (None, 0, 7, 7.0),
        (None, 3, None, 3.0),
        (None, 0, None, None),
        (0.0, 3, None, 0.0),
    ]:
        trial, network = start(study, WIDER, budget=budget)
        assert attributes(study)["nasmorph:inherited_epochs"] == 2.0
        for i in range(reports):
            trial.report(0.5, i)
        with one_warning("Nothing says how long") if own is None else contextlib.nullcontext():
            record = publish_weights(trial, network, epochs=given)
        study.tell(trial, state=TrialState.FAIL)
        expected[trial.number] = None if own is None else 2.0 + own
        assert record is not None
        assert record.metadata.get("effective_epochs") == expected[trial.number]
        assert attributes(study).get("nasmorph:effective_epochs") == expected[trial.number]
        study._storage.set_study_user_attr  # noqa: B018
        # So that the next one inherits from the seed again.
        only_weights = study.trials[trial.number]
        assert WeightStore.record(only_weights) is not None
        _forget(study, trial.number)


def _forget(study: optuna.Study, number: int) -> None:
    stored = study._storage._get_trial(study.trials[number]._trial_id)  # type: ignore[attr-defined]
    del stored.user_attrs["nasmorph:weights"]


def test_a_second_publication_replaces_the_first(tmp_path: Path) -> None:
    store = WeightStore(tmp_path)
    study = make_study(pruner=LineagePruner(store=store))
    trial, network = start(study, WIDER)
    publish_weights(trial, network, epochs=1)
    first = only_file(store, study, 0)
    shift(network, 1)
    publish_weights(trial, network, epochs=2)
    assert not first.exists()
    assert same_weights(load_network(study, study.trials[0]), network)
    assert attributes(study)["nasmorph:effective_epochs"] == 2.0


def averaged(network: Network) -> AveragedModel:
    """A moving average of a network's weights, after steps that move them by 1 each."""
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    for _ in range(3):
        shift(network, 1)
        average.update_parameters(network)
    return average


@pytest.mark.parametrize("wrap", [lambda n: n, nn.DataParallel, lambda n: n.module])
def test_an_average_is_what_is_loaded_and_children_go_on_from_the_network(wrap: Any) -> None:
    study = make_study()
    trial, network = start(study, SEED)
    average = averaged(network)
    assert not same_weights(average.module, network)
    record = publish_weights(trial, network, epochs=1, average=wrap(average))
    assert record is not None
    study.tell(trial, 1.0)
    assert same_weights(load_network(study, study.trials[0]), average.module)
    assert same_weights(best_network(study).network, average.module)
    child, heir = start(study, SEED)
    assert same_weights(heir, network)
    # A publication without an average leaves none behind.
    shift(heir, 1)
    publish_weights(child, heir, epochs=1, average=averaged(heir))
    publish_weights(child, heir, epochs=1)
    assert same_weights(load_network(study, study.trials[1]), heir)


def test_an_average_of_another_network_is_refused() -> None:
    study = make_study()
    trial, network = start(study, SEED)
    other = AveragedModel(Network(CNN_SPACE.seed))
    with pytest.raises(
        WeightsMismatchError, match=r"average must be of the trial's network: weights must hold 'a.weight' but do not"
    ):
        publish_weights(trial, network, epochs=1, average=other)
    with pytest.raises(TypeError, match="average must be a module or None but got OrderedDict"):
        publish_weights(trial, network, epochs=1, average=network.state_dict())  # type: ignore[arg-type]
    assert WeightStore.record(study.trials[0]) is None


def test_what_has_averaged_nothing_yet_is_no_average() -> None:
    study = make_study()
    trial, network = start(study, SEED)
    average = AveragedModel(network)
    shift(network, 1)
    publish_weights(trial, network, epochs=1, average=average)
    assert same_weights(load_network(study, study.trials[0]), network)


def test_an_average_that_is_not_finite_is_not_published() -> None:
    study = make_study()
    trial, network = start(study, SEED)
    average = averaged(network)
    with torch.no_grad():
        average.module.a.weight.fill_(torch.nan)
    with pytest.warns(UserWarning, match="Trial 0 does not become a donor: weights 'average:a.weight' must be finite"):
        assert publish_weights(trial, network, epochs=1, average=average) is None


def test_training_that_nobody_has_told_of_is_inherited_all_the_same() -> None:
    study = make_study()
    trial, network = start(study, SEED)
    with one_warning("give epochs to publish_weights"):
        publish_weights(trial, network)
    study.tell(trial, 0.0)
    start(study, WIDER)
    first, child = study.trials
    assert (lineage.budgets_of(child).inherited, lineage.inherits(first), lineage.inherits(child)) == (0.0, False, True)


def test_publishing_into_a_store_of_ones_own(tmp_path: Path) -> None:
    store = WeightStore(tmp_path)
    study = make_study()
    trial, network = start(study, WIDER)
    # The study has settled on a default directory by now: another one would split the lineage.
    with pytest.raises(StoreError):
        publish_weights(trial, network, epochs=1, store=store)


@pytest.mark.parametrize("other", ["narrower", "foreign", "one more", "transposed"])
def test_the_wrong_network_is_refused(other: str) -> None:
    study = make_study()
    trial, network = start(study, WIDER)
    if other == "narrower":
        network = Network(MLP)
    elif other == "foreign":
        network = nn.Sequential(nn.Linear(5, 2))  # type: ignore[assignment]
    elif other == "one more":
        network.register_buffer("extra", torch.zeros(3))
    else:
        network.a.weight = nn.Parameter(network.a.weight.detach().T.clone())
    with pytest.raises(WeightsMismatchError):
        publish_weights(trial, network, epochs=1)
    assert "nasmorph:weights" not in attributes(study)
    assert "nasmorph:effective_epochs" not in attributes(study)


def test_publishing_before_an_architecture_is_refused() -> None:
    trial = make_study().ask()
    with pytest.raises(WeightsMismatchError, match="trial 0 has no architecture: call suggest_network"):
        publish_weights(trial, Network(MLP))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_diverged_training_has_no_heirs(bad: float) -> None:
    study = make_study()
    seed = donor(study, SEED)
    trial, network = start(study, WIDER)
    with torch.no_grad():
        network.a.weight[0, 0] = bad
    with one_warning("Trial 1 does not become a donor: .*a.weight"):
        assert publish_weights(trial, network, epochs=1) is None
    assert "a.weight" in attributes(study)["nasmorph:unpublished"]
    study.tell(trial, 0.0)
    assert study.trials[1].state == TrialState.COMPLETE
    assert same_function(start(study, WIDER_DEEPER)[1], seed)
    with pytest.raises(WeightsMismatchError, match="trial 1 has published no weights"):
        load_network(study, study.trials[1])


TROUBLES = {
    "read-only": OSError(errno.EROFS, "Read-only file system"),
    "full": OSError(errno.ENOSPC, "No space left on device"),
    "third party": RuntimeError("botocore says no"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_store_in_trouble_does_not_stop_the_study(trouble: str, tmp_path: Path) -> None:
    class Backend(FileSystemArtifactStore):
        works = True

        def write(self, artifact_id: str, content_body: Any) -> None:
            if not self.works:
                raise TROUBLES[trouble]
            super().write(artifact_id, content_body)

    backend = Backend(tmp_path)
    study = make_study(direction="maximize", pruner=LineagePruner(NopPruner(), store=WeightStore(backend)))
    study.optimize(make_objective(), n_trials=3)
    backend.works = False
    with pytest.warns(
        UserWarning, match=f"does not become a donor: cannot write .*{re.escape(str(TROUBLES[trouble]))}"
    ) as caught:
        study.optimize(make_objective(), n_trials=4)
    assert len(caught) == 4
    backend.works = True
    study.optimize(make_objective(), n_trials=3)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 10
    published = [WeightStore.record(t) is not None for t in study.trials]
    assert published == [True] * 3 + [False] * 4 + [True] * 3
    assert ["nasmorph:unpublished" in t.user_attrs for t in study.trials] == [not p for p in published]


def test_a_store_that_vanishes_does_not_stop_the_study(tmp_path: Path) -> None:
    study = make_study(direction="maximize", pruner=LineagePruner(store=WeightStore(tmp_path / "weights")))
    study.optimize(make_objective(), n_trials=3)
    shutil.rmtree(tmp_path / "weights")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        study.optimize(make_objective(), n_trials=3)
    assert {t.state for t in study.trials} == {TrialState.COMPLETE}
    messages = [str(w.message) for w in caught]
    assert sum("does not become a donor" in m for m in messages) == 3
    assert all("does not become a donor" in m or "it starts from scratch" in m for m in messages)


def test_garbage_that_stays_does_not_stop_the_study(tmp_path: Path) -> None:
    class Sticky(FileSystemArtifactStore):
        def remove(self, artifact_id: str) -> None:
            raise PermissionError("no")

    WeightStore(tmp_path).token()
    store = WeightStore(Sticky(tmp_path), keep=Keep(best=1, recent=1))
    study = make_study(direction="maximize", pruner=LineagePruner(NopPruner(), store=store))
    with pytest.warns(UserWarning, match="Weights that are not needed any more take up space: cannot remove"):
        study.optimize(make_objective(), n_trials=6)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 6


def test_a_second_publication_makes_up_for_the_first() -> None:
    study = make_study()
    trial, network = start(study, SEED)
    bias = network.a.bias.detach().clone()
    with torch.no_grad():
        network.a.bias[0] = float("nan")
    with pytest.warns(UserWarning, match="does not become a donor"):
        publish_weights(trial, network, epochs=1)
    assert attributes(study)["nasmorph:unpublished"]
    with torch.no_grad():
        network.a.bias.copy_(bias)
    assert publish_weights(trial, network, epochs=1) is not None
    assert attributes(study)["nasmorph:unpublished"] is None


class Wrapped(nn.Module):
    """As DistributedDataParallel and torch.compile hold a network."""

    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        setattr(self, name, network)


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        lambda n: Wrapped(n, "module"),
        lambda n: Wrapped(n, "_orig_mod"),
        lambda n: Wrapped(Wrapped(n, "module"), "_orig_mod"),
        lambda n: Wrapped(Wrapped(n, "_orig_mod"), "module"),
    ],
)
def test_wrappers_are_seen_through(wrap: Any) -> None:
    study = make_study()
    trial, network = start(study, WIDER)
    publish_weights(trial, wrap(network), epochs=1)
    assert same_weights(load_network(study, study.trials[0]), network)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch.compile warns of its own parts
def test_a_compiled_network_is_seen_through() -> None:
    study = make_study()
    trial, network = start(study, WIDER)
    publish_weights(trial, torch.compile(network), epochs=1)  # not called, so nothing is compiled
    assert same_weights(load_network(study, study.trials[0]), network)


@pytest.mark.parametrize(
    "wrap",
    [lambda n: n, nn.DataParallel, lambda n: Wrapped(Wrapped(n, "_orig_mod"), "module")],
    ids=["bare", "DataParallel", "both"],
)
def test_a_node_may_be_called_as_wrappers_call_what_they_hold(wrap: Any) -> None:
    seed = graph(("x", Input((5,))), ("module", Linear(4)), ("relu", RELU), ("fc", Linear(2)))
    space = MorphSpace(seed, (Widen(2.0),), max_morphisms=1)
    study = make_study()
    trial, network = start(study, SEED, space)
    shift(network, 1)
    optimizer = torch.optim.SGD(network.parameters(), momentum=0.9)
    assert publish_weights(trial, wrap(network), epochs=1, optimizer=optimizer) is not None
    assert same_weights(load_network(study, study.trials[0]), network)


class FullyShardedDataParallel(nn.Module):
    """Has the name of PyTorch's."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


class FSDPModule:
    """Has the name of the class that ``fully_shard`` mixes in."""


class ShardedNetwork(FSDPModule, Network):
    """As made by ``fully_shard``."""


def test_sharded_networks_are_refused() -> None:
    study = make_study()
    trial, network = start(study, SEED)
    for sharded in (
        FullyShardedDataParallel(network),
        Wrapped(FullyShardedDataParallel(network), "_orig_mod"),
        ShardedNetwork(MLP),
    ):
        with pytest.raises(WeightsMismatchError, match="must be whole on this process but is sharded"):
            publish_weights(trial, sharded)
    assert "nasmorph:weights" not in attributes(study)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision(dtype: torch.dtype) -> None:
    study = make_study()
    trial, network = start(study, SEED)
    publish_weights(trial, network.to(dtype), epochs=1)
    study.tell(trial, 0.0)
    child = start(study, WIDER)[1].to(torch.float64).eval()
    with torch.no_grad():
        expected = network.to(torch.float64).eval()(X.double())
        assert torch.allclose(child(X.double()), expected, atol=0.05)


def test_attributes_stay_below_the_limit_of_mysql() -> None:
    study = make_study()
    donor(study, SEED)
    trial, network = start(study, WIDER_DEEPER)
    publish_weights(trial, network, epochs=1)
    for key, value in attributes(study).items():
        assert len(json.dumps(value).encode()) < 65_000, key


# Reproducibility.


def run(n_trials: int, sampler: optuna.samplers.BaseSampler, space: MorphSpace = CNN_SPACE) -> list[Any]:
    """What a study proposes and what its networks weigh."""
    study = optuna.create_study(study_name="same", sampler=sampler)
    seen: list[Any] = []

    def objective(trial: optuna.Trial) -> float:
        network = suggest_network(trial, space)
        lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        weights = network.state_dict()
        seen.append((trial.params, network.architecture, {k: v.numpy().tobytes() for k, v in weights.items()}))
        publish_weights(trial, network, epochs=1)
        return float(network.architecture.n_parameters * lr)

    study.optimize(objective, n_trials=n_trials)
    return seen


def test_the_same_seed_gives_the_same_networks_bit_for_bit() -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = run(7, quick_sampler(3, seed=5))
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert run(7, quick_sampler(3, seed=5)) == first
    assert run(4, quick_sampler(3, seed=6)) != first[:4]


def test_without_a_seed_of_ours_the_name_of_the_study_is_the_seed() -> None:
    def weights(name: str) -> torch.Tensor:
        study = optuna.create_study(study_name=name, sampler=optuna.samplers.RandomSampler(seed=0))
        return start(study, SEED)[1].a.weight

    assert torch.equal(weights("a"), weights("a"))
    assert not torch.equal(weights("a"), weights("b"))


def test_other_trials_draw_other_weights() -> None:
    study = make_study()
    networks = [start(study, SEED)[1] for _ in range(3)]
    assert not same_function(networks[0], networks[1])
    assert not same_function(networks[1], networks[2])


def test_the_global_generators_are_left_alone() -> None:
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    run(5, quick_sampler(2))
    after = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert np.array_equal(before[1][1], after[1][1]) and before[1][2] == after[1][2]


def test_a_different_layout_is_no_donor() -> None:
    # A seed of the same size under another name is another space.
    study = make_study()
    donor(study, SEED)
    other = MorphSpace(CNN.replace({"conv_1": Conv.same(2, 5, 3, bias=False)}), max_morphisms=3)
    with pytest.raises(ValueError, match="another space"):
        start(study, SEED, other)


def test_pruned_trials_are_donors() -> None:
    study = optuna.create_study(
        sampler=quick_sampler(2), pruner=optuna.pruners.ThresholdPruner(upper=-1.0), direction="minimize"
    )
    study.optimize(make_objective(sign=-1.0), n_trials=5)
    pruned = [t for t in study.trials if t.state == TrialState.PRUNED]
    assert pruned
    assert all(WeightStore.record(t) is not None for t in pruned)
    assert {t.user_attrs.get("nasmorph:donor") for t in study.trials} & {t.number for t in pruned}


# What people do with networks: copies, precision, compilers, processes.


def step(network: nn.Module, **options: Any) -> None:
    """One step of training."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network.train()
    with torch.autocast("cpu", dtype=torch.bfloat16, **options):
        loss = network(IMAGES).square().mean()
    loss.backward()
    optimizer.step()


def check_donor(study: optuna.Study, network: Network) -> None:
    """Published weights are the network's, and a child computes what it computes."""
    assert same_weights(load_network(study, study.trials[0]), network)
    study.tell(0, 1.0)
    trial, child = start(study, {"arch/n": 1, "arch/00/op": "deepen:relu", "arch/00/at": 0.5}, CNN_SPACE)
    assert trial.user_attrs["nasmorph:parent"] == 0 and "nasmorph:fallback" not in trial.user_attrs
    assert len(child.architecture.nodes) > len(network.architecture.nodes)
    with torch.no_grad():
        torch.testing.assert_close(child.eval()(IMAGES), network.eval()(IMAGES))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_a_copy_of_a_network_becomes_a_donor(duplicate: Callable[[Network], Network]) -> None:
    study = make_study()
    trial, network = start(study, SEED, CNN_SPACE)
    twin = duplicate(network)
    step(twin, enabled=False)
    publish_weights(trial, twin, epochs=1)
    assert not same_weights(twin, network)
    check_donor(study, twin)


def test_a_network_trained_with_autocast_becomes_a_donor() -> None:
    study = make_study()
    trial, network = start(study, SEED, CNN_SPACE)
    step(network)
    assert {value.dtype for value in network.parameters()} == {torch.float32}
    publish_weights(trial, network, epochs=1)
    check_donor(study, network)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile warns of its own parts
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_network_trained_compiled_becomes_a_donor(backend: str) -> None:
    study = make_study()
    trial, network = start(study, SEED, CNN_SPACE)
    twin = copy.deepcopy(network)
    torch.compiler.reset()
    compiled = torch.compile(network, backend=backend, fullgraph=True)
    step(compiled, enabled=False)
    step(twin, enabled=False)
    torch.testing.assert_close(network.state_dict(), twin.state_dict())
    publish_weights(trial, compiled, epochs=1)
    check_donor(study, network)


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("wrap", [nn.parallel.DistributedDataParallel, nn.DataParallel])
def test_a_network_trained_in_parallel_becomes_a_donor(wrap: Callable[[Network], nn.Module]) -> None:
    study = make_study()
    trial, network = start(study, SEED, CNN_SPACE)
    before = copy.deepcopy(network)
    wrapped = wrap(network)
    step(wrapped, enabled=False)
    publish_weights(trial, wrapped, epochs=1)
    assert not same_weights(before, network)
    check_donor(study, network)
