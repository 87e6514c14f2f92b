"""How much a device can train, learned from what was trained on it and on others. Pure functions of recorded facts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

MARGIN = 1.1
"""A network is not tried unless it is smaller than one that failed by this factor, or one as large has been trained."""

CAUTION = 1 / 3
"""How far to go, on a logarithmic scale, from the largest that was trained to the smallest that failed."""

MAX_STEP = 64
"""A network smaller by this factor than one that failed is taken to be trainable, whether or not one has been."""


@dataclass(frozen=True)
class Device:
    """Where networks are trained.

    Args:
        kind:
            Its type as in ``torch.device``: ``"cuda"``, ``"cpu"``.
        name:
            What it is, for people.
        total:
            Its memory in bytes.

    Raises:
        ValueError: If ``total`` is no positive integer.
    """

    kind: str
    name: str
    total: int

    def __post_init__(self) -> None:
        _check_positive(total=self.total)


@dataclass(frozen=True)
class Training:
    """How networks are trained, as far as memory goes.

    Args:
        batch_size:
            Samples per step.
        optimizer_copies:
            Numbers that the optimizer keeps per parameter: 0 for plain SGD, 1 with momentum, 2 for Adam.
        float_bytes:
            Bytes of a floating point number: 4, or 2 for a network in half precision.

    Raises:
        ValueError: If an argument is out of range.
    """

    batch_size: int
    optimizer_copies: float
    float_bytes: int

    def __post_init__(self) -> None:
        _check_positive(batch_size=self.batch_size, float_bytes=self.float_bytes)
        if type(self.optimizer_copies) not in (int, float) or not self.optimizer_copies >= 0:
            raise ValueError(f"optimizer_copies must be a non-negative number but got {self.optimizer_copies!r}.")


@dataclass(frozen=True)
class MemoryFact:
    """What one trial has shown about the memory of a device.

    Args:
        device:
            Where it was trained.
        failed:
            Whether it ran out of memory.
        training:
            How it was trained; :obj:`None` where there is no estimate.
        estimate:
            Bytes that it was estimated to take; :obj:`None` for a network that is not of an `Architecture`.
        peak:
            Bytes that it took at most; :obj:`None` where that cannot be measured.

    Raises:
        ValueError: If ``failed`` is not a bool, or a number of bytes is no positive integer.
    """

    device: Device
    failed: bool
    training: Training | None = None
    estimate: int | None = None
    peak: int | None = None

    def __post_init__(self) -> None:
        if type(self.failed) is not bool:
            raise ValueError(f"failed must be True or False but got {self.failed!r}.")
        _check_positive(**{n: v for n, v in (("estimate", self.estimate), ("peak", self.peak)) if v is not None})

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` reads; JSON-able."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> MemoryFact:
        """Inverse of `to_dict`.

        Raises:
            ValueError: If it describes no fact.
        """
        try:
            training = None if data["training"] is None else Training(**data["training"])
            return MemoryFact(Device(**data["device"]), data["failed"], training, data["estimate"], data["peak"])
        except (KeyError, TypeError) as e:
            raise ValueError(f"a fact about memory cannot be read: {e!r}") from e


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if type(value) is not int or value < 1:
            raise ValueError(f"{name} must be a positive integer but got {value!r}.")


def capacity(facts: Sequence[MemoryFact], device: Device) -> float:
    """The largest estimate in bytes that is worth trying on a device.

    Trained on a device at most as large says that it fits; failed on a device at least as large says that it does not;
    what failed on a smaller one says nothing. A failure counts as an accident (another process held the memory) as long
    as at least as many trainings that took as much or more went well.

    - Nothing has failed: the device's memory, by the smallest ratio of measured peak and estimate so far.
    - Something has: carefully more than the largest that was trained, or than what fits by the largest ratio of
      measured peak and estimate, at a distance that doubles with every failure of what should have fitted. A failure
      costs a trial and caution costs little: what goes well moves the limit up. The first failure aside, each at the
      limit divides the unknown, the logarithm of the smallest that failed by the largest that was trained, by three,
      until they are within 10 %: with a first failure of up to 64 times what can be trained, and no peaks that
      mislead, there are at most 6 in all.

    The order of the facts has no meaning. More that was trained never lowers the limit (but measured peaks may), more
    that failed never raises it, and a device with more memory has no lower limit.

    Args:
        facts:
            What the trials of a study have shown.
        device:
            The device that is asked for.

    Returns:
        Bytes; infinity where nothing is known of such devices.
    """
    known = [(f, f.estimate) for f in facts if f.estimate and f.device.kind == device.kind]
    if not known:
        return math.inf
    trained = [e for f, e in known if not f.failed and f.device.total <= device.total]
    failures = [e for f, e in known if f.failed and f.device.total >= device.total]
    ratios = [f.peak / e for f, e in known if not f.failed and f.peak]
    limit = device.total / min(ratios, default=1.0)
    confirmed = [e for e in trained if sum(t >= e for t in trained) >= sum(f <= e for f in failures)]
    passed = max(confirmed, default=0)
    failed = min((e for e in failures if e > passed), default=math.inf)
    if failed < math.inf:
        base = max(passed, failed / MAX_STEP, _trusted(known, ratios) * device.total)
        limit = min(limit, base * (failed / base) ** CAUTION, failed / MARGIN)
    return max(passed, limit)


def _trusted(known: Sequence[tuple[MemoryFact, int]], ratios: Sequence[float]) -> float:
    """The share of a device's memory that an estimate may surely take, by measured peaks; 0 without any.

    Every failure of an estimate that should have fitted doubles the distance to it.
    """
    if not ratios:
        return 0.0
    share = 1 / max(ratios)
    surprises = [e / f.device.total for f, e in known if f.failed and e / f.device.total <= share]
    distance: float = MARGIN ** (2 ** len(surprises) - 1)
    return min([share, *surprises]) / distance


def usual_training(facts: Sequence[MemoryFact], device: Device) -> Training | None:
    """How the next network is going to be trained: as on this device before, else as on others.

    Where that varied, what takes the least, so that nothing is excluded that may fit.

    Returns:
        :obj:`None` if nobody knows.
    """
    here = [f.training for f in facts if f.training is not None and f.device == device]
    known = here or [f.training for f in facts if f.training is not None]
    return min(known, key=lambda t: (t.batch_size, t.float_bytes, t.optimizer_copies), default=None)
