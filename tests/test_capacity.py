"""How much a device can train, from recorded facts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optuna_nas_morph.capacity import Device, MemoryFact, Training, capacity, usual_training

GB = 2**30
SMALL, LARGE = Device("cuda", "small", 4 * GB), Device("cuda", "large", 16 * GB)
TRAINING = Training(32, 2, 4)


def trained(estimate: int, device: Device = SMALL, peak: int | None = None) -> MemoryFact:
    return MemoryFact(device, failed=False, training=TRAINING, estimate=estimate, peak=peak)


def failed(estimate: int, device: Device = SMALL) -> MemoryFact:
    return MemoryFact(device, failed=True, training=TRAINING, estimate=estimate)


# What counts.


def test_where_nothing_is_known_everything_is_worth_trying() -> None:
    assert capacity([], SMALL) == math.inf
    assert capacity([failed(GB, Device("cpu", "cpu", 64 * GB))], SMALL) == math.inf
    assert capacity([MemoryFact(SMALL, failed=True)], SMALL) == math.inf


def test_what_exceeds_the_device_is_not_worth_trying() -> None:
    assert capacity([trained(GB)], SMALL) == SMALL.total


def test_measured_peaks_say_what_the_estimate_leaves_out() -> None:
    facts = [trained(GB // 100, peak=GB // 10), trained(GB, peak=GB + GB // 4), trained(GB // 2, LARGE, peak=GB)]
    assert capacity(facts, SMALL) == pytest.approx(SMALL.total / 1.25)
    assert capacity(facts, LARGE) == pytest.approx(LARGE.total / 1.25)


def test_what_fits_by_measured_peaks_is_trusted_until_it_fails() -> None:
    facts = [trained(10**6, peak=10**6), trained(10**6, peak=2 * 10**6), failed(3 * GB)]
    assert 2 * GB < capacity(facts, SMALL) < 3 * GB
    # Twice the estimate fits into 4 GB, but did not: then 10 % less than that, 27 % less, ...
    assert GB / 1.2 < capacity([*facts, failed(GB)], SMALL) < GB
    assert GB / 2 < capacity([*facts, failed(GB), failed(GB)], SMALL) < GB / 1.2
    assert capacity([*facts, *[failed(GB)] * 5], SMALL) < GB / 5
    assert capacity([*facts, failed(GB, LARGE)], SMALL) < GB / 2


def test_half_the_estimate_is_possible_too() -> None:
    """Mixed precision, checkpoints."""
    assert capacity([trained(GB, peak=GB // 2)], SMALL) == 2 * SMALL.total


def test_what_fails_on_a_small_device_does_not_restrict_a_large_one() -> None:
    facts = [trained(GB), trained(GB, LARGE)]
    failures = [failed(n * GB) for n in (1, 2, 3)]
    assert capacity(facts + failures, LARGE) == capacity(facts, LARGE)
    assert capacity(facts + failures, SMALL) < capacity(facts, SMALL)


def test_what_fails_on_a_large_device_restricts_a_small_one() -> None:
    assert capacity([trained(GB // 4), failed(GB, LARGE)], SMALL) < GB


def test_what_a_small_device_has_trained_fits_a_large_one() -> None:
    facts = [trained(3 * GB), failed(GB, LARGE)]
    assert capacity(facts, LARGE) >= 3 * GB
    assert capacity([trained(3 * GB, LARGE), failed(GB)], SMALL) < GB


def test_an_accident_is_outvoted() -> None:
    assert capacity([failed(GB)], SMALL) < GB
    assert capacity([failed(GB), trained(GB)], SMALL) == SMALL.total
    assert capacity([failed(GB), failed(GB // 2), trained(GB)], SMALL) < GB


def test_a_second_device_begins_with_what_the_first_has_learned() -> None:
    twin = Device("cuda", "another", SMALL.total)
    facts = [trained(GB), failed(2 * GB)]
    assert capacity(facts, twin) == capacity(facts, SMALL)


# Properties.

ESTIMATES = st.integers(1, 40)
DEVICES = st.sampled_from([Device("cuda", str(n), n) for n in (5, 10, 20, 40)])
PEAKS = st.none() | st.integers(1, 60)
FACTS = st.lists(
    st.builds(trained, ESTIMATES, DEVICES, PEAKS) | st.builds(failed, ESTIMATES, DEVICES), min_size=1, max_size=12
)


@given(FACTS, DEVICES, st.randoms())
def test_the_order_of_facts_has_no_meaning(facts: list[MemoryFact], device: Device, random: Any) -> None:
    shuffled = list(facts)
    random.shuffle(shuffled)
    assert capacity(shuffled, device) == capacity(facts, device)


@given(FACTS, DEVICES, ESTIMATES, DEVICES)
def test_a_success_never_lowers_the_limit(facts: list[MemoryFact], device: Device, e: int, where: Device) -> None:
    assert capacity([*facts, trained(e, where)], device) >= capacity(facts, device)


@given(FACTS, DEVICES, ESTIMATES, DEVICES)
def test_a_failure_never_raises_the_limit(facts: list[MemoryFact], device: Device, e: int, where: Device) -> None:
    assert capacity([*facts, failed(e, where)], device) <= capacity(facts, device)


@given(FACTS)
def test_more_memory_is_never_less(facts: list[MemoryFact]) -> None:
    limits = [capacity(facts, Device("cuda", "any", total)) for total in (3, 5, 8, 10, 20, 40, 80)]
    assert limits == sorted(limits)


@given(FACTS, DEVICES)
def test_what_was_trained_without_a_failure_below_it_stays_allowed(facts: list[MemoryFact], device: Device) -> None:
    failures = [f.estimate or 0 for f in facts if f.failed]
    fine = [
        f.estimate or 0
        for f in facts
        if not f.failed and f.device.total <= device.total and (f.estimate or 0) < min(failures, default=math.inf)
    ]
    assert capacity(facts, device) >= max(fine, default=0)


# How soon a limit is learned.


def failures_until(truth: int, first: Iterable[int], choose: Callable[[float], int], n_trials: int = 200) -> int:
    """Failures of a device that can train ``truth`` where candidates are chosen below the limit."""
    device = Device("cuda", "any", 2**60)
    facts = [trained(e, device) if e <= truth else failed(e, device) for e in first]
    for _ in range(n_trials):
        e = choose(capacity(facts, device))
        facts.append(trained(e, device) if e <= truth else failed(e, device))
    return sum(fact.failed for fact in facts)


@pytest.mark.parametrize("beyond", [1.01, 1.3, 2.0, 10.0, 64.0])
@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.2, 4.0])
def test_peaks_that_mislead_cost_few_failures(beyond: float, ratio: float) -> None:
    """All was measured to take ``ratio`` times its estimate, and the device can train 1 of what should be."""
    device, truth = Device("cuda", "any", 10**15), 10**14
    peak = trained(1000, device, int(1000 * ratio))
    facts = [peak, failed(int(truth * beyond), device)]
    for _ in range(50):
        e = int(capacity(facts, device))
        facts.append(trained(e, device, int(e * ratio)) if e <= truth else failed(e, device))
    assert sum(fact.failed for fact in facts) <= 9


@pytest.mark.parametrize("beyond", [1.01, 1.05, 1.2, 2.0, 5.0, 20.0, 64.0])
@pytest.mark.parametrize("above", [1.0, 1.0001, 1.04, 1.09, 1.3, 1.9, 4.0, 18.0, 1000.0])
def test_at_most_six_failures_even_if_the_limit_itself_is_always_tried(beyond: float, above: float) -> None:
    truth = 10**15
    assert 1 <= failures_until(truth, [int(truth / above), int(truth * beyond)], int) <= 6


def test_at_most_six_failures_if_what_is_tried_is_drawn(rng: np.random.Generator) -> None:
    base = 10**12
    counts = []
    for _ in range(100):
        truth, beyond = int(base * 10 ** rng.uniform(0, 1.5)), 10 ** rng.uniform(0, 1.8)

        def choose(limit: float) -> int:
            return int(base / 10 * (limit / (base / 10)) ** rng.uniform())

        counts.append(failures_until(truth, [base, int(truth * beyond)], choose, 60))
    assert max(counts) <= 6


def test_the_limit_ends_near_the_truth() -> None:
    """Within the margin: it is neither given up nor exceeded for long."""
    base = 10**12
    for truth in (1.1, 1.7, 3.0, 9.0):
        device = Device("cuda", "any", 2**60)
        facts = [trained(base, device), failed(10 * base, device)]
        for _ in range(60):
            e = int(capacity(facts, device))
            facts.append(trained(e, device) if e <= truth * base else failed(e, device))
        assert 0.9 / 1.1 * truth * base <= capacity(facts, device) <= truth * base


# How the next network is going to be trained.


def test_training_as_on_this_device_before() -> None:
    here, there = Training(8, 2, 4), Training(4, 2, 4)
    facts = [MemoryFact(SMALL, failed=False, training=here), MemoryFact(LARGE, failed=False, training=there)]
    assert usual_training(facts, SMALL) == here
    assert usual_training(facts, LARGE) == there
    assert usual_training(facts, Device("cuda", "new", GB)) == there
    assert usual_training([MemoryFact(SMALL, failed=True)], SMALL) is None


def test_where_training_varies_the_least_counts() -> None:
    trainings = [Training(64, 0, 2), Training(16, 2, 4), Training(16, 1, 4), Training(32, 0, 4)]
    facts = [MemoryFact(SMALL, failed=False, training=t) for t in trainings]
    assert usual_training(facts, SMALL) == Training(16, 1, 4)


# Records.


@given(FACTS)
def test_facts_survive_json(facts: list[MemoryFact]) -> None:
    for fact in facts:
        assert MemoryFact.from_dict(json.loads(json.dumps(fact.to_dict()))) == fact


def test_the_format_of_a_record_is_frozen() -> None:
    assert trained(3, SMALL, 5).to_dict() == {
        "device": {"kind": "cuda", "name": "small", "total": 4294967296},
        "failed": False,
        "training": {"batch_size": 32, "optimizer_copies": 2, "float_bytes": 4},
        "estimate": 3,
        "peak": 5,
    }


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("device", "total"), "much"),
        (("device", "total"), -1),
        (("device",), None),
        (("training", "batch_size"), 0),
        (("training", "optimizer_copies"), "adam"),
        (("training", "optimizer_copies"), -1),
        (("estimate",), 1.5),
        (("peak",), 0),
        (("failed",), "no"),
    ],
)
def test_a_damaged_record_is_refused(path: tuple[str, ...], value: object) -> None:
    data = trained(3, SMALL, 5).to_dict()
    *parents, last = path
    part = data
    for name in parents:
        part = part[name]
    part[last] = value
    with pytest.raises(ValueError, match=f"{last if last != 'device' else 'fact'}"):
        MemoryFact.from_dict(data)
    with pytest.raises(ValueError, match="cannot be read"):
        MemoryFact.from_dict({})
