"""Every morphism on every preset: where it was tried, applied and refused, and how far it moves the function.

    python -m tests.morphisms.catalogue --ancestors 3 --sites 3 --seed 0

Per preset the parents are its seed and networks grown from it at random. Their weights and statistics are drawn at
random and trained for some steps, so that no zero hides an error. At each of a number of sites the morphism is applied,
and the outputs of parent and child are compared.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.morphisms import DropBranch, DropLayer, FoldBatchNorm, MakeSeparable, Morphism, PruneChannels
from optuna_nas_morph.spaces import MorphSpace
from tests.morphisms.chains import BOUNDS, MODES, MORPHISMS, claimed, seeds
from tests.morphisms.contract import train
from tests.morphisms.same_function import difference, in_float32, random_weights, rounding

SHRINKS: tuple[Morphism, ...] = (FoldBatchNorm(), DropLayer(), DropBranch(), PruneChannels(), MakeSeparable())
N_STEPS = 20


@dataclass
class Cell:
    """One morphism on the networks of one preset.

    Attributes:
        tried:
            Sites.
        refused:
            How often for which reason, without the names of nodes and numbers in it.
        worst:
            Largest difference by type and mode.
        violations:
            What is above its bound though the morphism claims to keep the function, and more than twice as far off as
            float32 alone puts the parent.
    """

    tried: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    worst: dict[tuple[str, bool], float] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    @property
    def applied(self) -> int:
        return self.tried - self.refused.total()


def parents(seed: Architecture, n: int, rng: np.random.Generator) -> Iterator[tuple[Architecture, dict[str, Tensor]]]:
    """The seed and as many networks grown from it, with trained weights."""
    space = MorphSpace(
        seed, MORPHISMS, 4, max_parameters=4 * seed.n_parameters + 50_000, max_flops=4 * seed.flops + 5_000_000
    )
    for architecture in (seed, *(space.random(rng).architecture for _ in range(n))):
        yield architecture, train(architecture, random_weights(architecture, rng), N_STEPS)


def fill(cell: Cell, morphism: Morphism, parent: Architecture, trained: Mapping[str, Tensor], n_sites: int) -> None:
    """Try a morphism everywhere in a network and compare outputs at some of the sites."""
    given = {"float64": trained, "float32": in_float32(trained)}
    refusals = {site: morphism.refusal(parent, site) for site in morphism.candidates(parent)}
    cell.tried += len(refusals)
    cell.refused.update(anonymous(reason) for reason in refusals.values() if reason is not None)
    sites = [site for site, reason in refusals.items() if reason is None]
    for i in np.unique(np.linspace(0, len(sites) - 1, min(n_sites, len(sites))).round().astype(int)).tolist():
        site = sites[i]
        child = morphism.apply(parent, site)
        for dtype, in_train_mode in MODES:
            weights = given[dtype]
            after = morphism.transfer(parent, child, site, weights, np.random.default_rng(i))
            value = difference(parent, weights, child, after, train=in_train_mode)
            key = dtype, in_train_mode
            cell.worst[key] = max(value, cell.worst.get(key, 0.0))
            if key not in (claimed([morphism]) if morphism.exact else ()) or value <= BOUNDS[dtype]:
                continue
            if dtype == "float64" or value > 2 * rounding(parent, weights, train=in_train_mode):
                cell.violations.append(f"{morphism} at {site}, {dtype}, train={in_train_mode}: {value:.2g}")


def anonymous(reason: str) -> str:
    """A reason without the names of nodes and numbers in it."""
    return re.sub(r"\d+", "N", re.sub(r"'[^']*'", "X", reason))


def table(
    architectures: Mapping[str, Architecture],
    morphisms: Sequence[Morphism] = (*MORPHISMS, *SHRINKS),
    n_ancestors: int = 3,
    n_sites: int = 3,
    seed: int = 0,
) -> dict[tuple[str, str], Cell]:
    """A cell per morphism and preset."""
    cells = {(str(m), name): Cell() for m in morphisms for name in architectures}
    for k, (name, start) in enumerate(architectures.items()):
        for parent, trained in parents(start, n_ancestors, np.random.default_rng([seed, k])):
            for morphism in morphisms:
                fill(cells[str(morphism), name], morphism, parent, trained, n_sites)
    return cells


def lines_of(cells: Mapping[tuple[str, str], Cell]) -> Iterator[str]:
    """The table as text."""
    header = ("morphism", "preset", "tried", "applied", *(f"{d} {'train' if t else 'eval'}" for d, t in MODES))
    yield "{:<36}{:<18}{:>6}{:>8}{:>14}{:>15}{:>14}{:>15}  refused".format(*header)
    for (morphism, name), cell in cells.items():
        values = (f"{cell.worst[mode]:.1e}" if mode in cell.worst else "-" for mode in MODES)
        row = "{:<36}{:<18}{:>6}{:>8}{:>14}{:>15}{:>14}{:>15}".format(morphism, name, cell.tried, cell.applied, *values)
        yield f"{row}  {'; '.join(f'{n} {reason}' for reason, n in cell.refused.most_common())}".rstrip()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ancestors", type=int, default=3, help="networks per preset beside its seed")
    parser.add_argument("--sites", type=int, default=3, help="most sites per network at which outputs are compared")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    cells = table(seeds(), n_ancestors=args.ancestors, n_sites=args.sites, seed=args.seed)
    for line in lines_of(cells):
        print(line)  # noqa: T201
    for cell in cells.values():
        for line in cell.violations:
            print("violation:", line)  # noqa: T201


if __name__ == "__main__":
    main()
