"""What transformers of any input have in common: blocks, and the morphisms of a search."""

from __future__ import annotations

from optuna_nas_morph.ir.ops import Activation, Add, LayerNorm, Linear, RMSNorm, SelfAttention
from optuna_nas_morph.morphisms import (
    AddHead,
    InsertTransformerBlock,
    Morphism,
    Widen,
    WidenHead,
    WidenHidden,
)
from optuna_nas_morph.presets.builder import Builder

MORPHISMS: tuple[Morphism, ...] = (
    Widen(1.5),
    Widen(2.0),
    WidenHidden(1.5),
    AddHead(),
    WidenHead(1.5),
    InsertTransformerBlock(),
)
"""`Widen` finds the feed-forward; all other widths between blocks are tied by norms, which `WidenHidden` sees to."""


def add_blocks(builder: Builder, norm: LayerNorm | RMSNorm, *, depth: int, n_heads: int, expansion: int) -> None:
    """Add pre-norm blocks (Xiong et al., 2020, section 3.1) and the norm behind the last.

    Args:
        builder:
            Whose last node are tokens.
        norm:
            The norm.
        depth:
            Blocks.
        n_heads:
            Heads of each attention.
        expansion:
            Width of the feed-forward over that of the tokens.
    """
    width = builder.spec.n_channels
    for _ in range(depth):
        start = builder.last
        builder.add(norm)
        builder.add(SelfAttention(n_heads, max(1, width // n_heads), width), stem="attention")
        middle = builder.add(Add(), start, builder.last)
        builder.add(norm)
        builder.add(Linear(expansion * width))
        builder.add(Activation("gelu"))
        builder.add(Linear(width))
        builder.add(Add(), middle, builder.last)
    builder.add(norm)
