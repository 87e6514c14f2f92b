from __future__ import annotations

import pytest

from optuna_nas_morph import presets
from tests.presets.contract import Frozen, PresetContract


class TestResNet(PresetContract):
    preset = staticmethod(presets.resnet)
    shapes = ((1, 8, 8), (3, 32, 32), (1, 28, 28), (2, 9, 15), (1, 4, 4))
    large_shapes = ((3, 224, 224), (3, 65, 300))
    bad_shapes = ((1, 3, 8), (1, 8, 3), (8, 8), (1, 1, 8, 8), (0, 8, 8), (1, 8.0, 8), (1, True, 8))
    options = (("width", 8), ("depth", 2), ("n_stages", 2), ("expansion", 2))
    frozen = Frozen(
        input_shape=(3, 32, 32),
        fingerprint="24851329a19a05cd262b7643e7a0dc10",
        morphisms=(
            "widen:1.5",
            "widen:2",
            "insert_residual_block:3",
            "deepen:relu",
            "grow_kernel:2",
            "add_skip",
            "insert_squeeze_excite:4",
            "branch:add",
        ),
        limits=(30, 2_497_344, 800_104_448, 200),
        digest="e60dc6a69cc8c455e46a743789f682c7",
    )


@pytest.mark.parametrize(
    ("depth", "expansion", "n_parameters"),
    [(2, 1, 11_689_512), ((3, 4, 6, 3), 1, 21_797_672), ((3, 4, 6, 3), 4, 25_557_032), ((3, 4, 23, 3), 4, 44_549_160)],
    ids=["resnet18", "resnet34", "resnet50", "resnet101"],
)
def test_published_shapes(depth: int | tuple[int, ...], expansion: int, n_parameters: int) -> None:
    """As many parameters as torchvision's documentation names for its networks."""
    space = presets.resnet((3, 224, 224), 1000, width=64, depth=depth, n_stages=4, expansion=expansion)
    assert space.seed.n_parameters == n_parameters
    assert space.seed.specs[space.seed["pool_2"].inputs[0]].shape == (512 * expansion, 7, 7)
