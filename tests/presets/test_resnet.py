from __future__ import annotations

from optuna_nas_morph import presets
from tests.presets.contract import Frozen, PresetContract


class TestResNet(PresetContract):
    preset = staticmethod(presets.resnet)
    shapes = ((1, 8, 8), (3, 32, 32), (1, 28, 28), (2, 9, 15), (1, 4, 4))
    large_shapes = ((3, 224, 224), (3, 65, 300))
    bad_shapes = ((1, 3, 8), (1, 8, 3), (8, 8), (1, 1, 8, 8), (0, 8, 8), (1, 8.0, 8), (1, True, 8))
    options = (("width", 8), ("depth", 2), ("n_stages", 2))
    frozen = Frozen(
        input_shape=(3, 32, 32),
        fingerprint="24851329a19a05cd262b7643e7a0dc10",
        morphisms=("widen:1.5", "widen:2", "insert_residual_block:3", "deepen:relu", "grow_kernel:2", "add_skip"),
        limits=(12, 2_497_344, 800_104_448, 200),
        digest="83a94c2a721988b77c344fb044774412",
    )
