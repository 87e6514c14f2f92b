"""An Optuna artifact store of any make, with one kind of error and a name for messages."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from optuna.artifacts import Backoff, FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound

from optuna_nas_morph.errors import StoreError

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore


SETTLE_SECONDS = 0.25
"""How long to wait, where nothing can be created exclusively, before what was written first is believed to be final.

This is Fischer's algorithm: it is right as long as no competitor takes longer from reading that there is nothing to
writing. Whoever reads a value that is not marked as settled waits too, then marks it.
"""

_UNSETTLED = b" unsettled"
_MAX_SMALL_BYTES = 256
_CHUNK_BYTES = 1 << 20


class Artifacts:
    """Wraps an artifact store; is one itself, so that :func:`optuna.artifacts.upload_artifact` takes it.

    Whatever the store raises arrives as :exc:`~optuna_nas_morph.errors.StoreError` that names the location and chains
    the cause. Only :exc:`~optuna.artifacts.exceptions.ArtifactNotFound`, a normal event, passes through.

    Args:
        backend:
            The store to wrap.

    Attributes:
        path:
            The directory of a store on a file system (absolute), else :obj:`None`.
        location:
            The store's name in messages.
    """

    def __init__(self, backend: ArtifactStore) -> None:
        self._backend = backend
        innermost = backend
        while isinstance(innermost, Backoff):
            innermost = innermost._backend
        self._innermost = innermost
        self.path: Path | None = None
        self.location = type(innermost).__name__
        if isinstance(innermost, FileSystemArtifactStore):
            self.path = Path(os.path.abspath(innermost._base_path))
            self.location = str(self.path)
        else:
            bucket = getattr(innermost, "bucket", getattr(innermost, "bucket_name", None))
            if isinstance(bucket, str):
                self.location += f" of bucket {bucket!r}"

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Opens an artifact for reading.

        Raises:
            ArtifactNotFound:
                If there is no such artifact.
            StoreError:
                If the store cannot be read.
        """
        with self._trouble("read"):
            return self._backend.open_reader(artifact_id)

    def read(self, artifact_id: str, max_bytes: int) -> Iterator[bytes]:
        """Yields the first ``max_bytes`` bytes of an artifact in chunks. Raises as :meth:`open_reader` does."""
        with contextlib.closing(self.open_reader(artifact_id)) as reader:
            while max_bytes > 0:
                with self._trouble("read"):
                    chunk = reader.read(min(max_bytes, _CHUNK_BYTES))
                if not chunk:
                    return
                max_bytes -= len(chunk)
                yield chunk

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Writes a new artifact. What was written of it before a failure is removed if possible.

        Raises:
            StoreError:
                If the store cannot be written.
        """
        try:
            with self._trouble("write", passing=()):
                self._backend.write(artifact_id, content_body)
        except BaseException:  # An interrupt too must leave no half-written artifact.
            with contextlib.suppress(StoreError, ArtifactNotFound):
                self.remove(artifact_id)
            raise

    def remove(self, artifact_id: str) -> None:
        """Removes an artifact.

        Raises:
            ArtifactNotFound:
                If the store says that there was no such artifact (S3 never does).
            StoreError:
                If the artifact cannot be removed.
        """
        # Backoff.remove deletes, then goes on deleting: either ArtifactNotFound for an artifact that was there, or, on
        # S3, ten sleeps that add up to 50 seconds.
        try:
            with self._trouble("remove weights from"):
                self._innermost.remove(artifact_id)
        except StoreError:
            self._innermost_must_hold(artifact_id)  # GCS raises an error of its own for a missing artifact.
            raise

    def find_once(self, artifact_id: str) -> bytes | None:
        """Returns what :meth:`create_once` created, or :obj:`None` if that is not there or not settled yet.

        Raises:
            StoreError:
                If the store cannot be read.
        """
        content = self._small(artifact_id)
        return None if content is None or content.endswith(_UNSETTLED) else content

    def create_once(self, artifact_id: str, body: bytes) -> None:
        """Creates a small artifact unless it exists. All who do so at the same time then find the same bytes.

        Raises:
            StoreError:
                If the store cannot be written.
        """
        if self.path is not None:
            with self._trouble("write", passing=()):
                if _create_exclusively(self.path / artifact_id, body):
                    return
        if self._small(artifact_id) is None:
            self._replace(artifact_id, body + _UNSETTLED)
        time.sleep(SETTLE_SECONDS)
        content = self._small(artifact_id)
        if content is not None and content.endswith(_UNSETTLED):
            self._replace(artifact_id, content.removesuffix(_UNSETTLED))

    def write_whole(self, artifact_id: str, body: bytes) -> None:
        """Writes an artifact, or replaces it. Who reads at the same time finds the old bytes, the new ones or none.

        Raises:
            StoreError:
                If the store cannot be written.
        """
        self._replace(artifact_id, body)

    def make_directory(self) -> None:
        """Makes the directory of a store on a file system.

        Raises:
            StoreError:
                If it cannot be made.
        """
        if self.path is not None:
            with self._trouble("make directory", passing=()):
                self.path.mkdir(parents=True, exist_ok=True)

    def _small(self, artifact_id: str) -> bytes | None:
        try:
            return b"".join(self.read(artifact_id, _MAX_SMALL_BYTES))
        except ArtifactNotFound:
            return None

    def _replace(self, artifact_id: str, body: bytes) -> None:
        with self._trouble("write", passing=()):
            if self.path is None:
                self._backend.write(artifact_id, io.BytesIO(body))
            else:
                with _whole_file_beside(self.path / artifact_id, body) as temporary:
                    os.replace(temporary, self.path / artifact_id)

    def _innermost_must_hold(self, artifact_id: str) -> None:
        with self._trouble("read"):
            self._innermost.open_reader(artifact_id).close()

    @contextlib.contextmanager
    def _trouble(self, action: str, passing: tuple[type[Exception], ...] = (ArtifactNotFound,)) -> Iterator[None]:
        try:
            yield
        except passing:
            raise
        except Exception as error:  # Stores are code of third parties (botocore, google-cloud): they raise anything.
            raise StoreError(f"cannot {action} {self.location}: {type(error).__name__}: {error}") from error


def _create_exclusively(path: Path, body: bytes) -> bool:
    """Creates a file with its content; an existing one stays. Returns :obj:`False` if that cannot be done here."""
    with _whole_file_beside(path, body) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return True
        except OSError:  # No hard links here.
            return False
    return True


@contextlib.contextmanager
def _whole_file_beside(path: Path, body: bytes) -> Iterator[Path]:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
        temporary.chmod(0o644)  # mkstemp makes files private, but workers may run as other users.
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
