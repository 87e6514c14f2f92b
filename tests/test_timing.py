"""Measured latency: what is measured, and that it can be an objective and a constraint. No time is compared."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
import torch
from torch import Tensor, nn

from optuna_nas_morph import Latency, Network, latency, suggest_network
from tests.strategies import example_architectures, random_network
from tests.studies import CNN, CNN_SPACE, SPACE, quick_sampler

EXAMPLES = example_architectures()
FAST = {"min_run_time": 1e-3}


class Recorder(nn.Module):
    """Notes how it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[tuple[int, ...], bool, bool, int]] = []
        self.drop = nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append((tuple(x.shape), self.drop.training, torch.is_grad_enabled(), torch.get_num_threads()))
        return x


def test_passes_are_in_eval_mode_without_gradients_and_many() -> None:
    network, n_threads = Recorder(), torch.get_num_threads()
    network.drop.eval()
    network.training = True
    found = latency(network, inputs=[torch.zeros(4, 3)], n_threads=n_threads + 1, **FAST)
    assert set(network.calls) == {((4, 3), False, False, n_threads + 1)}
    assert len(network.calls) >= found.n_measurements
    assert (found.batch_size, found.device) == (4, "cpu")
    assert network.training and not network.drop.training  # each as it was
    assert torch.get_num_threads() == n_threads


@pytest.mark.parametrize("name", ["two_inputs", "token_embedding", "gate", "input"])
@pytest.mark.parametrize("as_architecture", [False, True])
def test_inputs_follow_from_the_architecture(name: str, as_architecture: bool) -> None:
    architecture = EXAMPLES[name]
    found = latency(architecture if as_architecture else random_network(architecture), 3, **FAST)
    assert found.batch_size == 3 and 0 < found.median < float("inf") and found.iqr >= 0


def test_wrapped_networks() -> None:
    assert latency(nn.DataParallel(Network(CNN)), **FAST).median > 0


def test_the_network_keeps_its_place_and_its_weights() -> None:
    network = random_network(CNN).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.device("meta"):
        elsewhere = Network(CNN)
    assert latency(network, device="meta", **FAST).device == "meta"
    assert latency(elsewhere, **FAST).device == "meta"
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_it_is_a_value() -> None:
    found = Latency(median=0.00321, iqr=0.0001, n_measurements=61, batch_size=8, device="cpu")
    assert found == Latency(0.00321, 0.0001, 61, 8, "cpu")
    assert str(found) == "3.21 ms for a batch of 8 on cpu (interquartile range 0.1 ms, 61 measurements)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a positive integer but got 0"),
        ({"batch_size": 1.0}, r"batch_size must be a positive integer but got 1\.0"),
        ({"n_threads": 0}, "n_threads must be a positive integer but got 0"),
        ({"min_run_time": 0}, "min_run_time must be a positive number of seconds but got 0"),
        ({"min_run_time": float("nan")}, "min_run_time must be a positive number of seconds but got nan"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        latency(CNN, **arguments)


def test_other_modules_need_inputs() -> None:
    with pytest.raises(TypeError, match="network must be a Network, wrapped or not, but got Linear"):
        latency(nn.Linear(2, 2), **FAST)


def test_as_an_objective_and_as_a_constraint() -> None:
    def objective(trial: optuna.Trial) -> tuple[float, float]:
        network = suggest_network(trial, CNN_SPACE)
        seconds = latency(network, **FAST).median
        trial.set_constraint("latency", seconds - 60)
        return float(network.architecture.activation_bytes), seconds

    study = optuna.create_study(directions=["minimize", "minimize"], sampler=quick_sampler())
    study.optimize(objective, n_trials=4)
    assert all(trial.values[1] > 0 for trial in study.trials)
    assert study.best_trials


@pytest.mark.parametrize("cost", ["n_parameters", "flops", "activation_bytes"])
def test_costs_as_objectives_and_as_constraints(cost: str) -> None:
    most = {"n_parameters": 100, "flops": 200, "activation_bytes": 120}[cost]

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        value = getattr(suggest_network(trial, SPACE).architecture, cost)
        trial.set_constraint(cost, value - most)
        return -abs(value - most), value

    study = optuna.create_study(directions=["maximize", "minimize"], sampler=quick_sampler())
    study.optimize(objective, n_trials=5)
    assert all(trial.values[1] <= most for trial in study.best_trials)
