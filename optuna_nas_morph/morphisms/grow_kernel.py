"""Make the kernel of a convolution larger."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import Conv, DepthwiseConv
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights


@dataclass(frozen=True)
class GrowKernel(Morphism):
    """Put a ring of zeros around the kernel of a convolution, and pad its input accordingly.

    Exact in eval and train mode (Wei et al., 2016, section 3.4). Refused where the kernel would reach further than the
    input is large, or beyond ``max_size``. A site is a convolution.

    Args:
        by:
            Even number of entries that the kernel grows by along every axis.
        max_size:
            Largest kernel size.
    """

    morphism_name: ClassVar[str] = "grow_kernel"

    by: int = 2
    max_size: int = 7

    def __post_init__(self) -> None:
        if self.by < 2 or self.by % 2:
            raise MorphismError(f"by must be even and positive but got {self.by!r}.")

    def candidates(self, architecture: Architecture) -> Iterable[Site]:
        return ((n.name,) for n in architecture.nodes if isinstance(n.op, Conv | DepthwiseConv))

    def refusal(self, architecture: Architecture, site: Site) -> str | None:
        if len(site) != 1 or site[0] not in architecture.index:
            return "there is no such node"
        node = architecture[site[0]]
        if not isinstance(node.op, Conv | DepthwiseConv):
            return f"{node.op.op_name} has no kernel that can grow"
        window = node.op.window
        sizes = architecture.specs[node.inputs[0]].spatial
        for k, d, n in zip(window.kernel_size, window.dilation, sizes, strict=True):
            if k + self.by > self.max_size:
                return f"its kernel would be larger than max_size={self.max_size}"
            if d * (k + self.by - 1) + 1 > n:
                return f"its kernel would reach further than its input of {n} is large"
        return None

    def _apply(self, architecture: Architecture, site: Site) -> Architecture:
        op = architecture[site[0]].op
        assert isinstance(op, Conv | DepthwiseConv)
        window = op.window
        half = self.by // 2
        return architecture.replace(
            {
                site[0]: replace(
                    op,
                    kernel_size=tuple(k + self.by for k in window.kernel_size),
                    padding=tuple(p + d * half for p, d in zip(window.padding, window.dilation, strict=True)),
                )
            }
        )

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        name = f"{site[0]}.weight"
        rank = weights[name].dim() - 2
        return {**weights, name: F.pad(weights[name], (self.by // 2,) * (2 * rank))}
