"""Optimizers and learning rates that go on in a child."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import FixedTrial, TrialState
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, Optimizer

from optuna_nas_morph import (
    LineagePruner,
    MorphSpace,
    Network,
    WeightStore,
    inherit_optimizer,
    inherited_epochs,
    publish_weights,
    suggest_network,
)
from optuna_nas_morph.errors import WeightsMismatchError
from optuna_nas_morph.morphisms import Widen
from tests.studies import CNN_SPACE, SPACE, quick_sampler

SEED: dict[str, Any] = {"arch/n": 0}
WIDER: dict[str, Any] = {"arch/n": 1, "arch/00/op": "widen:2", "arch/00/at": 0.25}
COPIED: dict[str, Any] = {"arch/n": 1, "arch/00/op": "widen:2,copy", "arch/00/at": 0.25}
DEEPER: dict[str, Any] = {"arch/n": 1, "arch/00/op": "deepen:relu", "arch/00/at": 0.1}
X = torch.randn(32, 5, generator=torch.Generator().manual_seed(0))
Y = torch.randint(2, (32,), generator=torch.Generator().manual_seed(1))

OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "SGD": lambda parameters: SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "Nesterov": lambda parameters: SGD(parameters, lr=0.1, momentum=0.8, nesterov=True),
    "plain SGD": lambda parameters: SGD(parameters, lr=0.1),
    "Adam": lambda parameters: Adam(parameters, lr=0.01),
    "AMSGrad": lambda parameters: Adam(parameters, lr=0.01, amsgrad=True, betas=(0.8, 0.95)),
    "AdamW": lambda parameters: AdamW(parameters, lr=0.01),
    "fused AdamW": lambda parameters: AdamW(parameters, lr=0.01, fused=True),
    "tensors as settings": lambda parameters: Adam(parameters, lr=torch.tensor(0.01), foreach=False),
    "groups": lambda parameters: AdamW([{"params": [p], "weight_decay": 0.1 * i} for i, p in enumerate(parameters)]),
}


def make_study(**arguments: Any) -> optuna.Study:
    return optuna.create_study(sampler=quick_sampler(), **arguments)


def start(study: optuna.Study, params: dict[str, Any], space: MorphSpace = SPACE) -> tuple[optuna.Trial, Network]:
    study.enqueue_trial(params)
    trial = study.ask()
    return trial, suggest_network(trial, space)


def train(network: nn.Module, optimizer: Optimizer, n_steps: int = 5) -> None:
    for _ in range(n_steps):
        optimizer.zero_grad()
        F.cross_entropy(network(X), Y).backward()
        optimizer.step()


def donor(
    study: optuna.Study, make: Callable[[Any], Optimizer], params: dict[str, Any] = SEED, space: MorphSpace = SPACE
) -> Optimizer:
    """A finished trial that published its optimizer too."""
    trial, network = start(study, params, space)
    optimizer = make(network.parameters())
    train(network, optimizer)
    publish_weights(trial, network, epochs=2, optimizer=optimizer)
    study.tell(trial, 0.0)
    return optimizer


def same(a: Any, b: Any) -> bool:
    """Whether two states or state dicts are equal to the bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)


def said(study: optuna.Study) -> str:
    return str(study.trials[-1].user_attrs["nasmorph:optimizer"])


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("wrap", [lambda n: n, nn.DataParallel], ids=["bare", "wrapped"])
def test_the_same_network_goes_on_to_the_bit(make: Callable[[Any], Optimizer], wrap: Any) -> None:
    study = make_study()
    trial, network = start(study, SEED)
    optimizer = make(network.parameters())
    train(network, optimizer)
    publish_weights(trial, wrap(network), epochs=2, optimizer=optimizer)
    study.tell(trial, 0.0)

    trial, heir = start(study, SEED)
    resumed = make(heir.parameters())
    assert inherit_optimizer(trial, wrap(heir), resumed)
    assert said(study) == "that of trial 0"
    assert same(resumed.state_dict(), optimizer.state_dict())
    train(network, optimizer)
    train(heir, resumed)
    assert same(dict(heir.state_dict()), dict(network.state_dict()))
    # It is a state of its own.
    assert same(resumed.state_dict(), optimizer.state_dict())
    if make is OPTIMIZERS["Adam"]:
        restarted = start(study, SEED)[1]
        train(restarted, make(restarted.parameters()))
        assert not same(dict(restarted.state_dict()), dict(network.state_dict()))


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_child_goes_on(make: Callable[[Any], Optimizer]) -> None:
    study = make_study()
    theirs = donor(study, make).state_dict()["state"]
    trial, network = start(study, WIDER)
    optimizer = make(network.parameters())
    settings = optimizer.state_dict()["param_groups"]
    assert inherit_optimizer(trial, network, optimizer)
    assert same(optimizer.state_dict()["param_groups"], settings)
    mine = optimizer.state_dict()["state"]
    names = [name for name, _ in network.named_parameters()]
    assert mine.keys() == theirs.keys()
    for i, moments in mine.items():
        assert moments.keys() == theirs[i].keys()
        for moment, tensor in moments.items():
            if moment == "step":
                assert tensor == theirs[i]["step"] == 5
            elif names[i] in ("b.bias", "fc.weight", "fc.bias"):
                assert torch.equal(tensor, theirs[i][moment])
            else:
                assert tensor.shape == dict(network.named_parameters())[names[i]].shape
                assert (tensor != 0).any()
    train(network, optimizer)
    assert all(torch.isfinite(p).all() for p in network.parameters())


def test_moments_follow_the_draws_of_the_weights() -> None:
    study = make_study()
    space = MorphSpace(SPACE.seed, [Widen(2.0, "copy")])
    donor(study, OPTIMIZERS["SGD"], space=space)
    for _ in range(4):
        trial, network = start(study, COPIED, space)
        optimizer = OPTIMIZERS["SGD"](network.parameters())
        assert inherit_optimizer(trial, network, optimizer)
        momentum = optimizer.state[network.a.weight]["momentum_buffer"]
        for unit in range(4, 8):  # a copy, and its momentum that of the unit whose weights it has
            (original,) = (i for i in range(4) if torch.equal(network.a.weight[i], network.a.weight[unit]))
            assert torch.equal(momentum[original], momentum[unit])
        assert len({tuple(row.tolist()) for row in momentum}) == 4


def test_a_new_layer_counts_its_steps_from_zero() -> None:
    study = make_study()
    donor(study, OPTIMIZERS["Adam"])
    trial, network = start(study, DEEPER)
    optimizer = Adam(network.parameters())
    assert inherit_optimizer(trial, network, optimizer)
    new = {name for name, p in network.named_parameters() if p not in optimizer.state}
    assert new == {"linear_1.weight", "linear_1.bias"}
    train(network, optimizer, 1)
    steps = {name: float(optimizer.state[p]["step"]) for name, p in network.named_parameters()}
    assert steps == {name: 1.0 if name in new else 6.0 for name in steps}


def test_only_what_both_train_is_inherited() -> None:
    study = make_study()
    trial, network = start(study, SEED)
    train(network, optimizer := SGD([network.b.weight, network.fc.weight], lr=0.1, momentum=0.9))
    publish_weights(trial, network, epochs=1, optimizer=optimizer)
    trial, heir = start(study, SEED)
    other = nn.Parameter(torch.zeros(2))
    resumed = SGD([other, heir.a.weight, heir.b.weight], lr=0.1, momentum=0.9)
    assert inherit_optimizer(trial, heir, resumed)
    assert list(resumed.state) == [heir.b.weight]
    assert torch.equal(
        resumed.state[heir.b.weight]["momentum_buffer"], optimizer.state[network.b.weight]["momentum_buffer"]
    )


def test_moments_have_the_type_of_the_parameters() -> None:
    study = make_study()
    donor(study, OPTIMIZERS["AdamW"])
    trial, network = start(study, WIDER)
    network.double()
    optimizer = AdamW(network.parameters())
    assert inherit_optimizer(trial, network, optimizer)
    assert all(state["exp_avg"].dtype == torch.float64 for state in optimizer.state.values())


# Nothing to go on with.


@pytest.mark.parametrize(
    ("theirs", "mine"),
    [
        ("SGD", "AdamW"),
        ("Adam", "AdamW"),
        ("AdamW", "Adam"),
        ("SGD", "Nesterov"),  # another momentum
        ("SGD", "plain SGD"),
        ("Adam", "AMSGrad"),
        (None, "SGD"),
    ],
)
def test_another_optimizer_starts_anew(theirs: str | None, mine: str) -> None:
    study = make_study()
    if theirs is None:
        trial, network = start(study, SEED)
        publish_weights(trial, network, epochs=1)
    else:
        donor(study, OPTIMIZERS[theirs])
    trial, network = start(study, WIDER)
    optimizer = OPTIMIZERS[mine](network.parameters())
    before = optimizer.state_dict()
    assert not inherit_optimizer(trial, network, optimizer)
    assert same(optimizer.state_dict(), before)
    assert said(study).startswith("new: that of trial 0 must be {")


def test_from_scratch_and_outside_of_a_study() -> None:
    study = make_study()
    trial, network = start(study, SEED)
    assert not inherit_optimizer(trial, network, SGD(network.parameters()))
    assert said(study) == "new: the weights are new too."
    fixed = FixedTrial(SEED)
    network = suggest_network(fixed, SPACE)
    assert not inherit_optimizer(fixed, network, SGD(network.parameters()))


@pytest.mark.parametrize("damage", ["lost", "damaged", "collected"])
def test_a_donor_that_is_gone_by_now(damage: str, tmp_path: Any) -> None:
    study = make_study(pruner=LineagePruner(store=WeightStore(tmp_path)))
    donor(study, OPTIMIZERS["SGD"])
    trial, network = start(study, WIDER)
    record = WeightStore.record(study.trials[0])
    assert record is not None
    file = tmp_path / record.artifact_id
    if damage == "damaged":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        file.unlink()
    if damage == "collected":
        study.set_user_attr("nasmorph:collected", [[0, 0]])
    optimizer = OPTIMIZERS["SGD"](network.parameters())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert not inherit_optimizer(trial, network, optimizer)
    assert len(caught) == (0 if damage == "collected" else 1)
    assert record.artifact_id in said(study)
    assert not optimizer.state


def test_a_retry_does_not_say_what_its_first_run_did() -> None:
    study = make_study()
    donor(study, OPTIMIZERS["SGD"])
    trial, network = start(study, WIDER)
    inherit_optimizer(trial, network, OPTIMIZERS["SGD"](network.parameters()))
    stale = study.tell(trial, state=TrialState.FAIL)
    study.enqueue_trial(stale.params, user_attrs=stale.user_attrs)
    suggest_network(study.ask(), SPACE)
    assert study.trials[-1].user_attrs["nasmorph:optimizer"] is None


class Custom(Optimizer):
    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})


def test_optimizers_that_cannot_be_inherited() -> None:
    study = make_study()
    trial, network = start(study, SEED)
    stranger = SGD([nn.Parameter(torch.zeros(3))])
    uneven = Adam([{"params": [network.a.weight], "betas": (0.5, 0.9)}, {"params": [network.b.weight]}])
    for optimizer, error, message in [
        (Custom(network.parameters()), TypeError, "optimizer must be one of SGD, Adam, AdamW but got Custom"),
        (torch.optim.LBFGS(network.parameters()), TypeError, "but got LBFGS"),
        (stranger, ValueError, "must be of the network's parameters"),
        (uneven, ValueError, "optimizer must average alike in all groups but got .*0.5.*0.999"),
    ]:
        with pytest.raises(error, match=message):
            publish_weights(trial, network, epochs=1, optimizer=optimizer)
    assert "nasmorph:weights" not in study.trials[0].user_attrs
    publish_weights(trial, network, epochs=1, optimizer=SGD(network.parameters(), momentum=0.9))
    study.tell(trial, 0.0)
    trial, network = start(study, SEED)
    for optimizer, error in [(Custom(network.parameters()), TypeError), (stranger, ValueError)]:
        with pytest.raises(error):
            inherit_optimizer(trial, network, optimizer)


def test_moments_that_diverged_make_no_donor() -> None:
    study = make_study()
    trial, network = start(study, SEED)
    train(network, optimizer := OPTIMIZERS["SGD"](network.parameters()))
    optimizer.state[network.a.weight]["momentum_buffer"][0, 0] = math.inf
    with pytest.warns(
        UserWarning, match="does not become a donor: .*'optimizer:momentum_buffer:a.weight' must be finite"
    ):
        assert publish_weights(trial, network, epochs=1, optimizer=optimizer) is None


def test_a_study_with_optimizers_goes_on() -> None:
    def objective(trial: optuna.Trial) -> float:
        network = suggest_network(trial, CNN_SPACE)
        optimizer = AdamW(network.parameters(), lr=trial.suggest_float("lr", 1e-4, 1e-1, log=True))
        assert inherit_optimizer(trial, network, optimizer) == (trial.user_attrs.get("nasmorph:donor") is not None)
        for _ in range(2):
            optimizer.zero_grad()
            loss = network(torch.ones(4, 1, 5, 5)).square().mean()
            loss.backward()
            optimizer.step()
        publish_weights(trial, network, epochs=1, optimizer=optimizer)
        return float(loss.detach())

    study = make_study()
    study.optimize(objective, n_trials=8)
    assert all(t.state == TrialState.COMPLETE for t in study.trials)
    assert sum(t.user_attrs["nasmorph:optimizer"].startswith("that of") for t in study.trials) >= 4


# Learning rates that go on.


def test_inherited_epochs() -> None:
    study = make_study()
    trial, network = start(study, SEED)
    assert inherited_epochs(trial) == 0.0
    publish_weights(trial, network, epochs=2.5)
    assert inherited_epochs(trial) == 0.0
    study.tell(trial, 0.0)
    trial, network = start(study, WIDER)
    assert inherited_epochs(trial) == 2.5
    publish_weights(trial, network, epochs=3)
    assert inherited_epochs(start(study, WIDER)[0]) == 5.5
    assert inherited_epochs(FixedTrial(SEED)) == 0.0
    with pytest.raises(WeightsMismatchError, match="call suggest_network"):
        inherited_epochs(study.ask())


def test_a_schedule_that_goes_on_is_one_schedule() -> None:
    def rates(start_epoch: float, n: int) -> list[float]:
        optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda epoch: 0.5 * (1 + math.cos(math.pi * min(1, (start_epoch + epoch) / 6)))
        )
        found = []
        for _ in range(n):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return found

    study = make_study()
    trial, network = start(study, SEED)
    first = rates(inherited_epochs(trial), 4)
    publish_weights(trial, network, epochs=4)
    assert first + rates(inherited_epochs(start(study, WIDER)[0]), 4) == pytest.approx(rates(0, 8))
