"""What of networks that people write themselves can grow, and that they stay what they are.

    python -m tests.benchmarks.own_networks

Every network of ``tests/translation/zoo.py`` becomes a space of its own (`MorphSpace.from_module`), with random weights
and running statistics. The seed's outputs are compared with the module's bit by bit, and those of random descendants up
to rounding (largest difference, relative to the largest output). Where the seed differs in the last bit, PyTorch adds
the same numbers in another order: tokens that are a transposed view in the module lie in memory one after the other in
the seed. Networks that cannot be translated say why.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from optuna_nas_morph import MorphSpace, Network
from optuna_nas_morph.errors import TranslationError
from optuna_nas_morph.ir.ops import Opaque
from optuna_nas_morph.spaces import Growth
from optuna_nas_morph.weights.inherit import inherit
from tests.translation.zoo import MIXED, PLAIN, Branching, WithControlFlow, made


@dataclass(frozen=True)
class Kept:
    """A network as a space: its growth, its opaque parts, and largest relative differences of outputs."""

    growth: Growth
    opaque: tuple[str, ...]
    seed_difference: float
    n_morphisms: int
    difference: float


def outputs(module: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        result = copy.deepcopy(module).eval()(x)
    assert isinstance(result, Tensor)
    return result


def difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def keep(name: str, chains: int) -> Kept:
    module, x = made(name)
    space = MorphSpace.from_module(module, x)
    assert space.weights is not None and space.weights.tensors is not None and space.growth is not None
    expected = outputs(module, x)
    seed = Network(space.seed)
    seed.load_state_dict(space.weights.tensors)
    worst, n_morphisms, rng = 0.0, 0, np.random.default_rng(0)
    for _ in range(chains):
        descendant = space.random(rng)
        network = Network(descendant.architecture)
        network.load_state_dict(inherit(space, descendant.steps, 0, space.weights.tensors, rng))
        worst = max(worst, difference(outputs(network, x), expected))
        n_morphisms += len(descendant.steps)
    opaque = tuple(node.op.kind for node in space.seed.nodes if isinstance(node.op, Opaque))
    return Kept(space.growth, opaque, difference(outputs(seed, x), expected), n_morphisms, worst)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chains", type=int, default=5, help="random descendants of each network")
    chains: int = parser.parse_args(argv).chains
    print("| network | parameters | growable | places | kept as they are | identical | morphisms, difference after |")
    print("|---|---|---|---|---|---|---|")
    for name in (*PLAIN, *MIXED):
        found = keep(name, chains)
        n_parameters = sum(node.n_parameters for node in found.growth.nodes)
        counts = [
            f"{n} x {kind}" if n > 1 else kind
            for kind in dict.fromkeys(found.opaque)
            if (n := found.opaque.count(kind))
        ]
        cells = (
            f"{name} | {n_parameters:,} | {found.growth.share:.0%} | {len(found.growth.places)}",
            ", ".join(counts) or "-",
            f"{found.seed_difference:.1e}" if found.seed_difference else "yes",
            f"{found.n_morphisms}, {found.difference:.1e}",
        )
        print(f"| {' | '.join(cells)} |", flush=True)
    for refused in (Branching(), WithControlFlow()):
        try:
            MorphSpace.from_module(refused, torch.randn(2, 4))
            raise AssertionError(f"{type(refused).__name__} must be refused.")
        except TranslationError as e:
            print(f"\n{type(refused).__name__}: {e}")


if __name__ == "__main__":
    main()
