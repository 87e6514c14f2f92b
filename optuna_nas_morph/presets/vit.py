"""Vision transformers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from optuna_nas_morph.ir.ops import LayerNorm, PatchEmbedding, PositionEmbedding
from optuna_nas_morph.morphisms import Morphism
from optuna_nas_morph.presets.builder import Builder
from optuna_nas_morph.presets.checks import positive, sampled_shape
from optuna_nas_morph.presets.limits import N_MORPHISMS, grown_from
from optuna_nas_morph.presets.transformer import MORPHISMS, add_blocks
from optuna_nas_morph.spaces import MorphSpace

FEWEST = (7, 4)
"""Patches along the shortest side, by default at least: the first if that leaves more than one value in each."""
LARGEST = 16
"""Size of patches, by default at most."""
EPS = 1e-6
"""Added to the variance in layer norms, as in the code of the paper."""


def vit(
    input_shape: Sequence[int],
    n_classes: int,
    *,
    patch_size: int | None = None,
    width: int = 32,
    depth: int = 2,
    n_heads: int = 4,
    expansion: int = 4,
    morphisms: Sequence[Morphism] = MORPHISMS,
    max_morphisms: int = N_MORPHISMS,
    max_parameters: int | None = None,
    max_flops: int | None = None,
    max_nodes: int | None = None,
) -> MorphSpace:
    """Transformers for images, series and volumes, grown from a small vision transformer.

    The seed follows Dosovitskiy et al. (2021, section 3.1): patches that do not overlap, each a linear function of its
    values; learned positions; pre-norm blocks of self-attention and feed-forward with GELU; layer norm. The average
    over all tokens goes into the last linear layer, instead of a token for the class, which needs no more (Beyer et
    al., 2022, figure 4).

    With 224 pixels, ``width=768, depth=12, n_heads=12`` it is their ViT-B/16 but for that token, with
    ``width=1024, depth=24, n_heads=16`` ViT-L/16.

    Args:
        input_shape:
            ``(channels, length)``, ``(channels, height, width)`` or ``(channels, depth, height, width)``.
        n_classes:
            Outputs, with no function behind them: one per class, per label that holds or does not, or per number to
            predict (see `optuna_nas_morph.presets`).
        patch_size:
            Positions along each axis of a patch; it divides all of them. By default the largest up to 16 that leaves 7
            patches along the shortest side, or 4 if there is none; 1 if there is none of these either.
        width:
            Numbers per token, between blocks.
        depth:
            Blocks.
        n_heads:
            Heads of each attention; each as wide as a token over their number, at least 1.
        expansion:
            Width of the feed-forward over that of a token.
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
    builder = Builder(sampled_shape(input_shape))
    n_classes, width, depth = positive("n_classes", n_classes), positive("width", width), positive("depth", depth)
    n_heads, expansion = positive("n_heads", n_heads), positive("expansion", expansion)
    sizes = builder.spec.spatial
    patch = _patch_size(sizes) if patch_size is None else positive("patch_size", patch_size)
    if math.gcd(*sizes) % patch:
        raise ValueError(f"patch_size must divide the sizes {sizes} of input_shape but got {patch_size!r}.")
    builder.add(PatchEmbedding(width, (patch,) * len(sizes)))
    builder.add(PositionEmbedding())
    add_blocks(builder, LayerNorm(EPS), depth=depth, n_heads=n_heads, expansion=expansion)
    seed = builder.finish(n_classes)
    return grown_from(
        seed,
        morphisms,
        max_morphisms=max_morphisms,
        max_parameters=max_parameters,
        max_flops=max_flops,
        max_nodes=max_nodes,
    )


def _patch_size(sizes: Sequence[int]) -> int:
    """The largest patch that divides all sizes and leaves enough of them; 1 if none does."""
    dividing = [p for p in range(2, LARGEST + 1) if math.gcd(*sizes) % p == 0]
    fitting = (p for fewest in FEWEST for p in reversed(dividing) if min(sizes) // p >= fewest)
    return next(fitting, 1)
