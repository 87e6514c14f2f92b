from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from optuna_nas_morph import presets
from optuna_nas_morph.ir.ops import PatchEmbedding
from optuna_nas_morph.nets import Network
from tests.presets.by_hand import encoder, encoder_weights
from tests.presets.contract import Frozen, PresetContract


class TestViT(PresetContract):
    preset = staticmethod(presets.vit)
    shapes = ((1, 8, 8), (3, 32, 32), (2, 40), (1, 4, 6, 4), (1, 1, 1))
    large_shapes = ((3, 224, 224), (2, 9, 15))
    bad_shapes = ((8,), (1, 2, 2, 2, 2), (0, 8, 8), (1, 8.0, 8), (1, True, 8))
    options = (("patch_size", 4), ("width", 8), ("depth", 3), ("n_heads", 2), ("expansion", 2))
    frozen = Frozen(
        input_shape=(3, 32, 32),
        fingerprint="dc363e31be9479fe5803ae253219c06b",
        morphisms=(
            "widen:1.5",
            "widen:2",
            "widen_hidden:1.5",
            "add_head:1",
            "widen_head:1.5",
            "insert_transformer_block:4",
        ),
        limits=(30, 1_000_000, 140_529_664, 200),
        digest="3c77c4789e10a2eb753957941be82069",
    )


@pytest.mark.parametrize(
    ("patch_size", "width", "depth", "n_heads", "n_parameters"),
    [(16, 768, 12, 12, 86_567_656), (32, 768, 12, 12, 88_224_232), (16, 1024, 24, 16, 304_326_632)],
    ids=["B/16", "B/32", "L/16"],
)
def test_published_shapes(patch_size: int, width: int, depth: int, n_heads: int, n_parameters: int) -> None:
    """As many parameters as torchvision's documentation names, but for the token of the class and its position."""
    shape = {"patch_size": patch_size, "width": width, "depth": depth, "n_heads": n_heads}
    assert presets.vit((3, 224, 224), 1000, **shape).seed.n_parameters == n_parameters - 2 * width


@pytest.mark.parametrize(
    ("shape", "patch_size"),
    [
        *(((1, 28, 28), 4), ((3, 32, 32), 4), ((3, 224, 224), 16), ((1, 8, 8), 2), ((2, 9, 15), 1), ((1, 40), 5)),
        *(((1, 14, 21, 28), 1), ((1, 14, 14), 2), ((1, 12, 24), 3), ((1, 21, 42), 3), ((1, 1000), 10)),
    ],
)
def test_patches_by_default(shape: tuple[int, ...], patch_size: int) -> None:
    op = presets.vit(shape, 10).seed["patch_embedding_1"].op
    assert op == PatchEmbedding(32, (patch_size,) * (len(shape) - 1))


def test_patches_cover_all() -> None:
    message = r"patch_size must divide the sizes \(8, 12\) of input_shape but got 8\."
    with pytest.raises(ValueError, match=message):
        presets.vit((1, 8, 12), 10, patch_size=8)
    assert presets.vit((1, 8, 12), 10, patch_size=4).seed.specs["patch_embedding_1"].shape == (6, 32)


def test_more_heads_than_numbers() -> None:
    assert presets.vit((1, 8, 8), 10, width=2, n_heads=4).seed["attention_1"].op.to_dict()["head_dim"] == 1


def test_it_is_the_network_that_one_writes_by_hand() -> None:
    network = Network(presets.vit((3, 8, 12), 10, patch_size=4, width=8, depth=2, n_heads=2).seed).eval()
    generator = torch.Generator().manual_seed(0)
    ours = {n: p.data.normal_(std=0.5, generator=generator) for n, p in network.named_parameters()}
    blocks = encoder(8, 2, 2, 1e-6).eval()
    blocks.load_state_dict(encoder_weights(ours, 2))
    x = torch.randn(2, 3, 8, 12, generator=generator)
    tokens = F.conv2d(x, ours["patch_embedding_1.weight"], ours["patch_embedding_1.bias"], 4).flatten(2).transpose(1, 2)
    y = blocks(tokens + ours["position_embedding_1.weight"]).mean(1)
    torch.testing.assert_close(network(x), F.linear(y, ours["head.weight"], ours["head.bias"]), rtol=1e-4, atol=1e-5)
