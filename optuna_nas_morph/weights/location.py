"""Which store a study keeps its weights in."""

from __future__ import annotations

import atexit
import dataclasses
import os
import reprlib
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna import Study
from optuna.artifacts import FileSystemArtifactStore
from optuna.pruners import BasePruner
from optuna.storages import BaseStorage, InMemoryStorage

from optuna_nas_morph.errors import StoreError
from optuna_nas_morph.weights import artifacts
from optuna_nas_morph.weights.garbage import Keep
from optuna_nas_morph.weights.record import is_canonical_uuid
from optuna_nas_morph.weights.store import WeightStore

STORE_ATTR = "nasmorph:store"
"""The study user attribute that says where the weights are."""

LOCATION_VERSION = 1

DEFAULT_DIRECTORY = Path("optuna-nas-morph", "weights")

_REMEDY = (
    "Pass the store of this study explicitly, LineagePruner(store=WeightStore(...)) or store=WeightStore(...); "
    f"or, to go on with another store and without the earlier weights, study.set_user_attr({STORE_ATTR!r}, None)."
)


@dataclass(frozen=True)
class StoreLocation:
    """What a study records about its store.

    Args:
        version:
            Version of the format.
        kind:
            ``"filesystem"``, or ``"artifact"`` for a store that only the user can open.
        path:
            The absolute path of the directory; :obj:`None` if ``kind`` is ``"artifact"``.
        token:
            The token of the store.
        settled:
            Whether all workers that started together have agreed on this location.

    Raises:
        StoreError:
            If a field is not what it must be. The message names the field.
    """

    version: int
    kind: str
    path: str | None
    token: str
    settled: bool

    def __post_init__(self) -> None:
        _require("version", type(self.version) is int and self.version == LOCATION_VERSION, "1", self.version)
        _require("kind", self.kind in ("filesystem", "artifact"), "'filesystem' or 'artifact'", self.kind)
        if self.kind == "filesystem":
            _require("path", isinstance(self.path, str) and os.path.isabs(self.path), "an absolute path", self.path)
        else:
            _require("path", self.path is None, "None for an artifact store", self.path)
        _require("token", is_canonical_uuid(self.token), "a canonical UUID", self.token)
        _require("settled", isinstance(self.settled, bool), "a bool", self.settled)

    @classmethod
    def of(cls, store: WeightStore, *, settled: bool) -> StoreLocation:
        """Returns the location of a store. Raises :exc:`StoreError` if the store cannot be read or written."""
        kind, path = ("artifact", None) if store.path is None else ("filesystem", str(store.path))
        return cls(LOCATION_VERSION, kind, path, store.token(), settled)

    @classmethod
    def from_dict(cls, value: object) -> StoreLocation:
        """Reads a recorded location; anything at all is accepted and checked. Raises :exc:`StoreError`."""
        if not isinstance(value, Mapping) or set(value) != {field.name for field in dataclasses.fields(cls)}:
            raise StoreError(f"{STORE_ATTR} must be a store location but got {reprlib.repr(value)}. {_REMEDY}")
        return cls(**value)

    def to_dict(self) -> dict[str, Any]:
        """Returns the location as a JSON-serialisable dictionary."""
        return dataclasses.asdict(self)

    def open(self) -> WeightStore:
        """Opens the store at the recorded path. Makes nothing there.

        Raises:
            StoreError:
                If the store is not at this path, or is not on a file system.
        """
        if self.path is None:
            raise StoreError(f"this study keeps its weights in an artifact store with token {self.token}. {_REMEDY}")
        store = WeightStore(FileSystemArtifactStore(self.path))
        token = store.find_token()
        if token != self.token:
            found = "no token" if token is None else f"token {token}"
            raise StoreError(
                f"this study keeps its weights in {self.path}, which must hold token {self.token} but has {found} "
                f"on this machine. {_REMEDY}"
            )
        return store


def resolve(study: Study, explicit: WeightStore | None = None) -> WeightStore:
    """Returns the store of a study.

    It is the explicit one; else the pruner's; else the one recorded in the study; else a default directory, which is
    then recorded: temporary, until the process ends, for an in-memory study, else ``./optuna-nas-morph/weights``.

    The result is remembered per study, so calling this in every trial costs nothing.

    Args:
        study:
            The study; the restricted one that :class:`~optuna.pruners.HyperbandPruner` hands out will do.
        explicit:
            The store to use. ``WeightStore()``, which has no location, only says what to keep.

    Raises:
        StoreError:
            If the store cannot be reached, or is not the one that the study records.
    """
    candidates = [*([] if explicit is None else [explicit]), *_stores_of_pruner(study.pruner)]
    given = next((store for store in candidates if store.is_located), None)
    keep = candidates[0].keep if candidates else Keep()
    key = (study._study_id, given, keep)
    with _resolved.lock:
        stores = _resolved.stores.setdefault(study._storage, {})
        if key not in stores:
            stores[key] = _locate(study._storage, study._study_id, given).keeping(keep)
        return stores[key]


def _stores_of_pruner(pruner: BasePruner | None) -> Iterator[WeightStore]:
    """The stores of a pruner and, through any wrappers, of what it wraps. Needs no import of pruners."""
    seen: list[object] = []
    queue: list[object] = [pruner]
    while queue:
        current = queue.pop(0)
        if current is None or any(current is other for other in seen):
            continue
        seen.append(current)
        store = getattr(current, "store", None)
        if isinstance(store, WeightStore):
            yield store
        queue += [getattr(current, "_wrapped_pruner", None), getattr(current, "wrapped", None)]


def _locate(storage: BaseStorage, study_id: int, given: WeightStore | None) -> WeightStore:
    recorded = _recorded(storage, study_id)
    if recorded is None:
        proposed = given if given is not None else _default_store(storage)
        recorded = StoreLocation.of(proposed, settled=isinstance(storage, InMemoryStorage))
        _record(storage, study_id, recorded)
    if not recorded.settled:
        time.sleep(artifacts.SETTLE_SECONDS)  # Another worker, elsewhere, may have recorded its own proposal.
        recorded = dataclasses.replace(_recorded(storage, study_id) or recorded, settled=True)
        _record(storage, study_id, recorded)
    if given is None:
        return recorded.open()
    token = given.find_token()
    if token != recorded.token:
        found = "no token" if token is None else f"token {token}"
        raise StoreError(
            f"this study keeps its weights in {recorded.path or 'an artifact store'} with token {recorded.token} but "
            f"{given.location} has {found}: this worker looks at another directory or bucket. {_REMEDY}"
        )
    return given


def _recorded(storage: BaseStorage, study_id: int) -> StoreLocation | None:
    # Not Study.user_attrs: the restricted study of HyperbandPruner has none.
    value = storage.get_study_user_attrs(study_id).get(STORE_ATTR)
    return None if value is None else StoreLocation.from_dict(value)


def _record(storage: BaseStorage, study_id: int, location: StoreLocation) -> None:
    storage.set_study_user_attr(study_id, STORE_ATTR, location.to_dict())


def _default_store(storage: BaseStorage) -> WeightStore:
    if not isinstance(storage, InMemoryStorage):
        return WeightStore(DEFAULT_DIRECTORY)
    directory = tempfile.mkdtemp(prefix="optuna-nas-morph-")
    atexit.register(_remove_own_directory, directory, os.getpid())
    return WeightStore(directory)


def _remove_own_directory(directory: str, owner: int) -> None:
    if os.getpid() == owner:  # Not a forked child, which shares the directory with its parent.
        shutil.rmtree(directory, ignore_errors=True)


class _Resolved:
    """The stores that this process has resolved, by storage, study, given store and what it keeps."""

    def __init__(self) -> None:
        self.stores: weakref.WeakKeyDictionary[
            BaseStorage, dict[tuple[int, WeightStore | None, Keep | None], WeightStore]
        ]
        self.stores = weakref.WeakKeyDictionary()
        self.lock = threading.Lock()

    def renew_lock(self) -> None:
        """Replaces a lock that another thread held while this process was forked."""
        self.lock = threading.Lock()


_resolved = _Resolved()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_resolved.renew_lock)


def _require(field: str, holds: bool, rule: str, value: object) -> None:
    if not holds:
        raise StoreError(f"{STORE_ATTR} field {field} must be {rule} but got {reprlib.repr(value)}. {_REMEDY}")
