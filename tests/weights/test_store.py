"""Weights go in and come back: round trips, records, and which store a study uses."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.artifacts import Backoff, FileSystemArtifactStore, get_all_artifact_meta
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

import optuna_nas_morph.weights.artifacts as artifacts_module
import optuna_nas_morph.weights.location as location_module
from optuna_nas_morph.errors import StoreError, WeightsCorruptError, WeightsError, WeightsNotFiniteError
from optuna_nas_morph.weights import RECORD_ATTR, STORE_ATTR, WeightRecord, WeightStore, resolve
from optuna_nas_morph.weights.location import StoreLocation
from optuna_nas_morph.weights.moments import Moments
from optuna_nas_morph.weights.store import TOKEN_NAME

optuna.logging.set_verbosity(optuna.logging.ERROR)

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
FLOATS_8 = [torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz]
INTEGERS = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64]
DTYPES = [*FLOATS, *FLOATS_8, *INTEGERS, torch.bool, torch.complex64]
N_BYTES_OF_VIEW = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

RECORD = WeightRecord(
    version=1,
    trial_number=3,
    artifact_id="0b6b5a2e-7a44-4a4e-9d1e-8f3d3c1f9a10",
    sha256="a" * 64,
    n_bytes=100,
    store_token="0b6b5a2e-7a44-4a4e-9d1e-8f3d3c1f9a11",
    metadata={"epochs": 5},
)


class MemoryArtifactStore:
    """A store that is no file system, such as a bucket."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    def open_reader(self, artifact_id: str) -> Any:
        import io

        if artifact_id not in self.blobs:
            raise optuna.artifacts.exceptions.ArtifactNotFound("not found")
        return io.BytesIO(self.blobs[artifact_id])

    def write(self, artifact_id: str, content_body: Any) -> None:
        self.blobs[artifact_id] = content_body.read()

    def remove(self, artifact_id: str) -> None:
        self.blobs.pop(artifact_id, None)  # As S3: silent if missing.


class PrunerWithStore(BasePruner):
    def __init__(self, store: WeightStore, wrapped: BasePruner | None = None) -> None:
        self.store = store
        self.wrapped = wrapped

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return False


class WrappingPruner(BasePruner):
    """What PatientPruner is, without its experimental warning."""

    def __init__(self, wrapped_pruner: BasePruner | None) -> None:
        self._wrapped_pruner = wrapped_pruner

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return False


@pytest.fixture(autouse=True)
def short_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts_module, "SETTLE_SECONDS", 0.01)


def tensor_of(dtype: torch.dtype, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3
    return (values > 0) if dtype is torch.bool else values.abs().to(dtype) if dtype in INTEGERS else values.to(dtype)


def assert_same(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype
        assert actual[name].shape == tensor.shape
        view = N_BYTES_OF_VIEW[tensor.element_size()]
        flat, wanted = actual[name].contiguous().reshape(-1), tensor.detach().resolve_conj().contiguous().reshape(-1)
        assert torch.equal(flat.view(view), wanted.view(view)), name


def new_trial() -> optuna.Trial:
    return optuna.create_study(storage=InMemoryStorage()).ask()


STORAGES: dict[str, Callable[[Path], BaseStorage]] = {
    "memory": lambda directory: InMemoryStorage(),
    "sqlite": lambda directory: RDBStorage(f"sqlite:///{directory}/study.db"),
    "journal": lambda directory: JournalStorage(JournalFileBackend(f"{directory}/study.log")),
}


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> BaseStorage:
    return STORAGES[request.param](tmp_path)


class TestRoundTrip:
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (4, 5)], ids=str)
    def test_dtypes_and_shapes(self, tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        weights = {"x": tensor_of(dtype, shape)}
        store = WeightStore(tmp_path)
        assert_same(store.load(store.publish(new_trial(), weights)), weights)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_any_layout(self, tmp_path: Path, data: st.DataObject) -> None:
        weights = {}
        for name in data.draw(st.lists(st.text(max_size=8).filter("__metadata__".__ne__), unique=True, max_size=4)):
            shape = tuple(data.draw(st.lists(st.integers(0, 4), max_size=4)))
            tensor = tensor_of(data.draw(st.sampled_from(DTYPES)), shape, seed=data.draw(st.integers(0, 99)))
            layout = data.draw(st.sampled_from(["plain", "transposed", "expanded", "strided", "parameter"]))
            if layout == "transposed":
                tensor = tensor.permute(tuple(reversed(range(tensor.ndim))))
            elif layout == "expanded":
                tensor = tensor.unsqueeze(0).expand(3, *shape)
            elif layout == "strided" and shape:
                tensor = tensor[..., ::2]
            elif layout == "parameter" and tensor.dtype in FLOATS:
                tensor = torch.nn.Parameter(tensor)
            weights[name] = tensor
            if data.draw(st.booleans()):
                weights[name + "/shared"] = tensor
        store = WeightStore(tmp_path)
        assert_same(store.load(store.publish(new_trial(), weights)), weights)

    def test_parts_of_one_memory(self, tmp_path: Path) -> None:
        base = torch.arange(12.0)
        weights = {"all": base, "head": base[:4], "overlap": base[2:8], "matrix": base.view(3, 4).t()}
        store = WeightStore(tmp_path)
        loaded = store.load(store.publish(new_trial(), weights))
        assert_same(loaded, weights)
        loaded["all"].zero_()
        assert_same({"head": loaded["head"]}, {"head": torch.arange(4.0)})

    def test_conjugate_and_negative_views(self, tmp_path: Path) -> None:
        weights = {"x": torch.complex(torch.ones(2), torch.ones(2)).conj()}
        store = WeightStore(tmp_path)
        assert store.load(store.publish(new_trial(), weights))["x"].tolist() == [1 - 1j, 1 - 1j]
        negative = {"x": weights["x"].imag}
        assert negative["x"].is_neg()
        assert store.load(store.publish(new_trial(), negative))["x"].tolist() == [-1, -1]

    def test_moments_are_kept_apart(self, tmp_path: Path) -> None:
        weights = {"a.weight": torch.ones(2), "a.bias": torch.zeros(1)}
        moments = {"exp_avg": {"a.weight": torch.arange(2.0)}, "step": {"a.weight": torch.tensor(3.0)}}
        store = WeightStore(tmp_path)
        record = store.publish(new_trial(), weights, moments=moments)
        assert_same(store.load(record), weights)
        loaded = store.load_moments(record)
        assert loaded.keys() == moments.keys()
        for moment, tensors in moments.items():
            assert_same(loaded[moment], tensors)
        assert store.load_moments(store.publish(new_trial(), weights)) == {}

    @pytest.mark.parametrize("moments", [{}, {"exp_avg": {"a.weight": torch.arange(2.0)}}])
    def test_an_average_is_kept_apart(self, moments: Moments, tmp_path: Path) -> None:
        weights, average = {"a.weight": torch.ones(2)}, {"a.weight": torch.full((2,), 0.5)}
        store = WeightStore(tmp_path)
        record = store.publish(new_trial(), weights, moments=moments, average=average)
        assert_same(store.load(record), weights)
        assert_same(store.load_average(record), average)
        assert store.load_moments(record).keys() == moments.keys()

    def test_without_an_average_it_is_the_weights(self, tmp_path: Path) -> None:
        weights = {"a.weight": torch.ones(2)}
        store = WeightStore(tmp_path)
        assert_same(store.load_average(store.publish(new_trial(), weights)), weights)

    @pytest.mark.parametrize("name", ["optimizer:x:y", "average:x"])
    def test_weights_cannot_pass_for_anything_else(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=f"must start with neither 'optimizer:' nor 'average:' but got '{name}'"):
            WeightStore(tmp_path).publish(new_trial(), {name: torch.ones(1)})

    def test_an_average_that_is_not_finite(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsNotFiniteError, match="weights 'average:x' must be finite"):
            WeightStore(tmp_path).publish(new_trial(), {"x": torch.ones(1)}, average={"x": torch.tensor([torch.nan])})

    def test_no_weights_at_all(self, tmp_path: Path) -> None:
        store = WeightStore(tmp_path)
        assert store.load(store.publish(new_trial(), {})) == {}

    def test_loaded_weights_can_be_trained_on(self, tmp_path: Path) -> None:
        network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
        store = WeightStore(tmp_path)
        record = store.publish(new_trial(), network.state_dict())
        network.load_state_dict(store.load(record))
        network(torch.ones(4, 3)).sum().backward()

    @pytest.mark.parametrize(
        "wrap", [FileSystemArtifactStore, lambda p: Backoff(FileSystemArtifactStore(p)), str, Path]
    )
    def test_kinds_of_file_system_store(self, tmp_path: Path, wrap: Callable[[Path], Any]) -> None:
        store = WeightStore(wrap(tmp_path))
        assert store.path == tmp_path
        record = store.publish(new_trial(), {"x": torch.ones(2)})
        assert_same(store.load(record), {"x": torch.ones(2)})
        assert store.remove(record)
        assert not store.remove(record)

    def test_store_without_a_file_system(self) -> None:
        backend = MemoryArtifactStore()
        record = WeightStore(Backoff(backend)).publish(new_trial(), {"x": torch.ones(2)})
        other_worker = WeightStore(backend)
        assert other_worker.path is None
        assert_same(other_worker.load(record), {"x": torch.ones(2)})
        assert WeightStore(Backoff(backend)).remove(record)  # Backoff.remove alone would sleep for 50 seconds.
        assert set(backend.blobs) == {TOKEN_NAME}

    def test_directory_is_made_and_relative_paths_stay(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        store = WeightStore("a/b")
        assert not Path("a").exists()
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        store.publish(new_trial(), {})
        assert store.path == tmp_path / "a" / "b"
        assert len(list(store.path.iterdir())) == 2

    def test_a_relative_artifact_store_is_named_absolutely(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert WeightStore(FileSystemArtifactStore("a")).path == tmp_path / "a"

    def test_survives_pickling(self, tmp_path: Path) -> None:
        store = WeightStore(tmp_path)
        record = store.publish(new_trial(), {"x": torch.ones(2)})
        assert_same(pickle.loads(pickle.dumps(store)).load(record), {"x": torch.ones(2)})

    def test_threads(self, tmp_path: Path) -> None:
        study = optuna.create_study(pruner=PrunerWithStore(WeightStore(tmp_path)))

        def objective(trial: optuna.Trial) -> float:
            resolve(study).publish(trial, {"x": torch.full((50,), float(trial.number))})
            return 0.0

        study.optimize(objective, n_trials=24, n_jobs=4)
        for trial in study.get_trials():
            record = WeightStore.record(trial)
            assert record is not None
            assert resolve(study).load(record)["x"].unique().item() == trial.number

    @pytest.mark.parametrize("bad", [{"x": [1.0]}, {1: torch.ones(1)}, {"__metadata__": torch.ones(1)}])
    def test_what_is_no_named_tensor_is_refused(self, tmp_path: Path, bad: Any) -> None:
        with pytest.raises(WeightsError, match=r"x|1|__metadata__"):
            WeightStore(tmp_path).publish(new_trial(), bad)

    @pytest.mark.parametrize(
        "tensor",
        [torch.ones(2, dtype=torch.complex128), torch.ones(2, 2).to_sparse(), torch.empty(2, device="meta")],
        ids=["complex128", "sparse", "meta"],
    )
    def test_tensors_that_cannot_be_stored_are_refused(self, tmp_path: Path, tensor: torch.Tensor) -> None:
        with pytest.raises(WeightsError, match="'bad'"):
            WeightStore(tmp_path).publish(new_trial(), {"good": torch.ones(1), "bad": tensor})

    @pytest.mark.parametrize("dtype", [*FLOATS, *FLOATS_8, torch.complex64], ids=str)
    def test_nan_is_refused(self, tmp_path: Path, dtype: torch.dtype) -> None:
        trial = new_trial()
        weights = {"good": torch.ones(3), "layer.bad": torch.tensor([1.0, float("nan")]).to(dtype)}
        with pytest.raises(WeightsError, match=r"'layer\.bad' must be finite but got 1 of 2"):
            WeightStore(tmp_path).publish(trial, weights)
        assert WeightStore.record(trial) is None
        assert not list(tmp_path.iterdir())

    def test_infinity_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="finite"):
            WeightStore(tmp_path).publish(new_trial(), {"x": torch.tensor(float("-inf"))})


class TestRecord:
    def test_in_every_storage(self, storage: BaseStorage, tmp_path: Path) -> None:
        study = optuna.create_study(storage=storage)
        store = WeightStore(tmp_path / "weights")
        metadata = {"epochs": 3.5, "fingerprint": "abc", "nested": {"list": [1, None, True]}}
        trial = study.ask()
        published = store.publish(trial, {"x": torch.arange(3.0)}, metadata=metadata)
        assert WeightStore.record(trial) == published
        study.tell(trial, 1.0)
        (frozen,) = study.get_trials()
        assert WeightStore.record(frozen) == published
        assert published.metadata == metadata
        assert_same(store.load(published), {"x": torch.arange(3.0)})
        (meta,) = get_all_artifact_meta(frozen, storage=storage)
        assert (meta.artifact_id, meta.filename) == (published.artifact_id, "trial-0-weights.safetensors")

    def test_no_record(self) -> None:
        assert WeightStore.record(new_trial()) is None

    def test_republishing_replaces(self, tmp_path: Path) -> None:
        store, trial = WeightStore(tmp_path), new_trial()
        first = store.publish(trial, {"x": torch.zeros(2)})
        second = store.publish(trial, {"x": torch.ones(2)})
        assert WeightStore.record(trial) == second
        assert_same(store.load(second), {"x": torch.ones(2)})
        assert {file.name for file in tmp_path.iterdir()} == {TOKEN_NAME, second.artifact_id}
        assert first.artifact_id != second.artifact_id

    def test_republishing_after_the_old_file_is_gone(self, tmp_path: Path) -> None:
        store, trial = WeightStore(tmp_path), new_trial()
        assert store.remove(store.publish(trial, {"x": torch.zeros(2)}))
        store.load(store.publish(trial, {"x": torch.ones(2)}))

    def test_a_retry_does_not_own_the_copied_record(self, tmp_path: Path) -> None:
        study = optuna.create_study()
        store, trial = WeightStore(tmp_path), study.ask()
        original = store.publish(trial, {"x": torch.zeros(2)})
        with pytest.warns(optuna.exceptions.ExperimentalWarning):
            callback = optuna.storages.RetryHeartbeatStaleTrialCallback()
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        callback(study, study.get_trials()[0])
        retried = study.ask()
        assert retried.user_attrs[RECORD_ATTR] == original.to_dict()
        assert WeightStore.record(retried) is None
        new = store.publish(retried, {"x": torch.ones(2)})
        assert WeightStore.record(retried) == new
        store.load(original)  # The retry has not removed what it does not own.

    def test_a_finished_trial_cannot_publish(self, tmp_path: Path) -> None:
        study = optuna.create_study()
        trial = study.ask()
        study.tell(trial, 1.0)
        with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
            WeightStore(tmp_path).publish(trial, {})
        assert [file.name for file in tmp_path.iterdir()] == [TOKEN_NAME]

    def test_dictionary_round_trip(self) -> None:
        assert WeightRecord.from_dict(RECORD.to_dict()) == RECORD
        assert hash(RECORD) == hash(WeightRecord.from_dict(RECORD.to_dict()))

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("version", 2),
            ("version", True),
            ("version", "1"),
            ("trial_number", -1),
            ("trial_number", 1.0),
            ("trial_number", True),
            ("artifact_id", "../../etc/passwd"),
            ("artifact_id", "/etc/passwd"),
            ("artifact_id", TOKEN_NAME),
            ("artifact_id", RECORD.artifact_id.upper()),
            ("artifact_id", RECORD.artifact_id + "\n"),
            ("artifact_id", RECORD.artifact_id.replace("-", "")),
            ("artifact_id", 7),
            ("sha256", "a" * 63),
            ("sha256", "g" * 64),
            ("sha256", "a" * 64 + "\n"),
            ("n_bytes", -1),
            ("n_bytes", "100"),
            ("store_token", ""),
            ("store_token", None),
            ("metadata", None),
            ("metadata", {1: 2}),
        ],
    )
    def test_a_bad_field_is_named(self, field: str, value: object) -> None:
        with pytest.raises(WeightsCorruptError, match=f"field {field} must be"):
            WeightRecord.from_dict(RECORD.to_dict() | {field: value})

    @pytest.mark.parametrize("field", RECORD.to_dict())
    def test_a_missing_field_is_named(self, field: str) -> None:
        value = RECORD.to_dict()
        del value[field]
        with pytest.raises(WeightsCorruptError, match=field):
            WeightRecord.from_dict(value)

    @pytest.mark.parametrize("value", [[], "x", 1, {}, RECORD.to_dict() | {"pickle": "x"}])
    def test_what_is_no_record(self, value: object) -> None:
        with pytest.raises(WeightsCorruptError, match="weight record"):
            WeightRecord.from_dict(value)

    def test_a_bad_record_in_a_trial(self, tmp_path: Path) -> None:
        trial = new_trial()
        trial.set_user_attr(RECORD_ATTR, RECORD.to_dict() | {"artifact_id": "../x"})
        with pytest.raises(WeightsCorruptError, match="artifact_id"):
            WeightStore.record(trial)
        WeightStore(tmp_path).publish(trial, {})
        assert WeightStore.record(trial) is not None

    @pytest.mark.parametrize("metadata", [{"loss": float("nan")}, {"x": torch.ones(1)}, {"x": "y" * 40_000}])
    def test_bad_metadata_is_refused_before_anything_is_written(self, tmp_path: Path, metadata: Any) -> None:
        with pytest.raises(ValueError, match="metadata must"):
            WeightStore(tmp_path).publish(new_trial(), {}, metadata=metadata)
        assert not list(tmp_path.iterdir())


class TestResolve:
    @pytest.fixture(autouse=True)
    def in_temporary_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    @pytest.mark.parametrize("pruner", [None, NopPruner(), MedianPruner(), WrappingPruner(None)])
    def test_default_directory(self, tmp_path: Path, pruner: BasePruner | None) -> None:
        study = optuna.create_study(storage=f"sqlite:///{tmp_path}/a.db", pruner=pruner)
        store = resolve(study)
        assert store.path == tmp_path / "optuna-nas-morph" / "weights"
        recorded = study.user_attrs[STORE_ATTR]
        assert recorded == {
            "version": 1,
            "kind": "filesystem",
            "path": str(store.path),
            "token": store.token(),
            "settled": True,
        }
        assert resolve(study) is store
        assert resolve(study, WeightStore()) is store

    def test_another_process_elsewhere_follows_the_record(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = f"sqlite:///{tmp_path}/a.db"
        store = resolve(optuna.create_study(storage=url, study_name="s"))
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert resolve(optuna.load_study(storage=url, study_name="s")).path == store.path
        assert not list(Path.cwd().iterdir())

    def test_in_memory_studies_have_a_directory_each(self, tmp_path: Path) -> None:
        storage = InMemoryStorage()
        studies = [optuna.create_study(storage=storage) for _ in range(2)] + [optuna.create_study()]
        paths = {resolve(study).path for study in studies}
        assert len(paths) == 3
        assert all(resolve(study).path in paths for study in studies)
        assert not list(tmp_path.iterdir())

    def test_temporary_directory_ends_with_its_process(self, tmp_path: Path) -> None:
        script = (
            "import os, optuna\n"
            "from optuna_nas_morph.weights import resolve\n"
            "store = resolve(optuna.create_study())\n"
            "store.token()\n"
            "child = os.fork()\n"
            "if child == 0: raise SystemExit  # A child that ends leaves it alone.\n"
            "os.waitpid(child, 0)\n"
            "assert store.path.is_dir()\n"
            "print(store.path)"
        )
        output = subprocess.run(
            [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=False
        )
        assert output.returncode == 0, output.stderr
        directory = Path(output.stdout.strip())
        assert directory.name.startswith("optuna-nas-morph-")
        assert not directory.exists()

    def test_order(self, tmp_path: Path) -> None:
        explicit, pruners, inner = (WeightStore(tmp_path / name) for name in ("explicit", "pruner", "inner"))
        fake = PrunerWithStore(pruners, PrunerWithStore(inner))
        assert resolve(optuna.create_study(pruner=fake), explicit) is explicit
        assert resolve(optuna.create_study(pruner=fake)) is pruners
        assert resolve(optuna.create_study(pruner=WrappingPruner(fake))) is pruners
        unlocated = PrunerWithStore(WeightStore(), PrunerWithStore(inner))
        assert resolve(optuna.create_study(pruner=unlocated)) is inner
        with pytest.warns(optuna.exceptions.ExperimentalWarning):
            patient = optuna.pruners.PatientPruner(fake, patience=2)
        assert resolve(optuna.create_study(pruner=patient)) is pruners

    def test_pruners_that_wrap_in_a_circle(self) -> None:
        pruner = WrappingPruner(None)
        pruner._wrapped_pruner = pruner
        assert resolve(optuna.create_study(pruner=pruner)).is_located

    def test_a_given_store_is_recorded(self, storage: BaseStorage, tmp_path: Path) -> None:
        given = WeightStore(tmp_path / "given")
        study = optuna.create_study(storage=storage, pruner=PrunerWithStore(given))
        assert resolve(study) is given
        assert study.user_attrs[STORE_ATTR]["path"] == str(tmp_path / "given")
        study.pruner = NopPruner()
        found = resolve(study)
        assert found.path == given.path
        assert found.token() == given.token()

    def test_a_store_without_a_path_is_recorded_by_token(self) -> None:
        backend = MemoryArtifactStore()
        study = optuna.create_study()
        store = resolve(study, WeightStore(backend))
        assert study.user_attrs[STORE_ATTR] == {
            "version": 1,
            "kind": "artifact",
            "path": None,
            "token": store.token(),
            "settled": True,
        }
        assert resolve(study, WeightStore(Backoff(backend))).token() == store.token()
        with pytest.raises(StoreError, match=r"artifact store with token .*LineagePruner\(store="):
            resolve(study)

    def test_another_store_than_the_recorded_one(self, tmp_path: Path) -> None:
        study = optuna.create_study()
        first = resolve(study, WeightStore(tmp_path / "first"))
        second = WeightStore(tmp_path / "second")
        with pytest.raises(StoreError, match=f"{first.token()}.* but .*second has no token"):
            resolve(study, second)
        assert not (tmp_path / "second").exists()
        with pytest.raises(StoreError, match=f"{first.token()}.* but .*second has token {second.token()}"):
            resolve(study, second)
        study.set_user_attr(STORE_ATTR, None)  # The way out that the message names.
        assert resolve(study, second) is second

    def test_a_moved_store_is_the_same_store(self, tmp_path: Path) -> None:
        study = optuna.create_study()
        record = resolve(study, WeightStore(tmp_path / "old")).publish(study.ask(), {"x": torch.ones(1)})
        (tmp_path / "old").rename(tmp_path / "new")
        assert resolve(study, WeightStore(tmp_path / "new")).load(record)

    @pytest.mark.parametrize("damage", ["no directory", "no token", "another token", "bad token"])
    def test_a_recorded_path_must_hold_the_token(self, tmp_path: Path, damage: str) -> None:
        study, path = optuna.create_study(), tmp_path / "recorded"
        resolve(study, WeightStore(path))
        if damage == "no directory":
            (path / TOKEN_NAME).unlink()
            path.rmdir()
        elif damage == "no token":
            (path / TOKEN_NAME).unlink()
        else:
            (path / TOKEN_NAME).write_text("../x" if damage == "bad token" else str(uuid.uuid4()))
        before = path.exists()
        with pytest.raises(StoreError, match=str(path)):
            resolve(study)
        assert path.exists() == before

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("version", 2),
            ("kind", "s3"),
            ("path", "relative"),
            ("path", None),
            ("path", 1),
            ("token", "../x"),
            ("settled", 1),
        ],
    )
    def test_a_bad_location_names_its_field(self, tmp_path: Path, field: str, value: object) -> None:
        study = optuna.create_study()
        good = {"version": 1, "kind": "filesystem", "path": str(tmp_path), "token": str(uuid.uuid4()), "settled": True}
        study.set_user_attr(STORE_ATTR, good | {field: value})
        with pytest.raises(StoreError, match=f"field {field} must be"):
            resolve(study)

    @pytest.mark.parametrize("value", ["x", [], {}, {"version": 1}])
    def test_what_is_no_location(self, value: object) -> None:
        study = optuna.create_study()
        study.set_user_attr(STORE_ATTR, value)
        with pytest.raises(StoreError, match=STORE_ATTR):
            resolve(study)

    def test_the_restricted_study_of_hyperband(self) -> None:
        pruner = HyperbandPruner(max_resource=4)
        study = optuna.create_study(pruner=pruner)
        study.optimize(lambda trial: trial.report(0.0, 1) or float(trial.should_prune()), n_trials=1)
        restricted = pruner._create_bracket_study(study, 0)
        with pytest.raises(AttributeError):
            _ = restricted.user_attrs
        assert resolve(restricted) is resolve(study)

    def test_remembered_without_touching_storage_or_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        study = optuna.create_study(storage=f"sqlite:///{tmp_path}/a.db")
        store = resolve(study)

        def refuse(*args: object) -> None:
            raise AssertionError("resolve must remember")

        monkeypatch.setattr(study._storage, "get_study_user_attrs", refuse)
        monkeypatch.setattr(FileSystemArtifactStore, "open_reader", refuse)
        assert resolve(study) is store

    def test_threads_agree(self) -> None:
        study = optuna.create_study()
        found: list[WeightStore] = []
        threads = [threading.Thread(target=lambda: found.append(resolve(study))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8
        assert len({id(store) for store in found}) == 1

    @pytest.mark.parametrize("same_directory", [True, False])
    def test_processes_that_start_together_agree(self, tmp_path: Path, same_directory: bool) -> None:
        n_studies = 4
        storage = JournalStorage(JournalFileBackend(str(tmp_path / "study.log")))
        for i in range(n_studies):
            optuna.create_study(storage=storage, study_name=str(i))
        script = tmp_path / "worker.py"
        script.write_text(
            "import pathlib, sys, time, optuna\n"
            "from optuna.storages import JournalStorage\n"
            "from optuna.storages.journal import JournalFileBackend\n"
            "from optuna_nas_morph.weights import resolve\n"
            "shared, me, n_studies = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])\n"
            "storage = JournalStorage(JournalFileBackend(str(shared / 'study.log')))\n"
            "for i in range(n_studies):\n"
            "    study = optuna.load_study(storage=storage, study_name=str(i))\n"
            "    (shared / f'ready-{i}-{me}').touch()\n"
            "    while len(list(shared.glob(f'ready-{i}-*'))) < 3: time.sleep(0.001)\n"
            "    store = resolve(study)\n"
            "    print(store.path, store.token(), flush=True)\n"
        )
        workers = []
        for me in "abc":
            directory = tmp_path / ("same" if same_directory else me)
            directory.mkdir(exist_ok=True)
            command = [sys.executable, str(script), str(tmp_path), me, str(n_studies)]
            workers.append(
                subprocess.Popen(command, cwd=directory, env=environment(), stdout=subprocess.PIPE, text=True)
            )
        outputs = [worker.communicate(timeout=120)[0].splitlines() for worker in workers]
        assert [worker.returncode for worker in workers] == [0, 0, 0]
        assert len(outputs[0]) == n_studies
        assert outputs[0] == outputs[1] == outputs[2]

    def test_a_recorded_location_that_has_not_settled(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        study = optuna.create_study(storage=f"sqlite:///{tmp_path}/a.db")
        first, second = WeightStore(tmp_path / "first"), WeightStore(tmp_path / "second")
        study.set_user_attr(STORE_ATTR, StoreLocation.of(first, settled=False).to_dict())

        def a_slow_competitor_writes(seconds: float) -> None:
            study.set_user_attr(STORE_ATTR, StoreLocation.of(second, settled=False).to_dict())

        monkeypatch.setattr(location_module.time, "sleep", a_slow_competitor_writes)
        assert resolve(study).path == second.path
        assert study.user_attrs[STORE_ATTR] == StoreLocation.of(second, settled=True).to_dict()

    def test_a_store_without_a_location_says_what_to_do(self) -> None:
        for use in (lambda s: s.token(), lambda s: s.load(RECORD), lambda s: s.publish(new_trial(), {})):
            with pytest.raises(StoreError, match=r"resolve\(study\)"):
                use(WeightStore())

    def test_what_is_no_store(self) -> None:
        with pytest.raises(TypeError, match="artifact_store must be"):
            WeightStore(3)  # type: ignore[arg-type]


class TestToken:
    def test_made_once(self, tmp_path: Path) -> None:
        assert WeightStore(tmp_path).find_token() is None
        assert not list(tmp_path.iterdir())
        token = WeightStore(tmp_path).token()
        assert WeightStore(tmp_path).token() == token
        assert [file.name for file in tmp_path.iterdir()] == [TOKEN_NAME]
        assert str(uuid.UUID((tmp_path / TOKEN_NAME).read_text())) == token

    @pytest.mark.parametrize("links", [True, False])
    def test_racing_threads_agree(self, tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*args: object) -> None:
            raise PermissionError("no hard links on this file system")

        monkeypatch.setattr(artifacts_module, "SETTLE_SECONDS", 0.2)
        if not links:
            monkeypatch.setattr(os, "link", refuse)
        self.race([WeightStore(tmp_path / "new") for _ in range(8)])

    def test_racing_for_a_bucket(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(artifacts_module, "SETTLE_SECONDS", 0.2)
        backend = MemoryArtifactStore()
        self.race([WeightStore(backend) for _ in range(8)])

    @staticmethod
    def race(stores: list[WeightStore]) -> None:
        barrier, tokens = threading.Barrier(len(stores)), []

        def work(store: WeightStore) -> None:
            barrier.wait()
            tokens.append(store.token())

        threads = [threading.Thread(target=work, args=(store,)) for store in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(tokens) == len(stores)
        assert len(set(tokens)) == 1

    def test_what_has_not_settled_is_not_used_yet(self) -> None:
        backend, first, second = MemoryArtifactStore(), str(uuid.uuid4()), str(uuid.uuid4())
        backend.blobs[TOKEN_NAME] = f"{first} unsettled".encode()
        late = WeightStore(backend)
        assert late.find_token() is None
        sleep = artifacts_module.time.sleep

        def a_slow_competitor_writes(seconds: float) -> None:
            backend.blobs[TOKEN_NAME] = f"{second} unsettled".encode()
            sleep(0)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(artifacts_module.time, "sleep", a_slow_competitor_writes)
            assert late.token() == second
        assert backend.blobs[TOKEN_NAME] == second.encode()

    @pytest.mark.parametrize("method", ["load", "remove"])
    def test_a_record_of_another_store(self, tmp_path: Path, method: str) -> None:
        here, there = WeightStore(tmp_path / "here"), WeightStore(tmp_path / "there")
        record = there.publish(new_trial(), {})
        here.token()
        with pytest.raises(
            StoreError, match=f"token {there.token()} but .*here has token {here.token()}.*LineagePruner"
        ):
            getattr(here, method)(record)


def environment() -> dict[str, str]:
    root = str(Path(artifacts_module.__file__).parents[2])
    return os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
