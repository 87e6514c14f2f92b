"""The errors that this package raises.

Each is also a builtin error, so that ``except ValueError`` keeps working for callers who do not know this package.
"""

from __future__ import annotations


class NasMorphError(Exception):
    """Base class of every error raised by optuna_nas_morph."""


class ArchitectureError(NasMorphError, ValueError):
    """An architecture is not valid: a name, a shape or an edge does not fit. The message names the node."""


class TranslationError(NasMorphError, ValueError):
    """A module cannot be made an architecture. The message says where, why and what to do."""


class MorphismError(NasMorphError, ValueError):
    """A morphism cannot be applied at a site. The message says why."""


class EncodingError(NasMorphError, ValueError):
    """Parameters or attributes of a trial do not describe an architecture of the space."""


class SpaceMismatchError(NasMorphError, ValueError):
    """The study holds another space, or was written by another version of the format."""


class WeightsError(NasMorphError, RuntimeError):
    """Base class of what can go wrong with stored weights."""


class WeightsMissingError(WeightsError, LookupError):
    """A record names weights that the store no longer holds."""


class WeightsCorruptError(WeightsError):
    """Stored bytes do not match the record: truncated, flipped, or another file."""


class WeightsMismatchError(WeightsError):
    """Weights do not fit the architecture they are meant for: a name or a shape differs."""


class WeightsNotFiniteError(WeightsError, ValueError):
    """Weights hold NaN or infinity, as after a training that diverged; they never become a donor's."""


class StoreError(WeightsError, OSError):
    """A weight store cannot be read or written, or is not the one that the study names."""
