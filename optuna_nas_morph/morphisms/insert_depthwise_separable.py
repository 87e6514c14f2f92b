"""Insert a depthwise separable convolution that starts as the identity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import ACTIVATIONS, Activation, Conv, DepthwiseConv, Op
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights
from optuna_nas_morph.morphisms.blocks import block_end_refusal, block_ends, chain
from optuna_nas_morph.morphisms.tensors import extend, identity_kernel


@dataclass(frozen=True)
class InsertDepthwiseSeparable(Morphism):
    """Insert a depthwise convolution that starts as a delta and a 1x1 convolution that starts as the identity.

    - ``activation="linear"``: the two (the separable convolution of Chollet, 2017).
    - ``activation="relu"`` where the tensor is never negative: the two, then ReLU, which changes nothing there.
    - Anywhere else, and for every function with ``f(h) - f(-h) = s * h``: the depthwise convolution makes ``h`` and
      ``-h`` of every channel, the activation follows, and the 1x1 convolution takes ``(f(h) - f(-h)) / s`` (see
      `Deepen`, also for what is refused).

    Exact in eval and train mode. A site is the node behind which the layers go; vectors and tokens have none.

    Args:
        activation:
            ``"linear"`` or the name of an activation.
        kernel_size:
            Odd size of the depthwise convolution.
    """

    morphism_name: ClassVar[str] = "insert_depthwise_separable"

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
        reason = block_end_refusal(architecture, site[0])
        if reason is not None:
            return reason
        spec = architecture.specs[site[0]]
        return "there are no maps to convolve" if spec.channel_axis != 0 or not spec.spatial else None

    def _apply(self, architecture: Architecture, site: Site) -> Architecture:
        (end,) = site
        spec = architecture.specs[end]
        kernel = tuple(self.kernel_size if n > 1 else 1 for n in spec.spatial)
        padding = tuple(k // 2 for k in kernel)
        n_halves = self._n_halves(architecture, end)
        depthwise, act, point = architecture.fresh_names("depthwise", self.activation, "pointwise")
        body: list[tuple[str, Op]] = [
            (depthwise, DepthwiseConv(kernel, padding=padding, multiplier=n_halves)),
            (point, Conv(spec.n_channels, (1,) * len(kernel))),
        ]
        if self.activation != "linear":
            body.insert(1 if n_halves == 2 else 2, (act, Activation(self.activation)))
        return architecture.insert(end, chain(end, body))

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        (end,) = site
        added = [n for n in child.nodes if n.name not in parent.index]
        (depthwise,) = (n for n in added if isinstance(n.op, DepthwiseConv))
        (point,) = (n for n in added if isinstance(n.op, Conv))
        n_outputs, _, *kernel = child.params[f"{depthwise.name}.weight"].shape
        delta = identity_kernel(1, 1, tuple(kernel)).repeat(n_outputs, *[1] * (1 + len(kernel)))
        width = parent.specs[end].n_channels
        identity = identity_kernel(width, width, (1,) * len(parent.specs[end].spatial))
        if self._n_halves(parent, end) == 2:
            slope = Activation(self.activation).odd_slope
            assert slope is not None
            delta[1::2] *= -1
            identity = torch.stack([identity, -identity], dim=2).flatten(1, 2) / slope
        new = {
            f"{depthwise.name}.weight": delta,
            f"{depthwise.name}.bias": torch.zeros(len(delta)),
            f"{point.name}.weight": identity,
            f"{point.name}.bias": torch.zeros(width),
        }
        return extend(child, weights, new, rng)

    def _n_halves(self, architecture: Architecture, end: str) -> int:
        """1 where a channel passes as it is, 2 where its positive and negative half go separately."""
        idempotent = self.activation == "relu" and end in architecture.nonnegative
        return 1 if self.activation == "linear" or idempotent else 2
