"""Where trained weights are kept: safetensors in any Optuna artifact store, committed by one trial attribute.

A publication goes in this order, and a process may be killed anywhere in it:

1. serialise the weights and take the SHA-256 of the bytes;
2. write them to the store under a fresh UUID (Optuna's artifact entry appears before the bytes, so it proves nothing);
3. read them back and compare the SHA-256;
4. set the user attribute ``nasmorph:weights`` of the trial: the only commit point;
5. remove the artifact of the trial's earlier publication, if there was one.

An optimizer's moments and an average of the weights may be in the same file. Nothing is ever unpickled.

Weights that need not be kept (`Keep`) are removed in this order: the study says that they were collected, then they are
removed, so that a worker that misses a file can tell garbage from loss.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import logging
import os
import sys
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial

from optuna_nas_morph import lineage
from optuna_nas_morph.errors import StoreError, WeightsCorruptError, WeightsMissingError
from optuna_nas_morph.spaces import SeedWeights
from optuna_nas_morph.weights.artifacts import Artifacts
from optuna_nas_morph.weights.garbage import Keep, find_garbage
from optuna_nas_morph.weights.moments import Moments
from optuna_nas_morph.weights.record import (
    JSON,
    RECORD_ATTR,
    RECORD_VERSION,
    WeightRecord,
    is_canonical_uuid,
    jsonable_metadata,
    read_record,
)
from optuna_nas_morph.weights.serde import Publication, pack, unpack

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore


_logger = logging.getLogger(__name__)

TOKEN_NAME = "nasmorph-store-token"
"""The artifact, made once per store, whose content (a UUID) tells this store from any other."""

SEED_NAME = "nasmorph-seed"
"""The weights that a space starts from are the artifact of this name and their digest."""


class WeightStore:
    """Keeps the weights of trials.

    A store is safe to share between threads (``n_jobs``), between processes, and to pickle with a study.

    Example:
        .. code-block:: python

            store = WeightStore("./weights")
            store = WeightStore(optuna.artifacts.Backoff(optuna.artifacts.Boto3ArtifactStore("my-bucket")))
            store = WeightStore(keep=Keep(best=20, recent=20, max_bytes=10**9))  # in the default place

    Args:
        artifact_store:
            Any Optuna artifact store. A :class:`str` or a path is a directory, made when first needed. With
            :obj:`None` the store has no location of its own, and :func:`~optuna_nas_morph.weights.resolve` finds the
            one of a study.
        keep:
            Whose weights to keep when `publish_weights` makes room; :obj:`None` keeps everything.

    Raises:
        TypeError:
            If ``artifact_store`` is none of these.
    """

    def __init__(
        self,
        artifact_store: ArtifactStore | str | os.PathLike[str] | None = None,
        *,
        keep: Keep | None = Keep(),  # noqa: B008  # a frozen value
    ) -> None:
        if keep is not None and not isinstance(keep, Keep):
            raise TypeError(f"keep must be a Keep or None but got {keep!r}.")
        self._makes_directory = isinstance(artifact_store, str | os.PathLike)
        if isinstance(artifact_store, str | os.PathLike):
            artifact_store = FileSystemArtifactStore(Path(os.path.abspath(artifact_store)))
        methods = ("open_reader", "write", "remove")
        if artifact_store is not None and not all(hasattr(artifact_store, method) for method in methods):
            raise TypeError(
                f"artifact_store must be an Optuna artifact store, a path or None but got {artifact_store!r}."
            )
        self._artifacts = None if artifact_store is None else Artifacts(artifact_store)
        self._token: str | None = None
        self.keep = keep

    def __repr__(self) -> str:
        return f"<WeightStore {self.location}>"

    @property
    def is_located(self) -> bool:
        """Whether the store knows its place; ``WeightStore()`` does not."""
        return self._artifacts is not None

    @property
    def path(self) -> Path | None:
        """The directory of a store on a file system, else :obj:`None`."""
        return None if self._artifacts is None else self._artifacts.path

    @property
    def location(self) -> str:
        """The store's name in messages."""
        return "without a location" if self._artifacts is None else self._artifacts.location

    def keeping(self, keep: Keep | None) -> WeightStore:
        """Returns this store, or one in the same place that keeps something else."""
        if keep == self.keep:
            return self
        store = copy.copy(self)
        store.keep = keep
        return store

    def find_token(self) -> str | None:
        """Returns the token of the store, or :obj:`None` if it has none yet. Writes nothing.

        Raises:
            StoreError:
                If the store cannot be read, or holds something else under the token's name.
        """
        if self._token is None:
            content = self._located().find_once(TOKEN_NAME)
            if content is None:
                return None
            token = content.decode("ascii", errors="replace").strip()
            if not is_canonical_uuid(token):
                raise StoreError(f"{TOKEN_NAME} in {self.location} must hold a canonical UUID but got {token!r}.")
            self._token = token
        return self._token

    def token(self) -> str:
        """Returns the token of the store. The first call of the first worker makes it, and the directory.

        Raises:
            StoreError:
                If the store cannot be read or written.
        """
        token = self.find_token()
        if token is None:
            if self._makes_directory:
                self._located().make_directory()
            self._located().create_once(TOKEN_NAME, str(uuid.uuid4()).encode("ascii"))
            token = self.find_token()  # Another worker may have been quicker.
            if token is None:
                raise StoreError(f"cannot write {self.location}: {TOKEN_NAME} is not there after it was written.")
        return token

    def publish(
        self,
        trial: Trial,
        weights: Mapping[str, torch.Tensor],
        *,
        moments: Moments | None = None,
        average: Mapping[str, torch.Tensor] | None = None,
        metadata: Mapping[str, JSON] | None = None,
    ) -> WeightRecord:
        """Stores the weights of a running trial and makes it a donor.

        A second publication by the same trial replaces the first.

        Args:
            trial:
                The trial, still running.
            weights:
                The tensors by name. They are copied; names, shapes and dtypes are kept, sharing of memory is not.
            moments:
                What the optimizer remembers, by moment and parameter.
            average:
                Averaged weights by name, if the trial's value is theirs.
            metadata:
                What else the record shall hold.

        Returns:
            The record, as the trial now has it.

        Raises:
            WeightsError:
                If a tensor cannot be stored or is not finite. The message names the tensor.
            StoreError:
                If the store cannot be written, or does not give back what was written. The trial then keeps the record
                that it had.
            ValueError:
                If ``metadata`` is no JSON or too long.
            optuna.exceptions.UpdateFinishedTrialError:
                If the trial has finished.
        """
        artifacts = self._located()
        checked_metadata = jsonable_metadata(metadata or {})
        body = pack(Publication(weights, moments or {}, average or {}))
        sha256 = hashlib.sha256(body).hexdigest()
        store_token = self.token()
        artifact_id = _upload(artifacts, trial, body)
        self._verify(artifact_id, sha256, len(body))
        record = WeightRecord(
            version=RECORD_VERSION,
            trial_number=trial.number,
            artifact_id=artifact_id,
            sha256=sha256,
            n_bytes=len(body),
            store_token=store_token,
            metadata=checked_metadata,
        )
        previous = _replaceable_record(trial)
        # If this raises, the storage may still have committed: from here on the artifact stays.
        trial.set_user_attr(RECORD_ATTR, record.to_dict())
        if previous is not None and previous.store_token == store_token:
            self._discard(previous.artifact_id)
        return record

    @staticmethod
    def record(trial: Trial | FrozenTrial) -> WeightRecord | None:
        """Returns the record of a trial; :obj:`None` if it has none of its own. See :func:`.read_record`.

        Raises:
            WeightsCorruptError:
                If the stored value is not a record.
        """
        return read_record(trial)

    def load(self, record: WeightRecord) -> dict[str, torch.Tensor]:
        """Loads weights, on the CPU.

        Raises:
            WeightsMissingError:
                If the store does not hold them any more.
            WeightsCorruptError:
                If what it holds is not what was published. The message says why.
            StoreError:
                If the store cannot be read, or is not the one that the record names.
        """
        return dict(self._load(record).weights)

    def load_average(self, record: WeightRecord) -> dict[str, torch.Tensor]:
        """Loads averaged weights, on the CPU; the weights if no average was published. Raises as `load` does."""
        publication = self._load(record)
        return dict(publication.average or publication.weights)

    def load_moments(self, record: WeightRecord) -> Moments:
        """Loads what the optimizer remembered, on the CPU; nothing if that was not published. Raises as `load` does."""
        return self._load(record).moments

    def publish_seed(self, seed: SeedWeights) -> None:
        """Stores the weights that a space starts from, under a name that their digest makes, unless they are there.

        Raises:
            WeightsError:
                If a tensor cannot be stored or is not finite. The message names the tensor.
            StoreError:
                If the store cannot be read or written, or does not give back what was written.
        """
        assert seed.tensors is not None
        artifacts, name = self._located(), f"{SEED_NAME}-{seed.digest}"
        self.token()  # Which makes the directory.
        try:
            artifacts.open_reader(name).close()
        except ArtifactNotFound:
            body = pack(Publication(seed.tensors))
            artifacts.write_whole(name, body)
            self._verify(name, hashlib.sha256(body).hexdigest(), len(body))

    def load_seed(self, seed: SeedWeights) -> SeedWeights:
        """Loads the weights that a space starts from, on the CPU, for a space that has only their digest.

        Raises:
            WeightsMissingError:
                If the store does not hold them.
            WeightsCorruptError:
                If what it holds has another digest. The message says why.
            StoreError:
                If the store cannot be read.
        """
        name = f"{SEED_NAME}-{seed.digest}"
        try:
            body = b"".join(self._located().read(name, sys.maxsize))
        except ArtifactNotFound as error:
            raise WeightsMissingError(
                f"{self.location} must hold the weights of the seed, {name}, but does not: use the space that "
                "MorphSpace.from_module returned."
            ) from error
        try:
            tensors = dict(unpack(body).weights)
        except Exception as error:  # A foreign file: the parser may stumble over anything.
            raise WeightsCorruptError(f"{name} must be safetensors but got {type(error).__name__}: {error}.") from error
        return SeedWeights(seed.digest, tensors)

    def collect(self, study: Study, keep: Keep | None = None) -> list[int]:
        """Removes weights that need not be kept. Records stay, and :meth:`load` says that the weights are missing.

        Any number of workers may do so at the same time, while others load: whoever comes too late takes the next
        ancestor.

        Args:
            study:
                The study whose trials published here.
            keep:
                What to keep; by default what the store was made with.

        Returns:
            Numbers of the trials whose weights were removed.

        Raises:
            StoreError:
                If something cannot be removed; the next collection tries again.
        """
        keep = self.keep if keep is None else keep
        if keep is None:
            return []
        garbage = find_garbage(study, keep, self.token())
        collected = lineage.collected_of(study)
        new = [number for number in garbage if number not in collected]
        if new:
            lineage.record_collected(study, new)
        for i, number in enumerate(new):
            try:
                self.remove(garbage[number])
            except StoreError:
                lineage.record_not_collected(study, new[i:])
                raise
        return new

    def write_file(self, content: bytes) -> str:
        """Stores something that is not weights, such as a picture, which is never removed to save space.

        Returns:
            Its artifact ID.

        Raises:
            StoreError:
                If the store cannot be written.
        """
        self.token()  # With the directory.
        artifact_id = str(uuid.uuid4())
        self._located().write(artifact_id, io.BytesIO(content))
        return artifact_id

    def _load(self, record: WeightRecord) -> Publication:
        """A publication, verified."""
        self._must_be_store_of(record)
        name = f"weights {record.artifact_id} of trial {record.trial_number} in {self.location}"
        try:
            body = b"".join(self._located().read(record.artifact_id, record.n_bytes + 1))
        except ArtifactNotFound as error:
            raise WeightsMissingError(f"{name} must exist but there is no such artifact.") from error
        if len(body) != record.n_bytes:
            found = f"{len(body)}" if len(body) < record.n_bytes else "more"
            raise WeightsCorruptError(f"{name} must have {record.n_bytes} bytes but got {found}.")
        sha256 = hashlib.sha256(body).hexdigest()
        if sha256 != record.sha256:
            raise WeightsCorruptError(f"{name} must have sha256 {record.sha256} but got {sha256}.")
        try:
            return unpack(body)
        except Exception as error:  # A foreign file that the record vouches for: the parser may stumble over anything.
            raise WeightsCorruptError(f"{name} must be safetensors but got {type(error).__name__}: {error}.") from error

    def remove(self, record: WeightRecord) -> bool:
        """Removes stored weights. The record stays, and :meth:`load` says that the weights are missing.

        Returns:
            Whether they were there. (S3 does not tell: :obj:`True`.)

        Raises:
            StoreError:
                If they cannot be removed, or the store is not the one that the record names.
        """
        self._must_be_store_of(record)
        try:
            self._located().remove(record.artifact_id)
        except ArtifactNotFound:
            return False
        return True

    def _verify(self, artifact_id: str, sha256: str, n_bytes: int) -> None:
        digest = hashlib.sha256()
        try:
            for chunk in self._located().read(artifact_id, n_bytes + 1):
                digest.update(chunk)
        except ArtifactNotFound as error:
            raise StoreError(f"cannot write {self.location}: {artifact_id} is not there after its upload.") from error
        if digest.hexdigest() != sha256:
            self._discard(artifact_id)
            raise StoreError(
                f"cannot write {self.location}: {artifact_id} must read back with sha256 {sha256} "
                f"but got {digest.hexdigest()}."
            )

    def _discard(self, artifact_id: str) -> None:
        try:
            self._located().remove(artifact_id)
        except ArtifactNotFound:
            pass
        except StoreError as error:  # Wastes space, harms nothing.
            _logger.warning(f"artifact {artifact_id} is not needed any more but stays: {error}")

    def _must_be_store_of(self, record: WeightRecord) -> None:
        token = self.find_token()
        if token != record.store_token:
            found = "no token" if token is None else f"token {token}"
            raise StoreError(
                f"weights of trial {record.trial_number} are in the store with token {record.store_token} but "
                f"{self.location} has {found}: this worker looks at another directory or bucket. Pass the store of "
                f"the other workers, e.g. LineagePruner(store=WeightStore('/shared/weights'))."
            )

    def _located(self) -> Artifacts:
        if self._artifacts is None:
            raise StoreError(
                "WeightStore() must be given an artifact store or a path to be used by itself; "
                "optuna_nas_morph.weights.resolve(study) returns the store of a study."
            )
        return self._artifacts


def _upload(artifacts: Artifacts, trial: Trial, body: bytes) -> str:
    with contextlib.ExitStack() as stack:
        try:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="optuna-nas-morph-"))
            file = Path(directory, f"trial-{trial.number}-weights.safetensors")  # The name that the dashboard shows.
            file.write_bytes(body)
        except OSError as error:
            message = f"cannot write {len(body)} bytes of weights below {tempfile.gettempdir()} before their upload"
            raise StoreError(f"{message}: {error}") from error
        return upload_artifact(artifact_store=artifacts, file_path=str(file), study_or_trial=trial)


def _replaceable_record(trial: Trial) -> WeightRecord | None:
    try:
        return read_record(trial)
    except WeightsCorruptError:
        return None  # Nothing in a bad record says what to remove.
