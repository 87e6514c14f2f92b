"""Publish, crash, collect, lose, retry, load, in any order: the study goes on, and nobody starts from a lie."""

from __future__ import annotations

import errno
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from optuna.artifacts import FileSystemArtifactStore
from optuna.trial import FrozenTrial, TrialState
from torch import Tensor

from optuna_nas_morph import (
    Keep,
    LineagePruner,
    Network,
    WeightStore,
    inherit_optimizer,
    lineage,
    load_network,
    publish_weights,
    suggest_network,
)
from optuna_nas_morph.errors import StoreError, WeightsCorruptError, WeightsMissingError
from optuna_nas_morph.weights import resolve
from optuna_nas_morph.weights.store import TOKEN_NAME
from tests.studies import SPACE

WIDER: dict[str, Any] = {"arch/n": 1, "arch/00/op": "widen:2", "arch/00/at": 0.25}
PARAMS: tuple[dict[str, Any], ...] = (
    {"arch/n": 0},
    WIDER,
    {**WIDER, "arch/n": 2, "arch/01/op": "deepen:relu", "arch/01/at": 0.9},
    {"arch/n": 1, "arch/00/op": "widen:1.5", "arch/00/at": 0.75},
)
X = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
TROUBLES = ("read-only", "full", "third party", "unreadable", "gone")
VALUES = st.integers(0, 5)


class Killed(BaseException):
    """Stands for a process that ends here."""


class Backend(FileSystemArtifactStore):
    """A directory that can be in trouble, and in which a worker can be killed."""

    trouble = "none"
    kill = "never"

    def write(self, artifact_id: str, content_body: Any) -> None:
        if self.trouble == "read-only":
            raise OSError(errno.EROFS, "Read-only file system")
        if self.trouble == "full":
            super().write(artifact_id, content_body)
            raise OSError(errno.ENOSPC, "No space left on device")
        if self.trouble in ("third party", "gone"):
            raise RuntimeError("the bucket says no")
        if self.kill == "while it writes":
            Path(self._get_filepath(artifact_id)).write_bytes(content_body.read()[:100])
            raise Killed
        super().write(artifact_id, content_body)

    def open_reader(self, artifact_id: str) -> Any:
        if self.trouble in ("unreadable", "gone"):
            raise ConnectionError("gone")
        if self.kill == "before it commits":
            raise Killed
        return super().open_reader(artifact_id)

    def remove(self, artifact_id: str) -> None:
        if self.kill == "while it writes":  # Nobody is left to tidy up.
            raise Killed
        if self.trouble != "none":
            raise PermissionError("no")
        super().remove(artifact_id)


class Donors(RuleBasedStateMachine):
    """A study, and a model of it: what every trial has published, and what became of the file."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        WeightStore(self.directory).token()
        self.backend = Backend(self.directory)
        self.store = WeightStore(self.backend, keep=None)
        self.study = optuna.create_study(
            study_name="machine",
            direction="maximize",
            sampler=optuna.samplers.RandomSampler(seed=0),
            pruner=LineagePruner(store=self.store),
        )
        resolve(self.study)  # A worker that starts without its store stops at once; trouble comes later here.
        self.running: dict[int, tuple[optuna.Trial, Network, torch.optim.Optimizer]] = {}
        self.published: dict[int, dict[str, Tensor]] = {}
        self.moments: dict[int, dict[str, Tensor]] = {}
        self.files: dict[int, str] = {}  # good, lost, damaged, collected

    def teardown(self) -> None:
        self.backend.trouble = "none"
        self.good_files_load_and_others_say_why()
        shutil.rmtree(self.directory)

    # What a worker does.

    def begin(self) -> None:
        """Ask for a trial and its network, and compare whose weights it has with the model."""
        trial = self.study.ask()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            network = suggest_network(trial, SPACE)
        attributes = trial.user_attrs
        steps = attributes["nasmorph:steps"]
        donor, fallback = attributes.get("nasmorph:donor"), attributes.get("nasmorph:fallback") or []
        readable = self.backend.trouble not in ("unreadable", "gone")
        usable = {
            n: len(self.steps(n))
            for n, file in self.files.items()
            if readable and file == "good" and self.steps(n) == steps[: len(self.steps(n))]
        }
        if donor is None:
            assert not usable
            assert attributes["nasmorph:inherited_epochs"] == 0
        else:
            assert usable[donor] == max(usable.values())
            assert attributes["nasmorph:inherited_epochs"] == self.epochs(donor)
            parent = Network(lineage.architecture_of(self.trial(donor)))  # type: ignore[arg-type]
            parent.load_state_dict(self.published[donor])
            with torch.no_grad():
                assert torch.allclose(parent.eval()(X), network.eval()(X), rtol=1e-4, atol=1e-5)
        assert len(caught) == (1 if fallback else 0)
        for text in fallback:
            number = int(text.split(":")[0].removeprefix("trial "))
            assert not readable or self.files[number] in ("lost", "damaged")
        # Nothing of an earlier run is left in a retry.
        assert attributes.get("nasmorph:weights") is None
        assert attributes.get("nasmorph:effective_epochs") is None
        assert attributes.get("nasmorph:unpublished") is None
        optimizer = torch.optim.Adam(network.parameters())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            went_on = inherit_optimizer(trial, network, optimizer)
        assert went_on == (donor is not None and donor in self.moments)
        self.running[trial.number] = (trial, network, optimizer)

    def steps(self, number: int) -> list[str]:
        return list(self.trial(number).user_attrs["nasmorph:steps"])

    def epochs(self, number: int) -> float:
        return float(self.trial(number).user_attrs["nasmorph:effective_epochs"])

    def trial(self, number: int) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[number]

    def committed(self, number: int, network: Network, optimizer: torch.optim.Optimizer | None) -> None:
        self.published[number] = {name: w.clone() for name, w in network.state_dict().items()}
        self.moments.pop(number, None)
        if optimizer is not None:
            names = [name for name, _ in network.named_parameters()]
            state = optimizer.state_dict()["state"]
            self.moments[number] = {names[i]: s["exp_avg"].clone() for i, s in state.items()}
        self.files[number] = "good"

    @rule(which=st.sampled_from(PARAMS))
    def start(self, which: dict[str, Any]) -> None:
        self.study.enqueue_trial(which)
        self.begin()

    @rule(which=st.sampled_from(PARAMS), with_optimizer=st.booleans(), value=VALUES)
    def a_whole_trial(self, which: dict[str, Any], with_optimizer: bool, value: int) -> None:
        self.start(which)
        number = max(self.running)
        self.train_and_publish(number, with_optimizer, diverged=False)
        self.study.tell(self.running.pop(number)[0], float(value))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), with_optimizer=st.booleans(), diverged=st.booleans())
    def publish(self, data: st.DataObject, with_optimizer: bool, diverged: bool) -> None:
        self.train_and_publish(data.draw(st.sampled_from(sorted(self.running))), with_optimizer, diverged)

    def train_and_publish(self, number: int, with_optimizer: bool, diverged: bool) -> None:
        trial, network, optimizer = self.running[number]
        optimizer.zero_grad()
        network.train()(X).square().sum().backward()
        optimizer.step()
        if diverged:
            kept = network.a.bias.detach().clone()
            with torch.no_grad():
                network.a.bias[0] = float("nan")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            record = publish_weights(trial, network, epochs=1, optimizer=optimizer if with_optimizer else None)
        assert len(caught) == (record is None)
        assert (record is None) == (diverged or self.backend.trouble != "none")
        if record is None:
            assert trial.user_attrs["nasmorph:unpublished"]
        else:
            assert trial.user_attrs.get("nasmorph:unpublished") is None
            self.committed(number, network, optimizer if with_optimizer else None)
        if diverged:
            with torch.no_grad():
                network.a.bias.copy_(kept)

    @precondition(lambda self: self.running and self.backend.trouble == "none")
    @rule(data=st.data(), stage=st.sampled_from(["while it writes", "before it commits"]), retried=st.booleans())
    def crash(self, data: st.DataObject, stage: str, retried: bool) -> None:
        """A worker is killed while it publishes; the heartbeat finds out, and maybe retries the trial."""
        number = data.draw(st.sampled_from(sorted(self.running)))
        trial, network, optimizer = self.running.pop(number)
        self.backend.kill = stage
        try:
            publish_weights(trial, network, epochs=1, optimizer=optimizer)
        except Killed:
            pass
        else:
            raise AssertionError("nobody was killed")
        finally:
            self.backend.kill = "never"
        stale = self.study.tell(trial, state=TrialState.FAIL)
        if retried:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                optuna.storages.RetryHeartbeatStaleTrialCallback()(self.study, stale)
            self.begin()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), value=VALUES, pruned=st.booleans())
    def finish(self, data: st.DataObject, value: int, pruned: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.running)))
        trial, *_ = self.running.pop(number)
        if pruned:
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, float(value))

    # What happens to the store.

    @rule(best=st.integers(1, 2), recent=st.integers(0, 2), max_bytes=st.one_of(st.none(), st.integers(0, 20_000)))
    def collect(self, best: int, recent: int, max_bytes: int | None) -> None:
        before = lineage.collected_of(self.study)
        try:
            removed = self.store.collect(self.study, Keep(best, recent, max_bytes))
        except StoreError:
            assert self.backend.trouble != "none"
            assert lineage.collected_of(self.study) == before
            return
        assert lineage.collected_of(self.study) == before | set(removed)
        assert not set(removed) & self.running.keys()
        assert not before & set(removed)
        for number in removed:
            self.files[number] = "collected"
            self.moments.pop(number, None)

    @precondition(lambda self: "good" in self.files.values())
    @rule(data=st.data(), loss=st.booleans())
    def lose(self, data: st.DataObject, loss: bool) -> None:
        number = data.draw(st.sampled_from([n for n, file in self.files.items() if file == "good"]))
        file = self.directory / self.record(self.trial(number)).artifact_id
        self.files[number] = "lost" if loss else "damaged"
        self.moments.pop(number, None)
        if loss:
            file.unlink()
            return
        content = bytearray(file.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        file.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) - 1]))])

    @precondition(lambda self: self.backend.trouble == "none")
    @rule(trouble=st.sampled_from(TROUBLES))
    def get_into_trouble(self, trouble: str) -> None:
        self.backend.trouble = trouble

    @precondition(lambda self: self.backend.trouble != "none")
    @rule()
    def get_out_of_trouble(self) -> None:
        self.backend.trouble = "none"

    # What always holds.

    @staticmethod
    def record(trial: FrozenTrial) -> Any:
        record = WeightStore.record(trial)
        assert record is not None
        return record

    @invariant()
    def records_are_of_what_was_published(self) -> None:
        trials = self.study.get_trials(deepcopy=False)
        owners = {t.number: r for t in trials if (r := WeightStore.record(t)) is not None}
        assert owners.keys() == self.published.keys()
        assert len({record.artifact_id for record in owners.values()}) == len(owners)

    def good_files_load_and_others_say_why(self) -> None:
        trials = self.study.get_trials(deepcopy=False)
        for number, file in self.files.items():
            trial = trials[number]
            if file != "good":
                error = WeightsCorruptError if file == "damaged" else WeightsMissingError
                with pytest.raises(error, match="to save space" if file == "collected" else "weights .* must"):
                    load_network(self.study, trial)
                continue
            loaded = load_network(self.study, trial).state_dict()
            assert all(torch.equal(loaded[name], w) for name, w in self.published[number].items())
            moments = self.store.load_moments(self.record(trial)).get("exp_avg", {})
            assert moments.keys() == self.moments.get(number, {}).keys()
            assert all(torch.equal(moments[name], m) for name, m in self.moments.get(number, {}).items())

    @precondition(lambda self: self.backend.trouble == "none")
    @invariant()
    def no_file_is_left_of_what_was_collected(self) -> None:
        left = {file.name for file in self.directory.iterdir()} - {TOKEN_NAME}
        trials = self.study.get_trials(deepcopy=False)
        for number, file in self.files.items():
            assert (self.record(trials[number]).artifact_id in left) == (file in ("good", "damaged"))


Donors.TestCase.settings = settings(
    max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestDonors = Donors.TestCase
