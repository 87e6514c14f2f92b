from __future__ import annotations

from optuna_nas_morph import presets
from tests.presets.contract import Frozen, PresetContract


class TestConv1d(PresetContract):
    preset = staticmethod(presets.conv1d)
    shapes = ((1, 40), (3, 128), (1, 17), (12, 600), (1, 8))
    large_shapes = ((1, 16_000), (2, 257))
    bad_shapes = ((1, 7), (40,), (1, 8, 8), (0, 40), (1, 40.0))
    options = (("width", 8), ("depth", 5))
    frozen = Frozen(
        input_shape=(3, 128),
        fingerprint="fa4d7fba820d970de1e00c366e87e03f",
        morphisms=(
            "widen:1.5",
            "widen:2",
            "deepen:relu,5",
            "insert_residual_block:5",
            "grow_kernel:2,15",
            "add_skip",
            "concat_skip",
            "insert_squeeze_excite:4",
            "branch:concat",
        ),
        limits=(30, 1_000_000, 100_000_000, 200),
        digest="6d88a306a5e3937365e170b0f63f5397",
    )
