from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from optuna_nas_morph import presets
from optuna_nas_morph.ir.ops import LayerNorm, RMSNorm
from optuna_nas_morph.nets import Network
from tests.presets.by_hand import encoder, encoder_weights
from tests.presets.contract import Frozen, PresetContract, Shape


class TestTextTransformer(PresetContract):
    preset = staticmethod(partial(presets.text_transformer, n_tokens=50))
    shapes = ((6,), (40,), (1,))
    large_shapes = ((512,),)
    bad_shapes = ((3, 4), (0,), (2.5,), (True,))
    options = (("n_tokens", 60), ("width", 8), ("depth", 3), ("n_heads", 2), ("expansion", 2))
    other_options = (("norm", "rms"),)
    frozen = Frozen(
        input_shape=(64,),
        fingerprint="90f9d174f52e5b7f3425977304c008d4",
        morphisms=(
            "widen:1.5",
            "widen:2",
            "widen_hidden:1.5",
            "add_head:1",
            "widen_head:1.5",
            "insert_transformer_block:4",
        ),
        limits=(30, 1_000_000, 134_238_208, 200),
        digest="b3355e773503ec7b6037f71fb7703fd2",
    )

    def batch(self, n: int, shape: Shape, generator: torch.Generator | None = None) -> Tensor:
        return torch.randint(50, (n, *shape), generator=generator)


def test_norms() -> None:
    for norm, kind in (("layer", LayerNorm), ("rms", RMSNorm)):
        seed = presets.text_transformer((6,), 2, n_tokens=9, norm=norm).seed
        assert {type(node.op) for node in seed.nodes if node.name.startswith("norm")} == {kind}
    with pytest.raises(ValueError, match=r"norm must be one of \['layer', 'rms'\] but got 'batch'\."):
        presets.text_transformer((6,), 2, n_tokens=9, norm="batch")


def test_it_is_the_network_that_one_writes_by_hand() -> None:
    network = Network(presets.text_transformer((6,), 3, n_tokens=9, width=8, depth=2, n_heads=2).seed).eval()
    generator = torch.Generator().manual_seed(0)
    ours = {n: p.data.normal_(std=0.5, generator=generator) for n, p in network.named_parameters()}
    blocks = encoder(8, 2, 2, 1e-5).eval()
    blocks.load_state_dict(encoder_weights(ours, 2))
    ids = torch.randint(9, (4, 6), generator=generator)
    y = blocks(ours["token_embedding_1.weight"][ids] + ours["position_embedding_1.weight"]).mean(1)
    torch.testing.assert_close(network(ids), F.linear(y, ours["head.weight"], ours["head.bias"]), rtol=1e-4, atol=1e-5)
