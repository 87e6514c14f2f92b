"""Insert a residual block that starts as the identity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture, Node
from optuna_nas_morph.ir.ops import ACTIVATIONS, Activation, Add
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights
from optuna_nas_morph.morphisms.blocks import block_end_refusal, block_ends, chain, layer_stem, mixing_layer, norm_layer
from optuna_nas_morph.morphisms.tensors import extend


@dataclass(frozen=True)
class InsertResidualBlock(Morphism):
    """Insert ``x + f(x)`` with ``f = norm(layer(act(norm(layer(x)))))``, where ``f`` starts as 0.

    The last norm starts with scale and shift 0 (Goyal et al., 2017, section 5.1); without norms the last layer starts
    at 0. With ReLU, and where the tensor is never negative, a ReLU follows the sum, as in the blocks of He et al.
    (2016); anywhere else it would change the function and is left out.

    Exact in eval and train mode. A site is the node behind which the block goes.

    Args:
        kernel_size:
            Odd size of the convolutions.
        activation:
            Name of the activation.
        norm:
            Whether there are norms: batch norm, or layer norm for tokens.
    """

    morphism_name: ClassVar[str] = "insert_residual_block"

    kernel_size: int = 3
    activation: str = "relu"
    norm: bool = True

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise MorphismError(f"activation must be one of {ACTIVATIONS} but got {self.activation!r}.")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise MorphismError(f"kernel_size must be odd and positive but got {self.kernel_size!r}.")

    def candidates(self, architecture: Architecture) -> Iterable[Site]:
        return ((name,) for name in block_ends(architecture))

    def refusal(self, architecture: Architecture, site: Site) -> str | None:
        return block_end_refusal(architecture, site[0]) if len(site) == 1 else "a site is one node"

    def _apply(self, architecture: Architecture, site: Site) -> Architecture:
        (end,) = site
        spec = architecture.specs[end]
        layer, activation = mixing_layer(spec, spec.n_channels, self.kernel_size), Activation(self.activation)
        stem = layer_stem(layer)
        layer_1, norm_1, act, layer_2, norm_2, add, act_2 = architecture.fresh_names(
            f"{stem}_a", "norm_a", self.activation, f"{stem}_b", "norm_b", "add", f"{self.activation}_out"
        )
        body = [(layer_1, layer), (norm_1, norm_layer(spec)), (act, activation), (layer_2, layer)]
        body.append((norm_2, norm_layer(spec)))
        if not self.norm:
            body = [(name, op) for name, op in body if name not in (norm_1, norm_2)]
        nodes = chain(end, body)
        nodes.append(Node(add, Add(), (end, nodes[-1].name)))
        if self.activation == "relu" and end in architecture.nonnegative:
            nodes.append(Node(act_2, activation, (add,)))
        return architecture.insert(end, nodes)

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        (add,) = (n for n in child.nodes if n.name not in parent.index and isinstance(n.op, Add))
        last = add.inputs[1]
        new = {f"{last}.{name}": torch.zeros(child.params[f"{last}.{name}"].shape) for name in ("weight", "bias")}
        return extend(child, weights, new, rng)
