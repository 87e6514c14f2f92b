"""The catalogue: every morphism keeps what it says it keeps on every preset, also after training."""

from __future__ import annotations

import numpy as np
import pytest
from torch import Tensor

from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.morphisms import MORPHISMS as BY_NAME
from optuna_nas_morph.morphisms import Site, Weights, Widen
from tests.morphisms.catalogue import SHRINKS, Cell, anonymous, fill, lines_of, parents, table
from tests.morphisms.chains import MORPHISMS, seeds


@pytest.mark.parametrize(("n_ancestors", "n_sites"), [(1, 1), pytest.param(6, 4, marks=pytest.mark.slow)])
def test_no_morphism_moves_what_it_claims_to_keep(n_ancestors: int, n_sites: int) -> None:
    cells = table(seeds(), n_ancestors=n_ancestors, n_sites=n_sites)
    violations = [line for cell in cells.values() for line in cell.violations]
    assert violations == [], "\n".join(lines_of(cells))
    assert {m.morphism_name for m in (*MORPHISMS, *SHRINKS)} == set(BY_NAME)
    applied = {str(m): sum(cells[str(m), name].applied for name in seeds()) for m in (*MORPHISMS, *SHRINKS)}
    if n_ancestors > 1:  # some need what only a few ancestors have
        assert not [name for name, n in applied.items() if n == 0]
    shrunk = [cells[str(m), name].worst for m in SHRINKS if not m.exact for name in seeds()]
    assert max(worst.get(("float64", False), 0) for worst in shrunk) > 0.1


def test_what_moves_the_function_is_found() -> None:
    class Careless(Widen):
        def transfer(
            self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
        ) -> dict[str, Tensor]:
            result = super().transfer(parent, child, site, weights, rng)
            return {n: w * (1 + 1e-3) if w.is_floating_point() else w for n, w in result.items()}

    ((parent, trained),) = parents(seeds()["mlp"], 0, np.random.default_rng(0))
    cell, right = Cell(), Cell()
    fill(cell, Careless(2.0), parent, trained, n_sites=1)
    fill(right, Widen(2.0), parent, trained, n_sites=1)
    assert len(cell.violations) == 4
    assert right.violations == []
    assert (right.tried, right.applied) == (4, 2)
    assert right.refused == {"its width is tied to network input X": 1, "its width is tied to network output X": 1}


def test_reasons_are_without_names() -> None:
    assert anonymous("'conv_1' and 'a' reach further than 12") == "X and X reach further than N"
