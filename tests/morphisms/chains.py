"""Random chains of morphisms: how far the outputs move.

``python -m tests.morphisms.chains --chains 1000 --seed 0`` prints a table. Before every step all weights and running
statistics are drawn again and the step is checked; beside that one set of weights is carried along the whole chain.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from optuna_nas_morph import presets
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.morphisms import (
    AddHead,
    Branch,
    Deepen,
    Factorize,
    GrowKernel,
    InsertActivation,
    InsertBatchNorm,
    InsertDepthwiseSeparable,
    InsertInvertedResidual,
    InsertResidualBlock,
    InsertSqueezeExcite,
    InsertTransformerBlock,
    MergeBranches,
    Morphism,
    Ungroup,
    Widen,
    WidenHead,
    WidenHidden,
)
from optuna_nas_morph.spaces import DEFAULT_MORPHISMS, MorphSpace
from tests.morphisms.same_function import difference, in_float32, random_weights, rounding

MORPHISMS: tuple[Morphism, ...] = (
    *DEFAULT_MORPHISMS,
    Widen(1.5, "copy"),
    Widen(1.7, "zero"),
    Deepen("linear"),
    Deepen("gelu"),
    Deepen("silu", 1),
    Deepen("leaky_relu", 5),
    Deepen("hardswish"),
    InsertResidualBlock(5, "gelu"),
    InsertResidualBlock(3, "relu", norm=False),
    GrowKernel(4, 9),
    Branch("concat"),
    Branch("add"),
    InsertActivation("silu"),
    InsertBatchNorm(),
    InsertDepthwiseSeparable("relu"),
    InsertDepthwiseSeparable("linear", 5),
    InsertInvertedResidual(),
    InsertInvertedResidual(7, 2, "gelu", "layer"),
    InsertSqueezeExcite(4),
    InsertSqueezeExcite(2, "hardsigmoid"),
    InsertTransformerBlock(2, 2),
    AddHead(),
    WidenHead(),
    WidenHidden(),
    Ungroup(),
    MergeBranches(),
    Factorize(),
)
"""Every morphism, with every choice of its fields that takes another path. Softplus is exact to 2e-9 only."""

MODES = (("float32", False), ("float32", True), ("float64", False), ("float64", True))
BOUNDS = {"float32": 1e-5, "float64": 1e-12}
WHOLE_CHAIN = "whole chain"


def seeds() -> dict[str, Architecture]:
    """Small starting points by preset."""
    image = (3, 8, 8)
    return {
        "mlp": presets.mlp(input_shape=(12,), n_classes=10).seed,
        "table": presets.mlp((4,), n_classes=10, n_categories=(3, 12)).seed,
        "cnn": presets.cnn(image, 10).seed,
        "resnet": presets.resnet(image, 10).seed,
        "densenet": presets.densenet(image, 10).seed,
        "conv1d": presets.conv1d(input_shape=(2, 24), n_classes=10).seed,
        "mobilenet": presets.mobilenet(image, 10, width=8).seed,
        "convnext": presets.convnext(image, 10, width=8).seed,
        "vit": presets.vit(image, 10, patch_size=2, width=8, n_heads=2).seed,
        "text_layer": presets.text_transformer((6,), 10, n_tokens=20, width=8, n_heads=2, depth=1).seed,
        "text_rms": presets.text_transformer((6,), 10, n_tokens=20, width=8, n_heads=2, norm="rms").seed,
    }


@dataclass
class Report:
    """Worst differences, by what was compared: a morphism, or ``whole chain`` with the preset.

    Attributes:
        worst:
            Largest difference by row, type and mode.
        violations:
            What is above its bound.
        rounded:
            What is above the bound, but within twice what float32 alone does to the unchanged parent.
        n:
            Comparisons per row.
    """

    worst: dict[tuple[str, str, bool], float] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    rounded: list[str] = field(default_factory=list)
    n: Counter[str] = field(default_factory=Counter)

    def add(
        self, row: str, dtype: str, train: bool, value: float, where: str, rounding: Callable[[], float] | None = None
    ) -> None:
        """Record one comparison.

        Args:
            row:
                Its row in the table.
            dtype:
                Its type.
            train:
                Its mode.
            value:
                The difference.
            where:
                What was compared.
            rounding:
                Measures how far float32 alone puts the unchanged parent from its own float64 outputs. Twice that is as
                near as two networks in float32 can be asked to be, also where it is above the bound.
        """
        key = (row, dtype, train)
        self.worst[key] = value if not value <= self.worst.get(key, -1.0) else self.worst[key]  # also NaN
        if not value <= BOUNDS[dtype]:
            line = f"{row}, {dtype}, {'train' if train else 'eval'}: {value:.2g} in {where}"
            own = rounding() if rounding is not None else 0.0
            if value <= 2 * own:  # parent and child may each be that far off, to either side
                self.rounded.append(f"{line} (float32 alone puts the unchanged parent {own:.2g} off)")
            else:
                self.violations.append(line)

    def __str__(self) -> str:
        columns = [f"{dtype} {'train' if train else 'eval'}" for dtype, train in MODES]
        lines = [f"{'':<34}{'n':>6}" + "".join(f"{c:>15}" for c in columns)]
        lines += [
            f"{row:<34}{self.n[row]:>6}" + "".join(f"{self._cell((row, *mode)):>15}" for mode in MODES)
            for row in sorted(self.n, key=lambda r: (r.startswith(WHOLE_CHAIN), r))
        ]
        return "\n".join(lines)

    def _cell(self, key: tuple[str, str, bool]) -> str:
        return f"{self.worst[key]:.1e}" if key in self.worst else "-"


def claimed(morphisms: Sequence[Morphism]) -> list[tuple[str, bool]]:
    """Types and modes in which such a chain says that it keeps the function."""
    return [(dtype, train) for dtype, train in MODES if not train or all(m.exact_train for m in morphisms)]


def run_chains(
    architectures: Mapping[str, Architecture],
    n_chains: int,
    seed: int,
    morphisms: Sequence[Morphism] = MORPHISMS,
    max_length: int = 12,
) -> Report:
    """Take random chains of morphisms from each architecture in turn, and compare outputs before and after."""
    report = Report()
    names = list(architectures)
    spaces = {
        name: MorphSpace(a, morphisms, max_parameters=4 * a.n_parameters + 50_000, max_flops=4 * a.flops + 5_000_000)
        for name, a in architectures.items()
    }
    for chain in range(n_chains):
        rng = np.random.default_rng([seed, chain])
        name = names[chain % len(names)]
        space = spaces[name]
        architecture = space.seed
        first = random_weights(architecture, rng)
        start = {"float64": first, "float32": in_float32(first)}
        carried = dict(start)
        steps: list[str] = []
        taken: list[Morphism] = []
        for _ in range(int(rng.integers(1, max_length + 1))):
            morphism = space.morphisms[int(rng.integers(len(space.morphisms)))]
            found = space.nearest(architecture, morphism, float(rng.random()))
            if found is None:
                continue
            step, child = found
            steps.append(str(step))
            fresh = random_weights(architecture, rng)
            before = {"float64": fresh, "float32": in_float32(fresh)}
            draw = int(rng.integers(2**32))
            after = {
                dtype: morphism.transfer(architecture, child, step.site, w, np.random.default_rng(draw))
                for dtype, w in before.items()
            }
            for dtype, train in claimed([morphism]):
                value = difference(architecture, before[dtype], child, after[dtype], train=train, seed=chain)
                where = f"chain {chain} of {name}: {'; '.join(steps)}"
                own = partial(rounding, architecture, before[dtype], train=train, seed=chain)
                report.add(str(morphism), dtype, train, value, where, own if dtype == "float32" else None)
            report.n[str(morphism)] += 1
            carried = {
                dtype: morphism.transfer(architecture, child, step.site, w, np.random.default_rng(draw))
                for dtype, w in carried.items()
            }
            architecture = child
            taken.append(morphism)
        row = f"{WHOLE_CHAIN}, {name}"
        for dtype, train in claimed(taken):
            value = difference(space.seed, start[dtype], architecture, carried[dtype], train=train, seed=chain)
            report.add(row, dtype, train, value, f"chain {chain}: {'; '.join(steps)}")
        report.n[row] += 1
    return report


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chains", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    report = run_chains(seeds(), arguments.chains, arguments.seed)
    print(report)  # noqa: T201
    for line in report.rounded:
        print("rounding:", line)  # noqa: T201
    for line in report.violations:
        print("ABOVE ITS BOUND:", line)  # noqa: T201


if __name__ == "__main__":
    main()
