"""Weights that are damaged, missing or half written are refused with a typed reason, and never become a record."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound

import optuna_nas_morph.weights.artifacts as artifacts_module
from optuna_nas_morph.errors import StoreError, WeightsCorruptError, WeightsMissingError
from optuna_nas_morph.weights import RECORD_ATTR, WeightRecord, WeightStore
from optuna_nas_morph.weights.moments import Moments
from optuna_nas_morph.weights.serde import Publication, pack
from optuna_nas_morph.weights.store import TOKEN_NAME

optuna.logging.set_verbosity(optuna.logging.ERROR)

WEIGHTS = {"conv.weight": torch.linspace(-1, 1, 72).reshape(2, 4, 3, 3), "n": torch.tensor(3), "flag": torch.ones(1)}


MOMENTS = {
    "exp_avg": {"conv.weight": torch.linspace(0, 1, 72).reshape(2, 4, 3, 3), "flag": torch.zeros(1)},
    "step": {"conv.weight": torch.tensor(7.0)},
}


def new_trial() -> optuna.Trial:
    return optuna.create_study().ask()


class Published:
    """Weights in a directory, with the file that holds them."""

    def __init__(self, directory: Path, moments: Moments) -> None:
        self.store = WeightStore(directory)
        self.moments = moments
        self.average = {name: tensor + 2 for name, tensor in WEIGHTS.items()} if moments else {}
        self.record = self.store.publish(new_trial(), WEIGHTS, moments=moments, average=self.average)
        self.file = directory / self.record.artifact_id
        self.body = self.file.read_bytes()

    def refusal_of(self, body: bytes) -> str:
        self.file.write_bytes(body)
        with pytest.raises(WeightsCorruptError) as caught:
            self.store.load(self.record)
        for load in (self.store.load_moments, self.store.load_average):
            with pytest.raises(WeightsCorruptError, match=re.escape(str(caught.value))):
                load(self.record)
        assert self.record.artifact_id in str(caught.value)
        return str(caught.value)


@pytest.fixture(params=[{}, MOMENTS], ids=["weights", "weights, moments and average"])
def published(tmp_path: Path, request: pytest.FixtureRequest) -> Published:
    return Published(tmp_path, request.param)


class TestDamagedFiles:
    def test_truncated_at_any_length(self, published: Published) -> None:
        n_bytes = len(published.body)
        lengths = sorted({*range(0, n_bytes, max(1, n_bytes // 200)), *range(n_bytes - 10, n_bytes)})
        assert len(lengths) >= 200
        for length in lengths:
            assert f"must have {n_bytes} bytes but got {length}." in published.refusal_of(published.body[:length])

    def test_any_flipped_bit(self, published: Published) -> None:
        rng = random.Random(0)
        for _ in range(1000):
            position, bit = rng.randrange(len(published.body)), rng.randrange(8)
            body = bytearray(published.body)
            body[position] ^= 1 << bit
            assert "must have sha256" in published.refusal_of(bytes(body))
        published.file.write_bytes(published.body)
        assert torch.equal(published.store.load(published.record)["n"], WEIGHTS["n"])
        assert published.store.load_moments(published.record).keys() == published.moments.keys()

    def test_longer(self, published: Published) -> None:
        assert "but got more" in published.refusal_of(published.body + b"\0")

    def test_weights_of_another_trial_under_the_same_name(self, published: Published) -> None:
        weights = {name: tensor + 1 for name, tensor in WEIGHTS.items()}
        other = pack(Publication(weights, published.moments, published.average))
        assert len(other) == len(published.body)
        assert "must have sha256" in published.refusal_of(other)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"\x80\x04\x95",
            b"\xff" * 64,
            (2).to_bytes(8, "little") + b"[]",
            (2**62).to_bytes(8, "little") + b"{}",
            (59).to_bytes(8, "little") + b'{"x":{"dtype":"F8_E8M0","shape":[1],"data_offsets":[0,1]}}  ',
        ],
        ids=["empty", "pickle", "noise", "no dictionary", "huge header", "dtype that only the header knows"],
    )
    def test_a_foreign_file_that_the_record_vouches_for(self, published: Published, body: bytes) -> None:
        fields = published.record.to_dict() | {"sha256": hashlib.sha256(body).hexdigest(), "n_bytes": len(body)}
        published.record = WeightRecord.from_dict(fields)
        assert "must be safetensors but got" in published.refusal_of(body)

    def test_a_pickle_is_never_executed(self, published: Published, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> Any:
                return os.mkdir, (str(tmp_path / "executed"),)

        buffer = io.BytesIO()
        torch.save(Trap(), buffer)
        body = buffer.getvalue()
        fields = published.record.to_dict() | {"sha256": hashlib.sha256(body).hexdigest(), "n_bytes": len(body)}
        published.record = WeightRecord.from_dict(fields)
        published.refusal_of(body)
        assert not (tmp_path / "executed").exists()

    def test_missing(self, published: Published) -> None:
        published.file.unlink()
        with pytest.raises(WeightsMissingError, match=published.record.artifact_id):
            published.store.load(published.record)
        assert not published.store.remove(published.record)

    def test_a_directory_in_the_place_of_the_file(self, published: Published) -> None:
        published.file.unlink()
        published.file.mkdir()
        with pytest.raises(StoreError, match="cannot read") as caught:
            published.store.load(published.record)
        assert isinstance(caught.value.__cause__, IsADirectoryError)

    def test_no_more_is_read_than_the_record_says(self, published: Published) -> None:
        n_read = 0

        class Endless(FileSystemArtifactStore):
            def open_reader(self, artifact_id: str) -> Any:
                return super().open_reader(artifact_id) if artifact_id == TOKEN_NAME else EndlessReader()

        class EndlessReader(io.RawIOBase):
            def read(self, size: int = -1) -> bytes:
                nonlocal n_read
                assert size >= 0
                n_read += size
                assert n_read <= published.record.n_bytes + 1
                return bytes(size)

        store = WeightStore(Endless(published.file.parent))
        with pytest.raises(WeightsCorruptError, match="but got more"):
            store.load(published.record)
        assert n_read == published.record.n_bytes + 1

    def test_a_record_that_claims_an_enormous_size(self, published: Published) -> None:
        record = WeightRecord.from_dict(published.record.to_dict() | {"n_bytes": 2**62})
        with pytest.raises(WeightsCorruptError, match="bytes but got"):
            published.store.load(record)

    def test_short_reads_are_no_damage(self, published: Published) -> None:
        class Trickling(FileSystemArtifactStore):
            def open_reader(self, artifact_id: str) -> Any:
                with super().open_reader(artifact_id) as reader:
                    return TricklingReader(reader.read())

        class TricklingReader(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                return super().read(min(size or 7, 7))

        loaded = WeightStore(Trickling(published.file.parent)).load(published.record)
        assert torch.equal(loaded["conv.weight"], WEIGHTS["conv.weight"])


class FaultyStore(FileSystemArtifactStore):
    """Fails on everything but the token, in the way it is told."""

    def __init__(self, directory: Path, *, on_write: Exception | None = None, writes_bytes: int = 0) -> None:
        super().__init__(directory)
        WeightStore(directory).token()
        self.on_write = on_write
        self.writes_bytes = writes_bytes

    def write(self, artifact_id: str, content_body: Any) -> None:
        if self.on_write is not None:
            if self.writes_bytes > 0:
                super().write(artifact_id, io.BytesIO(content_body.read(self.writes_bytes)))
            raise self.on_write
        super().write(artifact_id, content_body)


class TestStoresInTrouble:
    @pytest.mark.parametrize(
        ("fault", "writes_bytes"),
        [
            (PermissionError(errno.EACCES, "Permission denied"), 0),
            (OSError(errno.EROFS, "Read-only file system"), 0),
            (OSError(errno.ENOSPC, "No space left on device"), 100),
            (RuntimeError("botocore says no"), 0),
            (ArtifactNotFound("no such bucket"), 0),
        ],
        ids=["denied", "read-only", "full", "third party", "no bucket"],
    )
    def test_writes_that_fail(self, tmp_path: Path, fault: Exception, writes_bytes: int) -> None:
        trial = new_trial()
        store = WeightStore(FaultyStore(tmp_path, on_write=fault, writes_bytes=writes_bytes))
        with pytest.raises(StoreError) as caught:
            store.publish(trial, WEIGHTS)
        assert str(tmp_path) in str(caught.value)
        assert str(fault) in str(caught.value)
        assert caught.value.__cause__ is fault
        assert RECORD_ATTR not in trial.user_attrs
        assert [file.name for file in tmp_path.iterdir()] == [TOKEN_NAME]  # The half-written file is gone.

    def test_a_failed_second_publication_keeps_the_first(self, tmp_path: Path) -> None:
        backend, trial = FaultyStore(tmp_path), new_trial()
        store = WeightStore(backend)
        record = store.publish(trial, WEIGHTS)
        backend.on_write = OSError(errno.ENOSPC, "No space left on device")
        with pytest.raises(StoreError):
            store.publish(trial, WEIGHTS)
        assert WeightStore.record(trial) == record
        store.load(record)

    def test_an_interrupt_leaves_no_half_written_file(self, tmp_path: Path) -> None:
        backend = FaultyStore(tmp_path, on_write=KeyboardInterrupt(), writes_bytes=100)  # type: ignore[arg-type]
        with pytest.raises(KeyboardInterrupt):
            WeightStore(backend).publish(new_trial(), WEIGHTS)
        assert [file.name for file in tmp_path.iterdir()] == [TOKEN_NAME]

    def test_a_store_that_keeps_silent_about_a_torn_write(self, tmp_path: Path) -> None:
        class Torn(FaultyStore):
            def write(self, artifact_id: str, content_body: Any) -> None:
                super().write(artifact_id, io.BytesIO(content_body.read()[:-1]))

        trial = new_trial()
        with pytest.raises(StoreError, match="must read back with sha256"):
            WeightStore(Torn(tmp_path)).publish(trial, WEIGHTS)
        assert RECORD_ATTR not in trial.user_attrs
        assert [file.name for file in tmp_path.iterdir()] == [TOKEN_NAME]

    def test_a_store_that_loses_what_it_is_given(self, tmp_path: Path) -> None:
        class Lossy(FaultyStore):
            def write(self, artifact_id: str, content_body: Any) -> None:
                pass

        trial = new_trial()
        with pytest.raises(StoreError, match="not there after its upload"):
            WeightStore(Lossy(tmp_path)).publish(trial, WEIGHTS)
        assert RECORD_ATTR not in trial.user_attrs

    def test_a_storage_that_fails_to_commit_keeps_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: object) -> None:
            raise optuna.exceptions.StorageInternalError("connection lost: committed or not, who knows")

        trial = new_trial()
        monkeypatch.setattr(trial, "set_user_attr", fail)
        with pytest.raises(optuna.exceptions.StorageInternalError):
            WeightStore(tmp_path).publish(trial, WEIGHTS)
        assert len(list(tmp_path.iterdir())) == 2

    def test_an_old_file_that_cannot_be_removed_is_no_failure(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Sticky(FaultyStore):
            def remove(self, artifact_id: str) -> None:
                raise PermissionError("no")

        store, trial = WeightStore(Sticky(tmp_path)), new_trial()
        first = store.publish(trial, WEIGHTS)
        second = store.publish(trial, WEIGHTS)
        assert WeightStore.record(trial) == second
        assert first.artifact_id in caplog.text
        with pytest.raises(StoreError, match="cannot remove"):
            store.remove(first)

    def test_reads_that_fail(self, published: Published) -> None:
        class Unreadable(FaultyStore):
            def open_reader(self, artifact_id: str) -> Any:
                if artifact_id == TOKEN_NAME:
                    return super().open_reader(artifact_id)
                raise ConnectionError("gone")

        with pytest.raises(StoreError, match=r"cannot read .*ConnectionError: gone") as caught:
            WeightStore(Unreadable(published.file.parent)).load(published.record)
        assert isinstance(caught.value.__cause__, ConnectionError)

    def test_reads_that_fail_halfway_close_the_reader(self, published: Published) -> None:
        class Breaking(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                if self.tell() > 0:
                    raise TimeoutError("S3 went away")
                return super().read(10)

        readers: list[Breaking] = []

        class BreakingStore(FaultyStore):
            def open_reader(self, artifact_id: str) -> Any:
                reader = super().open_reader(artifact_id)
                if artifact_id == TOKEN_NAME:
                    return reader
                with reader:
                    readers.append(Breaking(reader.read()))
                return readers[-1]

        with pytest.raises(StoreError, match="TimeoutError"):
            WeightStore(BreakingStore(published.file.parent)).load(published.record)
        assert [reader.closed for reader in readers] == [True]

    def test_a_missing_artifact_that_a_store_reports_in_its_own_way(self, published: Published) -> None:
        class LikeGoogle(FaultyStore):
            def remove(self, artifact_id: str) -> None:
                if not self._get_filepath(artifact_id).exists():
                    raise LookupError("404 DELETE")
                super().remove(artifact_id)

        store = WeightStore(LikeGoogle(published.file.parent))
        assert store.remove(published.record)
        assert not store.remove(published.record)

    def test_a_directory_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(StoreError, match=str(tmp_path / "file" / "weights")) as caught:
            WeightStore(tmp_path / "file" / "weights").publish(new_trial(), WEIGHTS)
        assert isinstance(caught.value.__cause__, OSError)

    def test_a_directory_that_only_the_user_may_make(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match=r"cannot write .*absent"):
            WeightStore(FileSystemArtifactStore(tmp_path / "absent")).publish(new_trial(), WEIGHTS)
        assert not (tmp_path / "absent").exists()

    def test_no_room_for_temporary_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        WeightStore(tmp_path).token()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
        with pytest.raises(StoreError, match="absent"):
            WeightStore(tmp_path).publish(new_trial(), WEIGHTS)

    def test_a_record_cannot_leave_the_store(self, published: Published) -> None:
        outside = published.file.parent.parent / "outside"
        outside.write_bytes(published.body)
        for artifact_id in ("../outside", str(outside), "..\\outside", "", ".", TOKEN_NAME, "x" * 36, "\0"):
            with pytest.raises(WeightsCorruptError, match="artifact_id"):
                WeightRecord.from_dict(published.record.to_dict() | {"artifact_id": artifact_id})
        outside.unlink()

    def test_a_damaged_token(self, published: Published) -> None:
        for content in (b"", b"\xff\xfe", b"../..", b"x" * 100_000, str(uuid.uuid4()).encode() * 2):
            (published.file.parent / TOKEN_NAME).write_bytes(content)
            with pytest.raises(StoreError, match=TOKEN_NAME):
                WeightStore(published.file.parent).load(published.record)


WORKER = """
import sys, time, optuna, torch
from optuna_nas_morph.weights import WeightStore
directory, storage, n_trials = sys.argv[1], sys.argv[2], int(sys.argv[3])

class Telling(optuna.artifacts.FileSystemArtifactStore):
    # Says where it is and lingers there, so that the test can kill it there.
    def write(self, artifact_id, content_body):
        if "token" in artifact_id: return super().write(artifact_id, content_body)
        body = content_body.read()
        with open(self._get_filepath(artifact_id), "wb") as file:
            file.write(body[: len(body) // 2]); file.flush()
            print("half", flush=True); time.sleep(0.02)
            file.write(body[len(body) // 2 :])
        print("written", flush=True); time.sleep(0.01)

def objective(trial):
    store.publish(trial, {"x": torch.full((20_000,), float(trial.number))})
    print("committed", flush=True)
    store.publish(trial, {"x": torch.full((20_000,), float(trial.number))})
    return 0.0

optuna.logging.set_verbosity(optuna.logging.ERROR)
WeightStore(directory).token()
store = WeightStore(Telling(directory))
optuna.load_study(storage=storage, study_name="s").optimize(objective, n_trials=n_trials)
"""


class TestKilledWorkers:
    @pytest.fixture
    def study(self, tmp_path: Path) -> optuna.Study:
        return optuna.create_study(storage=f"sqlite:///{tmp_path}/study.db", study_name="s")

    def test_every_committed_record_verifies(self, tmp_path: Path, study: optuna.Study) -> None:
        script, directory = tmp_path / "worker.py", tmp_path / "weights"
        script.write_text(WORKER)
        directory.mkdir()
        root = str(Path(artifacts_module.__file__).parents[2])
        environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(script), str(directory), f"sqlite:///{tmp_path}/study.db", "50"]
        # The stage at which a worker is killed, and how many times it lets the stage pass before.
        for stage, n_passes in [("half", 20), ("written", 21), ("committed", 10)]:
            worker = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
            assert worker.stdout is not None
            for line in worker.stdout:
                if line.strip() == stage:
                    n_passes -= 1
                    if n_passes < 0:
                        break
            worker.send_signal(signal.SIGKILL)
            worker.stdout.close()
            assert worker.wait() == -signal.SIGKILL
        store = WeightStore(directory)
        records = [(trial, WeightStore.record(trial)) for trial in study.get_trials()]
        for trial, record in records:
            if record is not None:
                assert store.load(record)["x"].unique().item() == trial.number
        n_committed = sum(record is not None for _, record in records)
        assert n_committed >= 25
        assert n_committed < len(records)  # Killed before the commit: no record.
        n_files = len(list(directory.iterdir())) - 1
        assert n_files > n_committed  # The torn files are there; no record names them.
