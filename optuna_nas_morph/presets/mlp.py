"""Multilayer perceptrons."""

from __future__ import annotations

from collections.abc import Sequence

from optuna_nas_morph.ir.ops import ColumnEmbedding, Concat, Flatten, Input, Linear
from optuna_nas_morph.morphisms import (
    AddSkip,
    ConcatSkip,
    Deepen,
    InsertResidualBlock,
    Morphism,
    Widen,
)
from optuna_nas_morph.presets.builder import Builder
from optuna_nas_morph.presets.checks import categories, positive, vector_shape
from optuna_nas_morph.presets.limits import N_MORPHISMS, grown_from
from optuna_nas_morph.spaces import MorphSpace

MORPHISMS: tuple[Morphism, ...] = (
    Widen(1.5),
    Widen(2.0),
    Deepen("relu"),
    InsertResidualBlock(),
    AddSkip(),
    ConcatSkip(),
)
"""There is no kernel to grow, and no map to gate. Activations that are blended in would sit behind ReLU, where nothing
is negative."""
MAX_FEATURES = 600
"""Numbers per category at first, at most."""


def mlp(
    input_shape: Sequence[int],
    n_classes: int,
    *,
    width: int = 64,
    depth: int = 2,
    n_categories: Sequence[int] = (),
    morphisms: Sequence[Morphism] = MORPHISMS,
    max_morphisms: int = N_MORPHISMS,
    max_parameters: int | None = None,
    max_flops: int | None = None,
    max_nodes: int | None = None,
) -> MorphSpace:
    """Networks for vectors and tables, grown from a small multilayer perceptron.

    The seed flattens its input where that is no vector, then has ``depth`` hidden layers of linear layer, batch norm
    (Ioffe and Szegedy, 2015) and ReLU, and a linear layer.

    With ``n_categories`` the network takes two tensors: ``network(numbers, categories)``, the second one ``int64`` of
    shape ``(batch, len(n_categories))``. Each of its columns gets an embedding (Guo and Berkhahn, 2016), which joins
    the numbers in front of the first hidden layer and starts with ``round(1.6 * n ** 0.56)`` numbers per category, at
    most 600 (the rule of fastai: Howard and Gugger, 2020); a search may widen each by itself.

    Args:
        input_shape:
            ``(n_features,)``, or any other shape of one sample, which is flattened; with ``n_categories`` also
            ``(0,)``, for a table without numbers, whose network takes the categories alone.
        n_classes:
            Outputs, with no function behind them: one per class, per label that holds or does not, or per number to
            predict (see `optuna_nas_morph.presets`).
        width:
            Units of a hidden layer.
        depth:
            Hidden layers.
        n_categories:
            Categories of each categorical column, which are numbered from 0 in it; one more where values may be missing
            or unknown. Empty for a table of numbers.
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
    counts = categories(n_categories)
    if counts and isinstance(input_shape, Sequence) and tuple(input_shape) == (0,):
        builder = Builder((len(counts),), dtype="int64")
        _join(builder, (), builder.last, counts)
    else:
        builder = Builder(vector_shape(input_shape))
        if builder.spec.spatial:
            builder.add(Flatten())
        if counts:
            ids = Input((len(counts),), dtype="int64")
            _join(builder, (builder.last,), builder.add_input("categories", ids), counts)
    n_classes, width, depth = positive("n_classes", n_classes), positive("width", width), positive("depth", depth)
    for _ in range(depth):
        builder.add(Linear(width, bias=False))
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


def _join(builder: Builder, numbers: Sequence[str], ids: str, counts: tuple[int, ...]) -> None:
    """Add an embedding per column of ``ids``, and put them behind the numbers."""
    parts = list(numbers)
    for column, n in enumerate(counts):
        features = min(MAX_FEATURES, round(1.6 * n**0.56))
        parts.append(builder.add(ColumnEmbedding(column, n, features), ids, stem="embedding"))
    if len(parts) > 1:
        builder.add(Concat(), *parts)
