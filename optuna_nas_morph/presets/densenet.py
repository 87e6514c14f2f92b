"""Densely connected networks."""

from __future__ import annotations

from collections.abc import Sequence

from optuna_nas_morph.ir.ops import Concat, Pool
from optuna_nas_morph.morphisms import (
    Branch,
    ConcatSkip,
    Deepen,
    GrowKernel,
    InsertSqueezeExcite,
    Morphism,
    Widen,
)
from optuna_nas_morph.presets.builder import Builder
from optuna_nas_morph.presets.checks import depths, map_shape, positive
from optuna_nas_morph.presets.limits import N_MORPHISMS, grown_from
from optuna_nas_morph.spaces import MorphSpace

SMALLEST = 4
"""Pixels that the smaller side keeps."""
LARGE = 64
"""Pixels that the smaller side has at most behind the first convolution."""
MORPHISMS: tuple[Morphism, ...] = (
    ConcatSkip(),
    Widen(1.5),
    Widen(2.0),
    Deepen("relu", 1),
    Deepen("relu", 3),
    GrowKernel(2),
    InsertSqueezeExcite(),
    Branch("concat"),
)
"""Tensors meet side by side, as everywhere in these networks: no sums. 1x1 convolutions are their bottlenecks."""


def densenet(
    input_shape: Sequence[int],
    n_classes: int,
    *,
    growth_rate: int = 12,
    depth: int | Sequence[int] = 2,
    n_stages: int = 3,
    bottleneck: int | None = None,
    morphisms: Sequence[Morphism] = MORPHISMS,
    max_morphisms: int = N_MORPHISMS,
    max_parameters: int | None = None,
    max_flops: int | None = None,
    max_nodes: int | None = None,
) -> MorphSpace:
    """Networks for images, grown from a small densely connected network.

    The seed follows Huang et al. (2017, section 3): a 3x3 convolution of twice the growth rate with norm and ReLU;
    dense blocks, in which every layer (norm, ReLU, 3x3 convolution) adds ``growth_rate`` channels to those before it;
    between them transitions (norm, ReLU, 1x1 convolution that halves the channels, average pooling); norm, ReLU, global
    average pooling and a linear layer. There is no pooling where the smaller side would fall below 4. Where it is above
    64, their stem for ImageNet takes it down (see `Builder.add_stem`).

    With ``growth_rate=32, depth=(6, 12, 24, 16), n_stages=4, bottleneck=4`` and 224 pixels it is their DenseNet-121.

    Args:
        input_shape:
            ``(channels, height, width)``, height and width at least 4.
        n_classes:
            Outputs, with no function behind them: one per class, per label that holds or does not, or per number to
            predict (see `optuna_nas_morph.presets`).
        growth_rate:
            Channels that each layer adds.
        depth:
            Layers in each dense block; one number for all, or one per dense block.
        n_stages:
            Dense blocks.
        bottleneck:
            Channels over the growth rate of a 1x1 convolution before every 3x3 convolution in a dense block, as in
            their DenseNet-B (4 there); :obj:`None` for no such convolution.
        morphisms:
            What the search may apply.
        max_morphisms:
            Longest chain of morphisms.
        max_parameters:
            Most trained parameters; by default 32 times the seed's, at least 1 million.
        max_flops:
            Most FLOPs of the matrix products for one sample; by default 32 times the seed's, at least 100 million.
        max_nodes:
            Most nodes; by default twice the seed's, at least 200.

    Raises:
        ValueError: If an argument is out of range, or the seed exceeds a limit.
    """
    builder = Builder(map_shape(input_shape, ("height", "width"), SMALLEST))
    n_classes, growth_rate = positive("n_classes", n_classes), positive("growth_rate", growth_rate)
    n_inner = None if bottleneck is None else positive("bottleneck", bottleneck) * growth_rate
    builder.add_stem(2 * growth_rate, 3, LARGE)
    for stage, n_layers in enumerate(depths(depth, positive("n_stages", n_stages))):
        if stage > 0:
            _add_transition(builder)
        for _ in range(n_layers):
            _add_layer(builder, growth_rate, n_inner)
    builder.add_norm_relu()
    seed = builder.finish(n_classes)
    return grown_from(
        seed,
        morphisms,
        max_morphisms=max_morphisms,
        max_parameters=max_parameters,
        max_flops=max_flops,
        max_nodes=max_nodes,
    )


def _add_layer(builder: Builder, growth_rate: int, n_inner: int | None) -> None:
    """Add norm, ReLU and convolution, twice if there is a bottleneck, whose output joins what was there."""
    start = builder.last
    builder.add_norm_relu()
    if n_inner is not None:
        builder.add_conv(n_inner, 1)
        builder.add_norm_relu()
    builder.add(Concat(), start, builder.add_conv(growth_rate, 3))


def _add_transition(builder: Builder) -> None:
    """Add norm, ReLU, a 1x1 convolution that halves the channels, and average pooling."""
    builder.add_norm_relu()
    builder.add_conv(builder.spec.n_channels // 2, 1)
    if builder.can_halve(SMALLEST):
        builder.add(Pool("avg", (2, 2)))
