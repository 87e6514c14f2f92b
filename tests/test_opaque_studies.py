"""Studies that grow a network with opaque parts: weights and moments are inherited, in one process and in several."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import optuna
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from optuna_nas_morph import (
    LineagePruner,
    MorphSpace,
    WeightStore,
    best_network,
    export_onnx,
    export_source,
    inherit_optimizer,
    lineage,
    load_network,
    publish_weights,
    suggest_network,
)
from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.weights.inherit import inherit
from tests.studies import quick_sampler

ROOT = Path(__file__).parents[1]
SEED: dict[str, Any] = {"arch/n": 0}
WIDER: dict[str, Any] = {"arch/n": 1, "arch/00/op": "widen:2", "arch/00/at": 0.9}
X = torch.randn(7, 4, 3, generator=torch.Generator().manual_seed(0))


class Own(nn.Module):
    """A user's own network: a GRU, and a classifier with something that is in no state dict."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            self.gru = nn.GRU(3, 5, batch_first=True)
            self.norm = nn.GroupNorm(1, 5)
            self.shift = Shift(5)
            self.fc1, self.fc2 = nn.Linear(5, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        _, h = self.gru(x)
        return self.fc2(torch.relu(self.fc1(self.shift(self.norm(h[-1])))))


class Shift(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.register_buffer("table", torch.linspace(-1, 1, n), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table


def own_space() -> MorphSpace:
    return MorphSpace.from_module(Own(), X, max_morphisms=3, opaque=[Shift])


def outputs(network: nn.Module, x: Tensor = X) -> Tensor:
    with torch.no_grad():
        return network.eval()(x)


def study_in(directory: Path) -> optuna.Study:
    return optuna.create_study(
        storage=f"sqlite:///{directory / 'nas.db'}",
        study_name="opaque",
        load_if_exists=True,
        direction="maximize",
        sampler=quick_sampler(),
        pruner=LineagePruner(store=WeightStore(directory / "weights")),
    )


def ask(study: optuna.Study, params: dict[str, Any]) -> optuna.Trial:
    study.enqueue_trial(params)
    return study.ask()


def trained(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(3):
        optimizer.zero_grad()
        network.train()(X).square().mean().backward()
        optimizer.step()


def test_the_first_trial_is_the_module(tmp_path: Path) -> None:
    network = suggest_network(ask(study_in(tmp_path), SEED), own_space())
    assert torch.equal(outputs(network), outputs(Own()))
    kinds = {n.name: n.op.kind for n in network.architecture.nodes if n.op.op_name == "opaque"}  # type: ignore[attr-defined]
    assert kinds == {"gru": "GRU", "norm": "GroupNorm", "shift": "Shift"}


def test_weights_and_moments_of_opaque_parts_are_inherited(tmp_path: Path) -> None:
    study, space = study_in(tmp_path), own_space()
    first = ask(study, SEED)
    network = suggest_network(first, space)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    trained(network, optimizer)
    publish_weights(first, network, epochs=1, optimizer=optimizer)
    study.tell(first, 1.0)

    second = ask(study, WIDER)
    child = suggest_network(second, space)
    assert second.user_attrs[lineage.DONOR] == 0
    assert child.architecture.n_parameters > network.architecture.n_parameters
    torch.testing.assert_close(outputs(child), outputs(network))
    name = "gru.gru.weight_hh_l0"
    assert torch.equal(child.state_dict()[name], network.state_dict()[name])
    assert not torch.equal(child.state_dict()[name], Own().gru.weight_hh_l0)
    new = torch.optim.Adam(child.parameters(), lr=0.01)
    assert inherit_optimizer(second, child, new)
    for key in ("exp_avg", "exp_avg_sq"):
        mine, theirs = (opt.state[net.get_parameter(name)][key] for opt, net in ((new, child), (optimizer, network)))
        assert torch.equal(mine, theirs) and mine.abs().sum() > 0
    trained(child, new)


class Counted(nn.Module):
    """An embedding by positions, which are a buffer of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("positions", torch.arange(63))
        self.scale = nn.Embedding(63, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(x * self.scale(self.positions).mean(0)))


def test_integers_are_not_averaged() -> None:
    space = MorphSpace.from_module(Counted(), torch.zeros(2, 6))
    study = optuna.create_study(sampler=quick_sampler())
    trial = study.ask()
    network = suggest_network(trial, space)
    (positions,) = (name for name, t in network.state_dict().items() if not t.is_floating_point())
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.95), use_buffers=True)
    for _ in range(60):
        average.update_parameters(network)
    publish_weights(trial, network, epochs=1, average=average)
    study.tell(trial, 1.0)
    assert torch.equal(load_network(study, study.trials[0], space=space).state_dict()[positions], torch.arange(63))


def test_drift_is_measured_through_opaque_parts(tmp_path: Path) -> None:
    trial = ask(study_in(tmp_path), WIDER)
    suggest_network(trial, own_space(), probe=X)
    assert trial.user_attrs[lineage.DRIFT] < 1e-5


def test_tied_weights_within_a_part_pass_through_a_study(tmp_path: Path) -> None:
    from tests.translation.test_opaque import Tied

    x = torch.randn(5, 4)
    space = MorphSpace.from_module(nn.Sequential(Tied(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), x, opaque=[Tied])
    study = study_in(tmp_path)
    first = ask(study, SEED)
    network = suggest_network(first, space)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    network(x).square().mean().backward()
    optimizer.step()
    publish_weights(first, network, epochs=1, optimizer=optimizer)
    study.tell(first, 1.0)
    second = ask(study, WIDER)
    child = suggest_network(second, space, probe=x)
    torch.testing.assert_close(outputs(child, x), outputs(network, x))
    assert inherit_optimizer(second, child, torch.optim.Adam(child.parameters()))
    part = child.get_submodule("layer_0")
    assert part.embed.weight is part.again.weight  # type: ignore[union-attr]


def test_a_search_grows_what_is_around(tmp_path: Path) -> None:
    study, space = study_in(tmp_path), own_space()

    def objective(trial: optuna.Trial) -> float:
        network = suggest_network(trial, space)
        trained(network, torch.optim.SGD(network.parameters(), lr=0.1))
        publish_weights(trial, network, epochs=1)
        return float(-outputs(network).square().mean())

    study.optimize(objective, n_trials=8)
    assert len({t.user_attrs[lineage.FINGERPRINT] for t in study.trials}) > 3
    assert all(lineage.FALLBACK not in t.user_attrs for t in study.trials)
    best = best_network(study)
    assert float(-outputs(best.network).square().mean()) == best.value


def test_every_chain_keeps_what_it_computes() -> None:
    space, rng = own_space(), np.random.default_rng(1)
    assert space.weights is not None and space.weights.tensors is not None
    from optuna_nas_morph.nets import Network

    for _ in range(10):
        member = space.random(rng)
        network = Network(member.architecture)
        network.load_state_dict(inherit(space, member.steps, 0, space.weights.tensors, rng))
        torch.testing.assert_close(outputs(network), outputs(Own()), rtol=2e-5, atol=2e-5)


def test_who_has_only_the_description_is_told_what_to_do(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    suggest_network(ask(study, SEED), own_space())
    described = MorphSpace.from_dict(own_space().to_dict())
    assert described == own_space() and not described.is_whole
    with pytest.raises(ArchitectureError, match=r"node 'gru': opaque: .*use the space that MorphSpace\.from_module"):
        suggest_network(ask(study, SEED), described)


def test_the_best_is_taken_away(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    trial = ask(study, WIDER)
    network = suggest_network(trial, own_space())
    publish_weights(trial, network, epochs=1)
    study.tell(trial, 1.0)
    best = load_network(study, study.trials[0])
    assert torch.equal(outputs(best), outputs(network))
    with pytest.raises(ArchitectureError, match="node 'gru' is an opaque GRU, whose code is in the network"):
        export_source(best.architecture, tmp_path / "best.py", weights=best)
    assert not (tmp_path / "best.py").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_onnx_computes_the_same(tmp_path: Path) -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = nn.functional.interpolate(self.norm(self.conv(x)), scale_factor=2)
            return self.head(x.mean((2, 3)))

    x = torch.randn(3, 3, 6, 6)
    space = MorphSpace.from_module(Small(), x)
    network = suggest_network(ask(study_in(tmp_path), SEED), space)
    export_onnx(network, tmp_path / "own.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "own.onnx")
    (found,) = session.run(None, {"layer_x" if "layer_x" in network.architecture.inputs else "x": x.numpy()})
    np.testing.assert_allclose(found, outputs(network, x), atol=1e-4)


WORKER = """
import pathlib, sys
import optuna
from optuna_nas_morph import best_network, lineage, publish_weights, suggest_network
from optuna_nas_morph.errors import ArchitectureError
from tests.test_opaque_studies import Own, outputs, own_space, study_in

study = study_in(pathlib.Path("."))
if sys.argv[1] == "best":  # A process that has suggested nothing.
    try:
        best_network(study)
    except ArchitectureError as e:
        assert "use the space that MorphSpace.from_module" in str(e)
    else:
        raise AssertionError
    assert (outputs(best_network(study, space=own_space()).network) - outputs(Own())).abs().max() < 1e-5
    sys.exit()
lineage.space_of(study)  # Only what the study tells, if it tells something.
space = own_space()

def objective(trial):
    network = suggest_network(trial, space)
    # Nothing trains, so every network computes what the module computes, whoever it inherits from.
    trial.set_user_attr("difference", (outputs(network) - outputs(Own())).abs().max().item())
    publish_weights(trial, network, epochs=1)
    return trial.suggest_float("lr", 0, 1)

study.optimize(objective, n_trials=int(sys.argv[1]))
best_network(study)
"""


def test_several_processes_share_a_database(tmp_path: Path) -> None:
    def run(argument: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "ignore", "-c", WORKER, argument]
        environment = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)

    for arguments in (["1"], ["3", "3"], ["best"]):
        workers = [run(argument) for argument in arguments]
        errors = [worker.communicate(timeout=240)[1] for worker in workers]
        assert [worker.returncode for worker in workers] == [0] * len(workers), errors
    trials = optuna.load_study(study_name="opaque", storage=f"sqlite:///{tmp_path / 'nas.db'}").trials
    assert len(trials) == 7
    assert max(t.user_attrs["difference"] for t in trials) < 1e-5
    assert any(lineage.DONOR in t.user_attrs for t in trials)
    assert all(lineage.FALLBACK not in t.user_attrs for t in trials)
