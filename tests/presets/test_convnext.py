from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optuna_nas_morph import presets
from optuna_nas_morph.nets import Network
from tests.presets.contract import Frozen, PresetContract


class TestConvNeXt(PresetContract):
    preset = staticmethod(presets.convnext)
    shapes = ((1, 8, 8), (3, 32, 32), (1, 28, 28), (2, 9, 15), (1, 4, 4))
    large_shapes = ((3, 224, 224), (3, 65, 300))
    bad_shapes = ((1, 3, 8), (1, 8, 3), (8, 8), (1, 1, 8, 8), (0, 8, 8), (1, 8.0, 8), (1, True, 8))
    options = (("width", 8), ("depth", 2), ("n_stages", 2), ("expansion", 2))
    frozen = Frozen(
        input_shape=(3, 32, 32),
        fingerprint="04960c53c48a667050c2914d4124961d",
        morphisms=(
            "widen:1.5",
            "widen:2",
            "insert_inverted_residual:7,4,gelu,layer",
            "insert_depthwise_separable:gelu,7",
            "insert_activation:gelu",
            "insert_squeeze_excite:4",
            "grow_kernel:2,11",
            "add_skip",
        ),
        limits=(30, 1_958_208, 588_029_952, 200),
        digest="7fe0de6475cfd62674dc11e1cdf64913",
    )


@pytest.mark.parametrize(
    ("width", "depth", "n_parameters"),
    [
        (96, (3, 3, 9, 3), 28_589_128),
        (96, (3, 3, 27, 3), 50_223_688),
        (128, (3, 3, 27, 3), 88_591_464),
        (192, (3, 3, 27, 3), 197_767_336),
    ],
    ids=["tiny", "small", "base", "large"],
)
def test_published_shapes(width: int, depth: tuple[int, ...], n_parameters: int) -> None:
    """As many parameters as torchvision's documentation names for its networks."""
    seed = presets.convnext((3, 224, 224), 1000, width=width, depth=depth, n_stages=4).seed
    assert seed.n_parameters == n_parameters
    assert seed.specs[seed["pool_1"].inputs[0]].shape == (8 * width, 7, 7)


class ByHand(nn.Module):
    """A block with channels last, as the code of the paper has it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.expand, self.project = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.gamma * self.project(F.gelu(self.expand(y)))
        return x + y.permute(0, 3, 1, 2)


class ChannelNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def test_it_is_the_network_that_one_writes_by_hand() -> None:
    seed = presets.convnext((3, 130, 130), 10, width=8, depth=(1, 2), n_stages=2).seed
    network = Network(seed).eval()
    by_hand = nn.Sequential(
        *(nn.Conv2d(3, 8, 4, 4), ChannelNorm(8, eps=1e-6)),
        ByHand(8),
        *(ChannelNorm(8, eps=1e-6), nn.Conv2d(8, 16, 2, 2)),
        *(ByHand(16), ByHand(16)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(16, eps=1e-6), nn.Linear(16, 10)),
    )
    generator = torch.Generator().manual_seed(0)
    ours = {name: p for name, p in network.named_parameters() if "layer_scale" not in name}
    gammas = [p for name, p in network.named_parameters() if "layer_scale" in name]
    theirs = {name: p for name, p in by_hand.named_parameters() if "gamma" not in name}
    with torch.no_grad():
        for p in gammas:
            assert torch.equal(p, torch.full_like(p, 1e-6))
        pairs = [*zip(theirs.values(), ours.values(), strict=True)]
        pairs += zip([p for name, p in by_hand.named_parameters() if "gamma" in name], gammas, strict=True)
        for their, our in pairs:
            their.copy_(our.normal_(std=0.5, generator=generator).view(their.shape))
    x = torch.randn(2, 3, 130, 130, generator=generator)
    torch.testing.assert_close(network(x), by_hand(x), rtol=1e-4, atol=1e-5)  # sums in another order
