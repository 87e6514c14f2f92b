"""Insert a layer that starts as the identity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture, Node
from optuna_nas_morph.ir.ops import ACTIVATIONS, Activation, Conv, Linear
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights
from optuna_nas_morph.morphisms.blocks import block_end_refusal, block_ends, kernel_of, layer_stem, mixing_layer
from optuna_nas_morph.morphisms.tensors import extend, identity_kernel


@dataclass(frozen=True)
class Deepen(Morphism):
    """Insert a convolution (maps) or linear layer (vectors, tokens) that starts as the identity.

    - ``activation="linear"``: one identity layer (Net2DeeperNet, Chen et al., 2016, section 2.3).
    - ``activation="relu"`` where the tensor is never negative: identity layer, then ReLU, which changes nothing there.
    - Anywhere else, and for every function with ``f(h) - f(-h) = s * h``: a layer ``[I; -I]`` of twice the width, the
      activation, and a layer ``[I, -I] / s`` back. That holds for ReLU, leaky ReLU (``s = 1 + slope``), GELU, SiLU,
      hardswish and softplus (where PyTorch's threshold at 20 costs up to 2e-9). It is refused for tanh and sigmoids.

    Exact in eval and train mode. A site is the node behind which the layer goes.

    Args:
        activation:
            ``"linear"`` or the name of an activation.
        kernel_size:
            Odd size of the convolution.
    """

    morphism_name: ClassVar[str] = "deepen"

    activation: str = "relu"
    kernel_size: int = 3

    def __post_init__(self) -> None:
        if self.activation not in ("linear", *ACTIVATIONS):
            raise MorphismError(f"activation must be 'linear' or one of {ACTIVATIONS} but got {self.activation!r}.")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise MorphismError(f"kernel_size must be odd and positive but got {self.kernel_size!r}.")

    def candidates(self, architecture: Architecture) -> Iterable[Site]:
        return ((name,) for name in block_ends(architecture))

    def refusal(self, architecture: Architecture, site: Site) -> str | None:
        if len(site) != 1:
            return "a site is one node"
        if self.activation != "linear" and Activation(self.activation).odd_slope is None:
            return f"{self.activation}(h) - {self.activation}(-h) is no multiple of h"
        return block_end_refusal(architecture, site[0])

    def _apply(self, architecture: Architecture, site: Site) -> Architecture:
        (end,) = site
        spec = architecture.specs[end]
        width = spec.n_channels
        first = mixing_layer(spec, self._n_halves(architecture, end) * width, self.kernel_size)
        stem = layer_stem(first)
        names = architecture.fresh_names(stem, self.activation, f"{stem}_out")
        nodes = [Node(names[0], first, (end,))]
        if self.activation != "linear":
            nodes.append(Node(names[1], Activation(self.activation), (names[0],)))
        if self._n_halves(architecture, end) == 2:
            nodes.append(Node(names[2], mixing_layer(spec, width, 1), (names[1],)))
        return architecture.insert(end, nodes)

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        (end,) = site
        width = parent.specs[end].n_channels
        new: dict[str, Tensor] = {}
        added = [n for n in child.nodes if n.name not in parent.index and isinstance(n.op, Conv | Linear)]
        kernels = [kernel_of(n.op) for n in added if isinstance(n.op, Conv | Linear)]
        identity = identity_kernel(width, width, kernels[0])
        if len(added) == 1:
            new[f"{added[0].name}.weight"] = identity
        else:
            slope = Activation(self.activation).odd_slope
            assert slope is not None
            back = identity_kernel(width, width, kernels[1])
            new[f"{added[0].name}.weight"] = torch.cat([identity, -identity])
            new[f"{added[1].name}.weight"] = torch.cat([back, -back], dim=1) / slope
        for node in added:
            new[f"{node.name}.bias"] = torch.zeros(child.specs[node.name].n_channels)
        return extend(child, weights, new, rng)

    def _n_halves(self, architecture: Architecture, end: str) -> int:
        """1 where one identity layer does, 2 where the positive and the negative half go separately."""
        idempotent = self.activation == "relu" and end in architecture.nonnegative
        return 1 if self.activation == "linear" or idempotent else 2
