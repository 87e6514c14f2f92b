"""Insert a batch norm that starts as the identity of eval mode."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from optuna_nas_morph.ir import Architecture, Node
from optuna_nas_morph.ir.ops import BatchNorm, Conv, DepthwiseConv, LayerNorm, Linear
from optuna_nas_morph.morphisms.base import Morphism, Site, Weights
from optuna_nas_morph.morphisms.tensors import extend


@dataclass(frozen=True)
class InsertBatchNorm(Morphism):
    """Insert batch norm behind a convolution or a linear layer (Ioffe and Szegedy, 2015).

    Its running mean is 0, its running variance 1 and its scale ``sqrt(1 + eps)``: the identity in eval mode. In train
    mode it normalises, which changes the function, until it is calibrated: with the statistics of data as running
    ones, ``scale = sqrt(variance + eps)`` and ``shift = mean`` it stays the identity in eval mode, and is nearly that
    in train mode on batches of the same data. `suggest_network` does so where it is given a ``probe``.

    A site is the layer. Refused behind the network's output, and where a norm follows.
    """

    morphism_name: ClassVar[str] = "insert_batch_norm"

    @property
    def exact_train(self) -> bool:
        return False

    def candidates(self, architecture: Architecture) -> Iterable[Site]:
        return ((n.name,) for n in architecture.nodes if isinstance(n.op, Conv | DepthwiseConv | Linear))

    def refusal(self, architecture: Architecture, site: Site) -> str | None:
        if len(site) != 1 or site[0] not in architecture.index:
            return "a site is one node"
        (name,) = site
        if not isinstance(architecture[name].op, Conv | DepthwiseConv | Linear):
            return "there is no convolution or linear layer"
        if name == architecture.output:
            return "nothing is inserted behind the network's output"
        spec = architecture.specs[name]
        if spec.channel_axis != 0 or len(spec.spatial) > 3:
            return "batch norm takes channels first, and at most three more axes"
        if any(isinstance(architecture[c].op, BatchNorm | LayerNorm) for c in architecture.consumers[name]):
            return "a norm follows already"
        return None

    def uncalibrated(self, parent: Architecture, child: Architecture) -> tuple[str, ...]:
        return tuple(n.name for n in child.nodes if n.name not in parent.index)

    def _apply(self, architecture: Architecture, site: Site) -> Architecture:
        (name,) = architecture.fresh_names("bn")
        return architecture.insert(site[0], [Node(name, BatchNorm(), site)])

    def transfer(
        self, parent: Architecture, child: Architecture, site: Site, weights: Weights, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        (name,) = self.uncalibrated(parent, child)
        scale = torch.full((parent.specs[site[0]].n_channels,), math.sqrt(1 + BatchNorm().eps), dtype=torch.float64)
        return extend(child, weights, {f"{name}.weight": scale}, rng)
