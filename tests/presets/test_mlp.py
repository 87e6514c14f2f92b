from __future__ import annotations

from optuna_nas_morph import presets
from tests.presets.contract import Frozen, PresetContract


class TestMlp(PresetContract):
    preset = staticmethod(presets.mlp)
    shapes = ((20,), (1, 8, 8), (3, 32, 32), (3, 40), (1,))
    large_shapes = ((3, 64, 64), (10_000,))
    bad_shapes = ((0,), (3, -1), (1.5,), (True,))
    options = (("width", 8), ("depth", 4))
    frozen = Frozen(
        input_shape=(20,),
        fingerprint="cb895ce2bf3679c8b847106d55792ee0",
        morphisms=("widen:1.5", "widen:2", "deepen:relu", "insert_residual_block:3", "add_skip", "concat_skip"),
        limits=(12, 1_000_000, 100_000_000, 200),
        digest="3993ed4be8703e5c201b26ab18cc94c8",
    )
