"""Studies that grow a user's own network from the weights that it has."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import FixedTrial
from torch import Tensor, nn

from optuna_nas_morph import (
    LineagePruner,
    MorphSpace,
    WeightStore,
    finalize,
    lineage,
    publish_weights,
    suggest_network,
)
from optuna_nas_morph.errors import SpaceMismatchError, WeightsCorruptError, WeightsMissingError
from tests.studies import make_objective, quick_sampler

ROOT = Path(__file__).parents[1]
SEED: dict[str, Any] = {"arch/n": 0}
WIDER: dict[str, Any] = {"arch/n": 1, "arch/00/op": "widen:2", "arch/00/at": 0.25}
X = torch.randn(7, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Own(nn.Module):
    """A user's own network."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.norm = nn.BatchNorm2d(4)
            self.fc = nn.Linear(4, 2)
            nn.init.normal_(self.norm.running_mean)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


def own_space(seed: int = 0) -> MorphSpace:
    return MorphSpace.from_module(Own(seed), X, max_morphisms=3)


def described(space: MorphSpace) -> MorphSpace:
    """The space as another process reads it from the study: without tensors."""
    return MorphSpace.from_dict(space.to_dict())


def outputs(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return network.eval()(X)


def ask(study: optuna.Study, params: dict[str, Any], **attributes: Any) -> optuna.Trial:
    study.enqueue_trial(params, user_attrs=attributes)
    return study.ask()


def study_in(directory: Path, **arguments: Any) -> optuna.Study:
    return optuna.create_study(
        storage=f"sqlite:///{directory / 'nas.db'}",
        study_name="own",
        load_if_exists=True,
        pruner=LineagePruner(store=WeightStore(directory / "weights")),
        **{"sampler": quick_sampler(), **arguments},
    )


def test_the_first_trial_starts_from_the_weights_of_the_module(tmp_path: Path) -> None:
    trial = ask(study_in(tmp_path), SEED)
    network = suggest_network(trial, own_space())
    assert torch.equal(outputs(network), outputs(Own()))
    assert torch.equal(network.conv.weight, Own().conv.weight)  # type: ignore[union-attr, arg-type]
    assert lineage.DONOR not in trial.user_attrs
    assert trial.user_attrs[lineage.INHERITED_EPOCHS] == 0


@pytest.mark.parametrize("attributes", [{}, {"nasmorph:kind": "fresh"}], ids=["search", "fresh"])
def test_a_grown_network_without_ancestors_starts_from_them_too(tmp_path: Path, attributes: dict[str, str]) -> None:
    network = suggest_network(ask(study_in(tmp_path), WIDER, **attributes), own_space())
    assert network.architecture.n_parameters > own_space().seed.n_parameters
    torch.testing.assert_close(outputs(network), outputs(Own()))


def test_a_trained_ancestor_comes_before_the_module(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    first = ask(study, SEED)
    network = suggest_network(first, own_space())
    with torch.no_grad():
        network.fc.bias += 1.0  # type: ignore[union-attr, operator]
    publish_weights(first, network, epochs=1)
    study.tell(first, 1.0)
    child = ask(study, WIDER)
    torch.testing.assert_close(outputs(suggest_network(child, own_space())), outputs(Own()) + 1.0)
    assert child.user_attrs[lineage.DONOR] == 0
    # From scratch is from the module again.
    fresh = ask(study, SEED, **{"nasmorph:kind": "fresh"})
    assert torch.equal(outputs(suggest_network(fresh, own_space())), outputs(Own()))


def test_drift_is_measured_from_the_module(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    for params in (SEED, WIDER):
        trial = ask(study, params)
        suggest_network(trial, own_space(), probe=X)
        assert trial.user_attrs[lineage.DRIFT] < 1e-5


def test_training_does_not_reach_the_weights_of_the_space(tmp_path: Path) -> None:
    study, space = study_in(tmp_path), own_space()
    for _ in range(2):
        trial = ask(study, SEED)
        network = suggest_network(trial, space)
        assert torch.equal(outputs(network), outputs(Own()))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()


def test_a_fixed_trial_starts_from_the_module() -> None:
    assert torch.equal(outputs(suggest_network(FixedTrial(SEED), own_space())), outputs(Own()))
    torch.testing.assert_close(outputs(suggest_network(FixedTrial(WIDER), own_space())), outputs(Own()))
    with pytest.raises(WeightsMissingError, match="space must have the weights of its seed where there is no study"):
        suggest_network(FixedTrial(SEED), described(own_space()))


# Processes that have only the description.


def test_a_described_space_finds_the_weights_in_the_store(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    suggest_network(ask(study, SEED), own_space())
    space = lineage.space_of(optuna.load_study(study_name="own", storage=study._storage))
    assert space == own_space()
    assert torch.equal(outputs(suggest_network(ask(study, SEED), described(own_space()))), outputs(Own()))
    torch.testing.assert_close(outputs(suggest_network(ask(study, WIDER), described(own_space()))), outputs(Own()))


def test_weights_that_the_store_has_not_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match=r"must hold the weights of the seed.*MorphSpace.from_module"):
        suggest_network(ask(study_in(tmp_path), SEED), described(own_space()))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda body: body[:-3],
    "one_bit": lambda body: body[:-1] + bytes([body[-1] ^ 1]),
    "empty": lambda body: b"",
    "pickle": lambda body: b"\x80\x04.",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_weights_are_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    study = study_in(tmp_path)
    suggest_network(ask(study, SEED), own_space())
    (file,) = (tmp_path / "weights").glob("nasmorph-seed-*")
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(WeightsCorruptError):
        suggest_network(ask(study, SEED), described(own_space()))
    # Who has the weights does not read the file.
    assert torch.equal(outputs(suggest_network(ask(study, SEED), own_space())), outputs(Own()))


def test_weights_of_another_module_are_refused(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    suggest_network(ask(study, SEED), own_space(0))
    with pytest.raises(SpaceMismatchError, match="the seed starts from other weights"):
        suggest_network(ask(study, SEED), own_space(1))


def test_a_store_that_cannot_be_written_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from optuna_nas_morph.errors import StoreError
    from optuna_nas_morph.weights.artifacts import Artifacts

    def full(self: Artifacts, artifact_id: str, body: bytes) -> None:
        raise StoreError("cannot write: no space left on device")

    monkeypatch.setattr(Artifacts, "write_whole", full)
    with pytest.warns(UserWarning, match="Other processes will not find the weights of the seed: .*no space left"):
        network = suggest_network(ask(study_in(tmp_path), SEED), own_space())
    assert torch.equal(outputs(network), outputs(Own()))


# A search.


def test_a_search_grows_the_module(tmp_path: Path) -> None:
    study = study_in(tmp_path, direction="maximize")
    study.optimize(make_objective(own_space()), n_trials=10)
    assert {t.state for t in study.trials} <= {optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED}
    assert len({t.user_attrs[lineage.FINGERPRINT] for t in study.trials}) > 3
    assert all(t.user_attrs.get(lineage.FALLBACK) is None for t in study.trials)


def test_finals_start_from_the_module(tmp_path: Path) -> None:
    study = study_in(tmp_path, direction="maximize")
    study.optimize(make_objective(own_space()), n_trials=4)
    differences = []

    def objective(trial: optuna.Trial) -> float:
        network = suggest_network(trial, own_space())
        differences.append((outputs(network) - outputs(Own())).abs().max().item())
        trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        return float(network.architecture.n_parameters)

    finalize(study, objective, top_k=2)
    assert differences and max(differences) < 1e-5


WORKER = """
import pathlib, sys
import optuna
import torch
from optuna_nas_morph import LineagePruner, MorphSpace, WeightStore, lineage, publish_weights, suggest_network
from tests.test_own_network import Own, described, outputs, own_space, study_in
from tests.studies import score

who = sys.argv[1]
study = study_in(pathlib.Path("."), direction="maximize")
space = own_space() if who == "module" else lineage.space_of(study)
assert (space.weights.tensors is None) == (who != "module")

def objective(trial):
    network = suggest_network(trial, space)
    lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    trial.set_user_attr("process", who)
    # Nothing trains, so every network computes what the module computes, whoever it inherits from.
    trial.set_user_attr("difference", (outputs(network) - outputs(Own())).abs().max().item())
    if trial.number > 3:  # The first ones leave nothing to inherit.
        publish_weights(trial, network, epochs=1)
    return score(network, lr)

study.optimize(objective, n_trials=int(sys.argv[2]))
"""


def test_two_processes_share_a_database(tmp_path: Path) -> None:
    def run(who: str, n_trials: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "ignore", "-c", WORKER, who, str(n_trials)]
        environment = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)

    # The second process reads the space, and where need be the weights, from the study of the first.
    for jobs in ({"module": 1}, {"module": 4, "description": 4}):
        workers = [run(who, n_trials) for who, n_trials in jobs.items()]
        errors = [worker.communicate(timeout=240)[1] for worker in workers]
        assert [worker.returncode for worker in workers] == [0] * len(workers), errors

    trials = optuna.load_study(study_name="own", storage=f"sqlite:///{tmp_path / 'nas.db'}").trials
    assert [t.user_attrs["process"] for t in trials].count("description") == 4
    assert len(trials) == 9
    assert max(t.user_attrs["difference"] for t in trials) < 1e-5
    assert all(lineage.FALLBACK not in t.user_attrs for t in trials)
