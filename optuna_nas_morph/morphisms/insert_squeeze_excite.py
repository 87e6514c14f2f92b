"""Insert a gate per channel that starts as 1."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture, Node
from optuna_nas_morph.ir.ops import Activation, AdaptivePool, Conv, Multiply, Scale
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights
from optuna_nas_morph.morphisms.blocks import block_end_refusal, block_ends, chain
from optuna_nas_morph.morphisms.tensors import extend

GATES = ("sigmoid", "hardsigmoid")


@dataclass(frozen=True)
class InsertSqueezeExcite(Morphism):
    """Multiply a map by ``2 g(expand(silu(reduce(mean(x)))))``, where the last layer starts at 0 and the gate at 1.

    Squeeze-and-excitation (Hu et al., 2018, section 3) with SiLU between its layers, as in EfficientNet (Tan and Le,
    2019); the factor 2 is what lets a sigmoid start as 1. Exact in eval and train mode. A site is the node behind which
    the gate goes; vectors and tokens have none.

    Args:
        reduction:
            Channels over the width between the two layers; that is at least 1.
        gate:
            ``"sigmoid"`` or ``"hardsigmoid"``.
    """

    morphism_name: ClassVar[str] = "insert_squeeze_excite"

    reduction: int = 4
    gate: str = "sigmoid"

    def __post_init__(self) -> None:
        if self.reduction < 1:
            raise MorphismError(f"reduction must be a positive integer but got {self.reduction!r}.")
        if self.gate not in GATES:
            raise MorphismError(f"gate must be one of {GATES} but got {self.gate!r}.")

    def candidates(self, architecture: Architecture) -> Iterable[Site]:
        return ((name,) for name in block_ends(architecture))

    def refusal(self, architecture: Architecture, site: Site) -> str | None:
        if len(site) != 1:
            return "a site is one node"
        reason = block_end_refusal(architecture, site[0])
        if reason is not None:
            return reason
        spec = architecture.specs[site[0]]
        if spec.channel_axis != 0 or not spec.spatial:
            return "there are no maps to take means of"
        if isinstance(architecture[site[0]].op, Multiply):
            return "it is a product already"
        return None

    def _apply(self, architecture: Architecture, site: Site) -> Architecture:
        (end,) = site
        spec = architecture.specs[end]
        point = (1,) * len(spec.spatial)
        *names, product = architecture.fresh_names(
            "squeeze", "reduce", "silu", "expand", "gate", "gate_scale", "excite"
        )
        ops = (
            AdaptivePool(point),
            Conv(max(1, spec.n_channels // self.reduction), point),
            Activation("silu"),
            Conv(spec.n_channels, point),
            Activation(self.gate),
            Scale(2.0),
        )
        gate = chain(end, zip(names, ops, strict=True))
        return architecture.insert(end, [*gate, Node(product, Multiply(), (end, gate[-1].name))])

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        _, expand = (n.name for n in child.nodes if n.name not in parent.index and isinstance(n.op, Conv))
        new = {f"{expand}.{name}": torch.zeros(child.params[f"{expand}.{name}"].shape) for name in ("weight", "bias")}
        return extend(child, weights, new, rng)
