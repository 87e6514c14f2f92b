from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from optuna_nas_morph import presets
from optuna_nas_morph.ir.ops import Add, DepthwiseConv
from optuna_nas_morph.nets import Network
from tests.presets.contract import Frozen, PresetContract


class TestMobileNet(PresetContract):
    preset = staticmethod(presets.mobilenet)
    shapes = ((1, 8, 8), (3, 32, 32), (1, 28, 28), (2, 9, 15), (1, 4, 4))
    large_shapes = ((3, 224, 224), (3, 65, 300))
    bad_shapes = ((1, 3, 8), (1, 8, 3), (8, 8), (1, 1, 8, 8), (0, 8, 8), (1, 8.0, 8), (1, True, 8))
    options = (("width", 8), ("depth", 2), ("n_stages", 2), ("expansion", 2))
    other_options = (("table", presets.MOBILENET_V3_SMALL),)
    frozen = Frozen(
        input_shape=(3, 32, 32),
        fingerprint="7b18a3b70727aba6eddf988df30c7401",
        morphisms=(
            "widen:1.5",
            "widen:2",
            "insert_inverted_residual:3",
            "insert_depthwise_separable:hardswish",
            "deepen:hardswish,1",
            "insert_squeeze_excite:4,hardsigmoid",
            "grow_kernel:2",
            "add_skip",
            "ungroup",
        ),
        limits=(30, 1_643_840, 483_688_448, 200),
        digest="474e915d6d5e8bcad68681f382aa451d",
    )


class InvertedResidual(nn.Module):
    """A block of MobileNetV3, as one writes it by hand."""

    def __init__(self, n_inputs: int, width: int, stride: int, expansion: int, late: bool) -> None:
        super().__init__()
        inner, function = expansion * n_inputs, nn.Hardswish if late else nn.ReLU
        self.expand = nn.Sequential(
            *(nn.Conv2d(n_inputs, inner, 1, bias=False), nn.BatchNorm2d(inner), function()) if expansion > 1 else ()
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False), nn.BatchNorm2d(inner), function()
        )
        self.gate = nn.Sequential(
            *(
                nn.AdaptiveAvgPool2d(1),
                nn.Conv2d(inner, inner // 4, 1),
                nn.ReLU(),
                nn.Conv2d(inner // 4, inner, 1),
                nn.Hardsigmoid(),
            )
            if late
            else ()
        )
        self.late = late
        self.project = nn.Sequential(nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width))
        self.keeps = stride == 1 and n_inputs == width

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.expand(x))
        y = self.project(y * self.gate(y) if self.late else y)
        return y + x if self.keeps else y


def test_it_is_the_network_that_one_writes_by_hand() -> None:
    seed = presets.mobilenet((3, 16, 16), 10, width=8, depth=(1, 2), n_stages=2).seed
    network = Network(seed).eval()
    by_hand = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        InvertedResidual(8, 8, 1, 4, late=False),
        InvertedResidual(8, 16, 2, 4, late=True),
        InvertedResidual(16, 16, 1, 4, late=True),
        *(nn.Conv2d(16, 64, 1, bias=False), nn.BatchNorm2d(64), nn.Hardswish()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    ).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for theirs, ours in zip(by_hand.parameters(), network.parameters(), strict=True):
            theirs.copy_(ours.normal_(std=0.5, generator=generator))
    x = torch.randn(4, 3, 16, 16, generator=generator)
    torch.testing.assert_close(network(x), by_hand(x))


@pytest.mark.parametrize(
    ("table", "n_parameters", "giga_products", "n_sums"),
    [
        (presets.MOBILENET_V2, 3_504_872, 0.30, 10),
        (presets.MOBILENET_V3_SMALL, 2_542_856, 0.06, 6),
        (presets.MOBILENET_V3_LARGE, 5_483_032, 0.22, 10),
    ],
    ids=["v2", "v3_small", "v3_large"],
)
def test_published_tables(table: presets.MobileNetTable, n_parameters: int, giga_products: float, n_sums: int) -> None:
    """As many parameters and products as torchvision's documentation names for its networks."""
    seed = presets.mobilenet((3, 224, 224), 1000, table=table).seed
    assert seed.n_parameters == n_parameters
    assert round(seed.flops / 2e9, 2) == giga_products
    depthwise = [node.name for node in seed.nodes if isinstance(node.op, DepthwiseConv)]
    assert len(depthwise) == len(table.blocks)
    assert seed.specs[depthwise[-1]].spatial == (7, 7)
    assert sum(isinstance(node.op, Add) for node in seed.nodes) == n_sums


@pytest.mark.parametrize(
    "table",
    [presets.MOBILENET_V2, presets.MOBILENET_V3_SMALL, presets.MOBILENET_V3_LARGE],
    ids=["v2", "small", "large"],
)
def test_tables_fit_small_images(table: presets.MobileNetTable) -> None:
    seed = presets.mobilenet((3, 32, 32), 10, table=table).seed
    depthwise = [node.name for node in seed.nodes if isinstance(node.op, DepthwiseConv)]
    assert len(depthwise) == len(table.blocks)
    assert seed.specs[depthwise[-1]].spatial == (4, 4)
    assert Network(seed).eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_a_table_comes_alone() -> None:
    table = presets.MOBILENET_V2
    other: dict[str, Any]
    for other in ({"width": 8}, {"depth": 2}, {"n_stages": 2}, {"expansion": 2}):
        with pytest.raises(ValueError, match="table must be None where width, depth, n_stages or expansion are chosen"):
            presets.mobilenet((3, 32, 32), 10, table=table, **other)
    with pytest.raises(ValueError, match="table must be a MobileNetTable or None but got 'v2'"):
        presets.mobilenet((3, 32, 32), 10, table="v2")  # type: ignore[arg-type]
