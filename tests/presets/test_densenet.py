from __future__ import annotations

import pytest

from optuna_nas_morph import presets
from tests.presets.contract import Frozen, PresetContract


class TestDenseNet(PresetContract):
    preset = staticmethod(presets.densenet)
    shapes = ((1, 8, 8), (3, 32, 32), (1, 28, 28), (2, 9, 15), (1, 4, 4))
    large_shapes = ((3, 224, 224), (3, 65, 300))
    bad_shapes = ((1, 3, 8), (1, 8, 3), (8, 8), (1, 1, 8, 8), (0, 8, 8), (1, 8.0, 8), (1, True, 8))
    options = (("growth_rate", 8), ("depth", 3), ("n_stages", 2), ("bottleneck", 4))
    frozen = Frozen(
        input_shape=(3, 32, 32),
        fingerprint="a7cce8a1e616ede9c2b3f80c89eee2be",
        morphisms=(
            "concat_skip",
            "widen:1.5",
            "widen:2",
            "deepen:relu,1",
            "deepen:relu",
            "grow_kernel:2",
            "insert_squeeze_excite:4",
            "branch:concat",
        ),
        limits=(30, 1_000_000, 694_253_568, 200),
        digest="d0f348cc63f32154efee5656d79d8da2",
    )


@pytest.mark.parametrize(
    ("depth", "n_parameters"),
    [((6, 12, 24, 16), 7_978_856), ((6, 12, 32, 32), 14_149_480), ((6, 12, 48, 32), 20_013_928)],
    ids=["densenet121", "densenet169", "densenet201"],
)
def test_published_shapes(depth: tuple[int, ...], n_parameters: int) -> None:
    """As many parameters as torchvision's documentation names for its networks."""
    space = presets.densenet((3, 224, 224), 1000, growth_rate=32, depth=depth, n_stages=4, bottleneck=4)
    assert space.seed.n_parameters == n_parameters
