"""The record that makes a trial a donor: which stored bytes are its weights."""

from __future__ import annotations

import dataclasses
import json
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from optuna.trial import FrozenTrial, Trial

from optuna_nas_morph import lineage
from optuna_nas_morph.errors import WeightsCorruptError

JSON: TypeAlias = bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"] | None

RECORD_ATTR = lineage.WEIGHTS
"""The trial user attribute that holds the record. Setting it is the only commit point of a publication."""

RECORD_VERSION = 1

MAX_METADATA_BYTES = 32_768  # MySQL keeps at most 65,535 bytes in an attribute.

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_canonical_uuid(value: object) -> bool:
    """Whether ``value`` is a UUID as ``str(uuid.uuid4())`` writes it: safe as a file name, one spelling per UUID."""
    return isinstance(value, str) and _UUID.fullmatch(value) is not None


@dataclass(frozen=True)
class WeightRecord:
    """Which stored bytes are the weights of one trial.

    Every field is checked on construction, because records come back from a storage that others can write.

    Args:
        version:
            Version of the format of the record.
        trial_number:
            Number of the trial that published the weights. Optuna's retry callback copies user attributes to the
            retried trial, whose number differs: there the record is ignored.
        artifact_id:
            The artifact, a UUID in canonical form.
        sha256:
            SHA-256 of the artifact, as 64 lower-case hexadecimal digits.
        n_bytes:
            Length of the artifact.
        store_token:
            Token of the store that holds the artifact, a UUID in canonical form.
        metadata:
            What else the publisher wants to know later, e.g. epochs or the fingerprint of the architecture.

    Raises:
        WeightsCorruptError:
            If a field is not what it must be. The message names the field.
    """

    version: int
    trial_number: int
    artifact_id: str
    sha256: str
    n_bytes: int
    store_token: str
    metadata: Mapping[str, JSON] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        _require("version", type(self.version) is int and self.version == RECORD_VERSION, RECORD_VERSION, self.version)
        _require("trial_number", _is_count(self.trial_number), "an integer of at least 0", self.trial_number)
        _require("artifact_id", is_canonical_uuid(self.artifact_id), "a canonical UUID", self.artifact_id)
        is_sha256 = isinstance(self.sha256, str) and _SHA256.fullmatch(self.sha256) is not None
        _require("sha256", is_sha256, "64 lower-case hexadecimal digits", self.sha256)
        _require("n_bytes", _is_count(self.n_bytes), "an integer of at least 0", self.n_bytes)
        _require("store_token", is_canonical_uuid(self.store_token), "a canonical UUID", self.store_token)
        is_metadata = isinstance(self.metadata, Mapping) and all(isinstance(key, str) for key in self.metadata)
        _require("metadata", is_metadata, "a mapping with string keys", self.metadata)

    def to_dict(self) -> dict[str, Any]:
        """Returns the record as a JSON-serialisable dictionary."""
        return dataclasses.asdict(self) | {"metadata": jsonable_metadata(self.metadata)}

    @classmethod
    def from_dict(cls, value: object) -> WeightRecord:
        """Reads what :meth:`to_dict` wrote.

        Args:
            value:
                The stored value; anything at all is accepted and checked.

        Raises:
            WeightsCorruptError:
                If ``value`` is not a record of this version. The message names the field.
        """
        if not isinstance(value, Mapping):
            raise WeightsCorruptError(f"weight record must be a mapping but got {reprlib.repr(value)}.")
        _require("version", value.get("version") == RECORD_VERSION, RECORD_VERSION, value.get("version"))
        names = {field.name for field in dataclasses.fields(cls)}
        for name in sorted(names - value.keys()):
            raise WeightsCorruptError(f"weight record field {name} must be present but it is missing.")
        for unknown in value.keys() - names:
            raise WeightsCorruptError(f"weight record must have no other fields but got {reprlib.repr(unknown)}.")
        return cls(**value)


def read_record(trial: Trial | FrozenTrial) -> WeightRecord | None:
    """Reads the record of a trial.

    Returns:
        The record, or :obj:`None` if the trial has none of its own: it published nothing, or it is a retry that carries
        a copy of another trial's record.

    Raises:
        WeightsCorruptError:
            If the stored value is not a record.
    """
    value = trial.user_attrs.get(RECORD_ATTR)
    if value is None:
        return None
    record = WeightRecord.from_dict(value)
    return record if record.trial_number == trial.number else None


def jsonable_metadata(metadata: Mapping[str, JSON]) -> dict[str, Any]:
    """Returns a deep copy of ``metadata`` as it will come back from the storage.

    Raises:
        ValueError:
            If ``metadata`` cannot be stored: it is no finite JSON, or too long for a trial attribute.
    """
    try:
        text = json.dumps(dict(metadata), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata must be finite JSON but got {reprlib.repr(metadata)}: {error}.") from error
    if len(text) > MAX_METADATA_BYTES:
        raise ValueError(f"metadata must take at most {MAX_METADATA_BYTES} bytes of JSON but got {len(text)}.")
    copy: dict[str, Any] = json.loads(text)
    return copy


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0  # A bool is an int too.


def _require(field: str, holds: bool, rule: object, value: object) -> None:
    if not holds:
        raise WeightsCorruptError(f"weight record field {field} must be {rule} but got {reprlib.repr(value)}.")
