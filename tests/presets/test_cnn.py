from __future__ import annotations

from optuna_nas_morph import presets
from tests.presets.contract import Frozen, PresetContract


class TestCnn(PresetContract):
    preset = staticmethod(presets.cnn)
    shapes = ((1, 8, 8), (3, 32, 32), (1, 28, 28), (2, 9, 15), (1, 4, 4))
    large_shapes = ((3, 224, 224), (3, 65, 300))
    bad_shapes = ((1, 3, 8), (1, 8, 3), (8, 8), (1, 1, 8, 8), (0, 8, 8), (1, 8.0, 8), (1, True, 8))
    options = (("width", 8), ("depth", 5))
    frozen = Frozen(
        input_shape=(3, 32, 32),
        fingerprint="a9c00f1814ab72ef9bfc80331e254f5c",
        morphisms=(
            "widen:1.5",
            "widen:2",
            "deepen:relu",
            "insert_residual_block:3",
            "grow_kernel:2",
            "add_skip",
            "concat_skip",
        ),
        limits=(30, 1_000_000, 179_347_456, 200),
        digest="b002a667586ddf17455e307ea30ebe89",
    )
