"""ConcatSkip: projection(concat(end, start)) with the projection [I, 0] at first."""

from __future__ import annotations

import numpy as np
import torch

from optuna_nas_morph.ir.ops import Concat, Conv
from optuna_nas_morph.morphisms import ConcatSkip
from tests.morphisms.contract import MorphismContract
from tests.morphisms.same_function import random_weights
from tests.morphisms.skips import CHAIN, SkipCases, added


class TestContract(MorphismContract):
    morphisms = (ConcatSkip(),)
    draws = False


class TestCases(SkipCases):
    skip = ConcatSkip()
    reason_again = "there is such a skip already"


def test_the_projection_passes_the_end_on_and_ignores_the_start() -> None:
    site = ("a_relu", "c_relu")
    child = ConcatSkip().apply(CHAIN, site)
    *pools, concat, projection = added(CHAIN, child)
    assert concat.op == Concat() and projection.op == Conv(5, (1, 1))
    assert concat.inputs == ("c_relu", pools[-1].name)
    assert child["d"].inputs == (projection.name,)
    before = random_weights(CHAIN, np.random.default_rng(0))
    after = ConcatSkip().transfer(CHAIN, child, site, before, np.random.default_rng(0))
    expected = torch.cat([torch.eye(5), torch.zeros(5, 4)], dim=1).double()[:, :, None, None]
    assert torch.equal(after[f"{projection.name}.weight"], expected)
    assert not after[f"{projection.name}.bias"].any()
    assert all(after[name] is w for name, w in before.items())
