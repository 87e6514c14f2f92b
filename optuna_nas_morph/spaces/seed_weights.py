"""Trained weights that a space starts from."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

from optuna_nas_morph.errors import WeightsCorruptError
from optuna_nas_morph.morphisms.base import Weights

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class SeedWeights:
    """Weights of a seed: equal to others where the digest is.

    The description of a space holds the digest alone. Whoever has only that, another process say, finds the tensors in
    the weight store of the study, and knows by the digest that they are the right ones.

    Args:
        digest:
            SHA-256 of their names, dtypes, shapes and bytes: 64 hexadecimal digits.
        tensors:
            The weights by name, not to be changed; :obj:`None` where only the digest is known.

    Raises:
        WeightsCorruptError: If the digest is none, or not that of the tensors.
    """

    digest: str
    tensors: Weights | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.digest, str) or not _DIGEST.fullmatch(self.digest):
            raise WeightsCorruptError(f"digest must be 64 lower-case hexadecimal digits but got {self.digest!r}.")
        if self.tensors is not None and (found := digest_of(self.tensors)) != self.digest:
            raise WeightsCorruptError(f"weights of the seed must have digest {self.digest} but have {found}.")

    @classmethod
    def of(cls, tensors: Weights) -> SeedWeights:
        """Weights with their digest."""
        return cls(digest_of(tensors), tensors)


def digest_of(tensors: Weights) -> str:
    """SHA-256 of names, dtypes, shapes and bytes, whatever the order of the names."""
    sha256 = hashlib.sha256()
    for name in sorted(tensors):
        values: Any = tensors[name].detach().cpu().contiguous().numpy()
        sha256.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        sha256.update(values.tobytes())
    return sha256.hexdigest()
