"""Transformers that read tokens."""

from __future__ import annotations

from collections.abc import Sequence

from optuna_nas_morph.ir.ops import LayerNorm, PositionEmbedding, RMSNorm, TokenEmbedding
from optuna_nas_morph.morphisms import Morphism
from optuna_nas_morph.presets.builder import Builder
from optuna_nas_morph.presets.checks import positive, tokens_shape
from optuna_nas_morph.presets.limits import N_MORPHISMS, grown_from
from optuna_nas_morph.presets.transformer import MORPHISMS, add_blocks
from optuna_nas_morph.spaces import MorphSpace

NORMS: dict[str, LayerNorm | RMSNorm] = {"layer": LayerNorm(), "rms": RMSNorm()}


def text_transformer(
    input_shape: Sequence[int],
    n_classes: int,
    *,
    n_tokens: int,
    width: int = 32,
    depth: int = 2,
    n_heads: int = 4,
    expansion: int = 4,
    norm: str = "layer",
    morphisms: Sequence[Morphism] = MORPHISMS,
    max_morphisms: int = N_MORPHISMS,
    max_parameters: int | None = None,
    max_flops: int | None = None,
    max_nodes: int | None = None,
) -> MorphSpace:
    """Networks for texts and other sequences of tokens, grown from a small transformer encoder.

    The seed looks up a vector for each token and adds one for its position, both learned; pre-norm blocks of
    self-attention (Vaswani et al., 2017, section 3) and feed-forward with GELU follow, a norm, the average over all
    positions, and a linear layer. Every position counts, also those that a shorter text is padded with: give padding an
    id of its own.

    Args:
        input_shape:
            ``(length,)``: the network takes ``int64`` of shape ``(batch, length)``.
        n_classes:
            Outputs, with no function behind them: one per class, per label that holds or does not, or per number to
            predict (see `optuna_nas_morph.presets`).
        n_tokens:
            Size of the vocabulary; ids are below it.
        width:
            Numbers per token, between blocks.
        depth:
            Blocks.
        n_heads:
            Heads of each attention; each as wide as a token over their number, at least 1.
        expansion:
            Width of the feed-forward over that of a token.
        norm:
            ``"layer"`` for layer norms, or ``"rms"`` for root mean square norms (Zhang and Sennrich, 2019).
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
    builder = Builder(tokens_shape(input_shape), dtype="int64")
    n_classes, n_tokens = positive("n_classes", n_classes), positive("n_tokens", n_tokens)
    width, depth = positive("width", width), positive("depth", depth)
    n_heads, expansion = positive("n_heads", n_heads), positive("expansion", expansion)
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {sorted(NORMS)} but got {norm!r}.")
    builder.add(TokenEmbedding(n_tokens, width))
    builder.add(PositionEmbedding())
    add_blocks(builder, NORMS[norm], depth=depth, n_heads=n_heads, expansion=expansion)
    seed = builder.finish(n_classes)
    return grown_from(
        seed,
        morphisms,
        max_morphisms=max_morphisms,
        max_parameters=max_parameters,
        max_flops=max_flops,
        max_nodes=max_nodes,
    )
