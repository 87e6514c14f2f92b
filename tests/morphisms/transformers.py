"""Transformers beside those that every morphism is checked on."""

from __future__ import annotations

from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import (
    Activation,
    Add,
    Dropout,
    Flatten,
    GlobalPool,
    Input,
    LayerNorm,
    Linear,
    PatchEmbedding,
    PositionEmbedding,
    RMSNorm,
    SelfAttention,
    TokenEmbedding,
)
from tests.morphisms.architectures import graph

Norm = type[LayerNorm] | type[RMSNorm]


def pre_norm(norm: Norm) -> Architecture:
    """Two branches and a last norm, on embedded ids."""
    return graph(
        ("ids", Input((5,), dtype="int64")),
        ("embed", TokenEmbedding(9, 6)),
        ("position", PositionEmbedding()),
        ("drop", Dropout(0.1)),
        ("norm_a", norm(1e-3)),
        ("attention", SelfAttention(2, 2, 6)),
        ("add_a", Add(), ("drop", "attention")),
        ("norm_b", norm()),
        ("up", Linear(9)),
        ("gelu", Activation("gelu")),
        ("down", Linear(6)),
        ("add_b", Add(), ("add_a", "down")),
        ("norm", norm()),
        ("pool", GlobalPool()),
        ("fc", Linear(3)),
    )


def post_norm(norm: Norm) -> Architecture:
    """Blocks that end with a norm."""
    return graph(
        ("x", Input((2, 6))),
        ("patches", PatchEmbedding(4, (2,))),
        ("attention", SelfAttention(1, 3, 4)),
        ("add_a", Add(), ("patches", "attention")),
        ("norm_a", norm()),
        ("up", Linear(7)),
        ("relu", Activation("relu")),
        ("down", Linear(4, bias=False)),
        ("add_b", Add(), ("norm_a", "down")),
        ("norm_b", norm()),
        ("flat", Flatten()),
        ("fc", Linear(3)),
    )


TRANSFORMERS = {
    "pre_norm_layer": pre_norm(LayerNorm),
    "pre_norm_rms": pre_norm(RMSNorm),
    "post_norm_layer": post_norm(LayerNorm),
    "post_norm_rms": post_norm(RMSNorm),
}
