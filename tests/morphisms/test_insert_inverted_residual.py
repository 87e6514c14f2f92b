"""InsertInvertedResidual: x + f(x), where f is wide within and starts as 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optuna_nas_morph import presets
from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import Activation, Add, BatchNorm, Conv, DepthwiseConv, Input, LayerNorm, Op
from optuna_nas_morph.morphisms import InsertInvertedResidual
from tests.morphisms.architectures import RELU, graph
from tests.morphisms.contract import MorphismContract
from tests.morphisms.same_function import random_weights


class TestContract(MorphismContract):
    morphisms = (InsertInvertedResidual(), InsertInvertedResidual(7, 2, "gelu", "layer"))
    draws = True


def added(parent: Architecture, child: Architecture) -> list[Op]:
    return [node.op for node in child.nodes if node.name not in parent.index]


CONV = graph(("x", Input((2, 6))), ("a", Conv.same(1, 4, 3)), ("relu", RELU), ("b", Conv(2, (1,))))


def test_the_block_of_mobilenet() -> None:
    child = InsertInvertedResidual(5, 3, "relu6").apply(CONV, ("relu",))
    wide, end = [BatchNorm(), Activation("relu6")], [BatchNorm(), Add()]
    assert added(CONV, child) == [
        *(Conv(12, (1,), bias=False), *wide),
        *(DepthwiseConv((5,), padding=(2,), bias=False), *wide),
        *(Conv(4, (1,), bias=False), *end),
    ]
    assert child["add_1"].inputs == ("relu", "norm_c_1")
    assert child["b"].inputs == ("add_1",)


def test_the_block_of_convnext_is_that_of_the_preset() -> None:
    seed = presets.convnext((3, 16, 16), 10).seed
    (end, *_) = (node.name for node in seed.nodes if isinstance(node.op, Add))
    block = [node.op for node in seed.nodes[seed.index[end] - 6 : seed.index[end] + 1]]
    block[1] = LayerNorm()  # the preset has another eps
    child = InsertInvertedResidual(7, 4, "gelu", "layer").apply(seed, ("norm_1",))
    assert added(seed, child) == block


@pytest.mark.parametrize(
    ("morphism", "zero"),
    [
        (InsertInvertedResidual(), {"norm_c_1.weight", "norm_c_1.bias"}),
        (InsertInvertedResidual(norm="layer"), {"layer_scale_1.weight"}),
    ],
    ids=str,
)
def test_only_what_comes_last_is_zero(morphism: InsertInvertedResidual, zero: set[str]) -> None:
    child = morphism.apply(CONV, ("relu",))
    before = random_weights(CONV, np.random.default_rng(0))
    after = morphism.transfer(CONV, child, ("relu",), before, np.random.default_rng(0))
    fresh = {name for name, w in after.items() if name not in before and not w.any()}
    constants = {name for name, param in child.params.items() if param.init.kind == "constant" and not param.init.scale}
    assert fresh - constants == zero - constants
    assert zero <= fresh


def test_kernels_are_1_where_sizes_are() -> None:
    parent = graph(("x", Input((2, 1, 6))), ("a", Conv.same(2, 4, (1, 3))), ("relu", RELU), ("b", Conv(2, (1, 1))))
    child = InsertInvertedResidual(5).apply(parent, ("relu",))
    assert DepthwiseConv((1, 5), padding=(0, 2), bias=False) in added(parent, child)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kernel_size": 4}, "kernel_size must be odd and positive but got 4"),
        ({"expansion": 0}, "expansion must be a positive integer but got 0"),
        ({"activation": "swish"}, "activation must be one of .* but got 'swish'"),
        ({"norm": "instance"}, r"norm must be one of \('batch', 'layer'\) but got 'instance'"),
    ],
)
def test_bad_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(MorphismError, match=message):
        InsertInvertedResidual(**fields)


def test_vectors_have_no_place() -> None:
    seed = presets.mlp((4,), 2).seed
    assert InsertInvertedResidual().sites(seed) == ()
    assert InsertInvertedResidual().refusal(seed, ("relu_1",)) == "there are no maps to filter"
