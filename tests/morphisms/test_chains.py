"""Chains of morphisms keep the function, and random applications stay within the limits."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.morphisms import MORPHISMS as BY_NAME
from optuna_nas_morph.spaces import MorphSpace
from tests.morphisms.architectures import HAND_MADE
from tests.morphisms.chains import MORPHISMS, Report, run_chains, seeds

NOT_EXACT = {"drop_branch", "drop_layer", "fold_batch_norm", "make_separable", "prune_channels"}
"""Not exact in both modes, so not in the chains."""


def test_every_kind_of_morphism_is_in_the_chains() -> None:
    assert {m.morphism_name for m in MORPHISMS} == set(BY_NAME) - NOT_EXACT


@pytest.mark.parametrize("n_chains", [110, pytest.param(1000, marks=pytest.mark.slow)])
def test_chains_keep_the_function(n_chains: int) -> None:
    report = run_chains(seeds(), n_chains, seed=0)
    assert report.violations == [], f"\n{report}"
    assert sum(n for row, n in report.n.items() if row.startswith("whole chain")) == n_chains
    assert {str(m) for m in MORPHISMS} <= set(report.n)


def test_a_report_remembers_the_worst_and_takes_nan_for_a_violation() -> None:
    report = Report()
    for value in (1e-16, 1e-9, 1e-15):
        report.add("widen:2", "float64", False, value, f"chain {value:g}")
    report.add("deepen:relu", "float64", False, 1e-14, "elsewhere")
    report.add("grow_kernel:2", "float32", True, float("nan"), "chain 7")
    report.add("widen:2", "float32", True, 1.3e-5, "chain 8", rounding=lambda: 0.7e-5)
    report.add("widen:2", "float32", True, 1.5e-5, "chain 9", rounding=lambda: 0.7e-5)
    assert report.violations == [
        "widen:2, float64, eval: 1e-09 in chain 1e-09",
        "grow_kernel:2, float32, train: nan in chain 7",
        "widen:2, float32, train: 1.5e-05 in chain 9",
    ]
    assert len(report.rounded) == 1
    assert report.worst["widen:2", "float32", True] == 1.5e-5


LIMITS: dict[str, dict[str, float]] = {
    "roomy": {"max_parameters": 10_000_000, "max_flops": 10**9, "max_nodes": 120},
    "parameters": {"max_parameters": 1.3, "max_flops": 10**9, "max_nodes": 200},
    "flops": {"max_parameters": 10_000_000, "max_flops": 1.5, "max_nodes": 200},
    "nodes": {"max_parameters": 10_000_000, "max_flops": 10**9, "max_nodes": 1.2},
    "tight": {"max_parameters": 1.0, "max_flops": 1.0, "max_nodes": 1.0},
}
"""A float is a multiple of what the seed has."""


def space_within(seed: Architecture, limits: str) -> MorphSpace:
    own = {"max_parameters": seed.n_parameters, "max_flops": seed.flops, "max_nodes": len(seed.nodes)}
    values = {k: int(v * own[k]) if isinstance(v, float) else v for k, v in LIMITS[limits].items()}
    return MorphSpace(seed, MORPHISMS, max_morphisms=12, **values)


@pytest.mark.parametrize("n_applications", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_random_applications_are_valid_and_within_the_limits(n_applications: int) -> None:
    rng = np.random.default_rng(n_applications)
    spaces = [space_within(seed, limits) for seed in (*seeds().values(), *HAND_MADE.values()) for limits in LIMITS]
    done: Counter[str] = Counter()
    fits_nowhere = 0
    while sum(done.values()) < n_applications:
        space = spaces[int(rng.integers(len(spaces)))]
        architecture = space.seed
        steps = []
        for _ in range(int(rng.integers(1, space.max_morphisms + 1))):
            morphism = space.morphisms[int(rng.integers(len(space.morphisms)))]
            found = space.nearest(architecture, morphism, float(rng.random()))
            if found is None:
                fits_nowhere += 1
                continue
            step, architecture = found
            steps.append(step)
            done[morphism.morphism_name] += 1
            assert Architecture.from_json(architecture.to_json()) == architecture
            assert len(architecture.nodes) <= space.max_nodes
            assert architecture.n_parameters <= space.max_parameters
            assert architecture.flops <= space.max_flops
            assert architecture.specs[architecture.output] == space.seed.specs[space.seed.output]
        assert space.replay(steps) == architecture
    assert set(done) == set(BY_NAME) - NOT_EXACT
    assert fits_nowhere > 0
