"""AddSkip: end + projection(start) with the projection 0 at first."""

from __future__ import annotations

import numpy as np

from optuna_nas_morph.ir.ops import Add, Conv
from optuna_nas_morph.morphisms import AddSkip
from tests.morphisms.contract import MorphismContract
from tests.morphisms.same_function import random_weights
from tests.morphisms.skips import CHAIN, SkipCases, added


class TestContract(MorphismContract):
    morphisms = (AddSkip(),)
    draws = False


class TestCases(SkipCases):
    skip = AddSkip()
    reason_again = "end 'b_relu': only a sum follows, which ends the branch"


def test_the_projection_is_zero_and_has_the_width_of_the_end() -> None:
    site = ("a_relu", "c_relu")
    child = AddSkip().apply(CHAIN, site)
    *_, projection, add = added(CHAIN, child)
    assert projection.op == Conv(5, (1, 1)) and add.op == Add()
    assert add.inputs == ("c_relu", projection.name)
    assert child["d"].inputs == (add.name,)
    before = random_weights(CHAIN, np.random.default_rng(0))
    after = AddSkip().transfer(CHAIN, child, site, before, np.random.default_rng(0))
    assert after[f"{projection.name}.weight"].shape == (5, 4, 1, 1)
    assert not after[f"{projection.name}.weight"].any() and not after[f"{projection.name}.bias"].any()
    assert all(after[name] is w for name, w in before.items())
