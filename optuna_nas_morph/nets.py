"""From an architecture to a PyTorch module whose parameters are named by node."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import Layer


class Network(nn.Module):
    """The network of an architecture.

    The layer of a node is an attribute of the node's name, so that ``state_dict()`` has exactly the keys of
    `Architecture.params`: ``<node>.<parameter>``.

    Args:
        architecture:
            What to build.

    Raises:
        ArchitectureError: If a node has the name of an attribute of ``torch.nn.Module``, or is an opaque part of a
            user's network whose module is not at hand.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self._last_use = _last_uses(architecture)
        for node in architecture.nodes:
            if hasattr(self, node.name):
                raise ArchitectureError(
                    f"node {node.name!r}: the name is an attribute of torch.nn.Module; rename the node."
                )
            if node.inputs:
                try:
                    layer = node.op.layer(architecture.input_specs(node.name))
                except ArchitectureError as e:
                    raise ArchitectureError(f"node {node.name!r}: {e}") from None
                self.add_module(node.name, build_layer(layer))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute the output for inputs in the order of `Architecture.inputs`, each with a batch dimension first."""
        names = self.architecture.inputs
        if len(inputs) != len(names):
            raise TypeError(f"forward takes {len(names)} inputs, {', '.join(names)}, but got {len(inputs)}.")
        values: dict[str, Tensor] = dict(zip(names, inputs, strict=True))
        for node in self.architecture.nodes:
            if node.inputs:
                layer = self.get_submodule(node.name)
                values[node.name] = layer(*(values[name] for name in node.inputs))
                for name in self._last_use[node.name]:
                    del values[name]
        return values[self.architecture.output]


def build_layer(layer: Layer) -> nn.Module:
    """Make the module that a `Layer` names: one of this file, else one of ``torch.nn``, or a copy of a user's own."""
    if layer.name == "Opaque":
        own: nn.Module = copy.deepcopy(layer.arguments["module"])
        return own.train()
    cls: type[nn.Module] = _LAYERS.get(layer.name) or getattr(nn, layer.name)
    return cls(**layer.arguments)


def example_inputs(
    architecture: Architecture, batch_size: int, device: torch.device | str = "cpu"
) -> tuple[Tensor, ...]:
    """A batch that a network of the architecture takes: standard normal noise, and the token id 0."""
    generator = torch.Generator().manual_seed(0)
    specs = [architecture.specs[name] for name in architecture.inputs]
    return tuple(
        torch.randn(batch_size, *spec.shape, generator=generator).to(device)
        if spec.dtype == "float32"
        else torch.zeros(batch_size, *spec.shape, dtype=torch.int64, device=device)
        for spec in specs
    )


# Networks within wrappers.


def unwrapped(network: nn.Module) -> Network:
    """The network within ``DataParallel``, ``DistributedDataParallel`` or ``torch.compile``, or the network itself.

    Raises:
        TypeError: If there is none.
    """
    inner: object = network
    while not isinstance(inner, Network):
        inner = getattr(inner, "_orig_mod", None) or getattr(inner, "module", None)
        if inner is None:
            raise TypeError(f"network must be a Network, wrapped or not, but got {type(network).__name__}.")
    return inner


def _last_uses(architecture: Architecture) -> dict[str, tuple[str, ...]]:
    """Per node, the values that nothing after it reads, so that they can be freed."""
    last = {name: consumers[-1] for name, consumers in architecture.consumers.items() if consumers}
    result: dict[str, list[str]] = {node.name: [] for node in architecture.nodes}
    for name, consumer in last.items():
        result[consumer].append(name)
    return {name: tuple(names) for name, names in result.items()}


# Layers that torch.nn has no module for. Their outputs are contiguous, as those of all others: the next layer makes no
# copy, and what autograd saves is known beforehand (`Op.saved`).


class Add(nn.Module):
    """Sum of its inputs."""

    def forward(self, *inputs: Tensor) -> Tensor:
        total = inputs[0]
        for x in inputs[1:]:
            total = total + x
        return total


class Multiply(nn.Module):
    """Product of its inputs."""

    def forward(self, *inputs: Tensor) -> Tensor:
        product = inputs[0]
        for x in inputs[1:]:
            product = product * x
        return product


class Scale(nn.Module):
    """Product with a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor

    def extra_repr(self) -> str:
        return f"{self.factor}"


class LayerScale(nn.Module):
    """Product with a trained factor per channel (Touvron et al., 2021, section 2)."""

    def __init__(self, n_channels: int, n_axes_behind: int, initial: float) -> None:
        super().__init__()
        self.shape = (n_channels,) + (1,) * n_axes_behind
        self.weight = nn.Parameter(torch.full((n_channels,), initial))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.view(self.shape)

    def extra_repr(self) -> str:
        return f"n_channels={len(self.weight)}"


class ParametricActivation(nn.Module):
    """(1 - a) x + a f(x) with a trained a per channel (Wei et al., 2016, section 3.3)."""

    def __init__(self, function: str, n_channels: int, n_axes_behind: int) -> None:
        super().__init__()
        self.function = function
        self.shape = (n_channels,) + (1,) * n_axes_behind
        self.weight = nn.Parameter(torch.ones(n_channels))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = getattr(F, self.function)(x)
        return x + self.weight.view(self.shape) * (y - x)

    def extra_repr(self) -> str:
        return f"{self.function}, n_channels={len(self.weight)}"


class Concat(nn.Module):
    """Concatenation along an axis."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, dim=self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class GlobalPool(nn.Module):
    """Maximum or average over axes."""

    def __init__(self, kind: str, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.kind, self.dims = kind, dims

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(self.dims) if self.kind == "avg" else x.amax(self.dims)

    def extra_repr(self) -> str:
        return f"{self.kind}, dims={self.dims}"


class ToTokens(nn.Module):
    """From ``(N, C, *sizes)`` to ``(N, positions, C)``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2).contiguous()


class ChannelsFirstLayerNorm(nn.LayerNorm):
    """Layer norm over axis 1."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1).contiguous()


class ColumnEmbedding(nn.Embedding):
    """Embedding of one column of integers (Guo and Berkhahn, 2016, section 3)."""

    def __init__(self, column: int, num_embeddings: int, embedding_dim: int) -> None:
        super().__init__(num_embeddings, embedding_dim)
        self.column = column

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, self.column])

    def extra_repr(self) -> str:
        return f"column={self.column}, {super().extra_repr()}"


class PatchEmbedding1d(nn.Conv1d):
    """Linear embedding of non-overlapping pieces of a series."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).transpose(1, 2).contiguous()


class PatchEmbedding2d(nn.Conv2d):
    """Linear embedding of non-overlapping patches of an image."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flatten(2).transpose(1, 2).contiguous()


class PatchEmbedding3d(nn.Conv3d):
    """Linear embedding of non-overlapping blocks of a volume."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flatten(2).transpose(1, 2).contiguous()


class PositionEmbedding(nn.Module):
    """Adds a learned vector per position."""

    def __init__(self, n_positions: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_positions, features))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight


class SelfAttention(nn.Module):
    """Scaled dot-product self-attention (Vaswani et al., 2017, section 3.2.2)."""

    def __init__(self, in_features: int, n_heads: int, head_dim: int, out_features: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        inner = n_heads * head_dim
        self.query = nn.Linear(in_features, inner)
        self.key = nn.Linear(in_features, inner)
        self.value = nn.Linear(in_features, inner)
        self.out = nn.Linear(inner, out_features)

    def forward(self, x: Tensor) -> Tensor:
        def heads(t: Tensor) -> Tensor:
            return t.reshape(*t.shape[:2], self.n_heads, -1).transpose(1, 2)  # (N, heads, T, head_dim)

        y = F.scaled_dot_product_attention(heads(self.query(x)), heads(self.key(x)), heads(self.value(x)))
        result: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return result

    def extra_repr(self) -> str:
        return f"n_heads={self.n_heads}"


_LAYERS: dict[str, Any] = {
    cls.__name__: cls
    for cls in (
        Add,
        ChannelsFirstLayerNorm,
        ColumnEmbedding,
        Concat,
        GlobalPool,
        LayerScale,
        Multiply,
        ParametricActivation,
        PatchEmbedding1d,
        PatchEmbedding2d,
        PatchEmbedding3d,
        PositionEmbedding,
        Scale,
        SelfAttention,
        ToTokens,
    )
}
