"""Insert an inverted residual that starts as the identity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture, Node, TensorSpec
from optuna_nas_morph.ir.ops import (
    ACTIVATIONS,
    Activation,
    Add,
    BatchNorm,
    Conv,
    DepthwiseConv,
    LayerNorm,
    LayerScale,
    Op,
)
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights
from optuna_nas_morph.morphisms.blocks import block_end_refusal, block_ends, chain
from optuna_nas_morph.morphisms.tensors import extend

NORMS = ("batch", "layer")


@dataclass(frozen=True)
class InsertInvertedResidual(Morphism):
    """Insert ``x + f(x)``, where ``f`` is wide within, filters each channel by itself, and starts as 0.

    - ``norm="batch"``: 1x1 convolution that expands, norm, activation, depthwise convolution, norm, activation, 1x1
      convolution that projects, norm (MobileNetV2: Sandler et al., 2018, section 3.3). The last norm starts with scale
      and shift 0.
    - ``norm="layer"``: depthwise convolution, layer norm, 1x1 convolution that expands, activation, 1x1 convolution
      that projects, a factor per channel (ConvNeXt: Liu et al., 2022, section 2). The factors start at 0.

    Nothing follows the sum. Exact in eval and train mode. A site is the node behind which the block goes; vectors and
    tokens have none.

    Args:
        kernel_size:
            Odd size of the depthwise convolution.
        expansion:
            Channels within over those of the tensor.
        activation:
            Name of the activation.
        norm:
            ``"batch"`` or ``"layer"``.
    """

    morphism_name: ClassVar[str] = "insert_inverted_residual"

    kernel_size: int = 3
    expansion: int = 4
    activation: str = "hardswish"
    norm: str = "batch"

    def __post_init__(self) -> None:
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise MorphismError(f"kernel_size must be odd and positive but got {self.kernel_size!r}.")
        if self.expansion < 1:
            raise MorphismError(f"expansion must be a positive integer but got {self.expansion!r}.")
        if self.activation not in ACTIVATIONS:
            raise MorphismError(f"activation must be one of {ACTIVATIONS} but got {self.activation!r}.")
        if self.norm not in NORMS:
            raise MorphismError(f"norm must be one of {NORMS} but got {self.norm!r}.")

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
            return "there are no maps to filter"
        return None

    def _apply(self, architecture: Architecture, site: Site) -> Architecture:
        (end,) = site
        body = self._body(architecture.specs[end])
        *names, add = architecture.fresh_names(*(name for name, _ in body), "add")
        nodes = chain(end, zip(names, (op for _, op in body), strict=True))
        return architecture.insert(end, [*nodes, Node(add, Add(), (end, nodes[-1].name))])

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        (add,) = (n for n in child.nodes if n.name not in parent.index and isinstance(n.op, Add))
        keys = [f"{add.inputs[1]}.{name}" for name in ("weight", "bias")]
        new = {key: torch.zeros(child.params[key].shape) for key in keys if key in child.params}
        return extend(child, weights, new, rng)

    def _body(self, spec: TensorSpec) -> list[tuple[str, Op]]:
        """The layers of ``f`` with the stems of their names."""
        rank, width = len(spec.spatial), self.expansion * spec.n_channels
        # Where a size is 1, more than 1 would only ever multiply padding.
        kernel_size = tuple(self.kernel_size if n > 1 else 1 for n in spec.spatial)
        activation = Activation(self.activation)
        if self.norm == "layer":
            return [
                ("depthwise", DepthwiseConv.same(rank, kernel_size)),
                ("norm", LayerNorm()),
                ("expand", Conv.same(rank, width, 1)),
                (self.activation, activation),
                ("project", Conv.same(rank, spec.n_channels, 1)),
                ("layer_scale", LayerScale()),
            ]
        return [
            ("expand", Conv.same(rank, width, 1, bias=False)),
            ("norm_a", BatchNorm()),
            (f"{self.activation}_a", activation),
            ("depthwise", DepthwiseConv.same(rank, kernel_size, bias=False)),
            ("norm_b", BatchNorm()),
            (f"{self.activation}_b", activation),
            ("project", Conv.same(rank, spec.n_channels, 1, bias=False)),
            ("norm_c", BatchNorm()),
        ]
