"""What no operation computes becomes a part of its own, as small as possible, that computes the same bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from optuna_nas_morph.errors import TranslationError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.ir.ops import Opaque
from optuna_nas_morph.translation import Translation, translate
from tests.translation.test_translate import check_same, network_of
from tests.translation.zoo import MIXED, Branching, WithControlFlow, made

PARTS = {
    "unet": {"up": "ConvTranspose2d"},
    "vit": {"cat": "cat", "blocks_0_attn": "Attention", "blocks_1_attn": "Attention", "getitem_13": "getitem"},
    "pooled_vit": {"attn": "MultiheadAttention"},
    "lstm": {"lstm": "LSTM"},
    "normed_unet": {"norm": "GroupNorm", "interpolate": "interpolate", "fuse_1": "GroupNorm"},
    "text_transformer": {"position": "Embedding", "encoder": "TransformerEncoderLayer"},
    "gpt": {"wpe": "Embedding", "attn": "CausalAttention", "getitem_9": "getitem"},
    "speech": {"gru": "GRU"},
}


def parts_of(architecture: Architecture) -> dict[str, Opaque]:
    return {node.name: node.op for node in architecture.nodes if isinstance(node.op, Opaque)}


@pytest.mark.parametrize("name", MIXED)
def test_what_is_unknown_is_opaque_and_as_small_as_possible(name: str) -> None:
    module, x = made(name)
    if name == "pooled_vit":  # Its tokens lie in memory otherwise than in the module, so a mean adds in another order.
        translation = translate(module, x)
        network = network_of(translation)
        for train in (False, True):
            torch.testing.assert_close(network.train(train)(x), module.train(train)(x), rtol=1e-6, atol=1e-6)
    else:
        translation = check_same(module, x)
    assert {name: op.kind for name, op in parts_of(translation.architecture).items()} == PARTS[name]
    assert sum(p.numel() for p in module.parameters()) == translation.architecture.n_parameters


@pytest.mark.parametrize("name", MIXED)
def test_costs_are_those_of_the_module(name: str) -> None:
    module, x = made(name)
    counted = FlopCounterMode(display=False)
    with counted:
        module.eval()(x)  # with gradients: torch.nn's shortcuts without are not counted
    expected = counted.get_total_flops() / len(x)
    # Of oneDNN's LSTM the counter knows nothing. Per step: 2 operations x gates x hidden x (input + hidden).
    expected += {"lstm": 7 * 2 * 4 * 8 * (6 + 8)}.get(name, 0)
    assert translate(module, x).architecture.flops == expected


@pytest.mark.parametrize("name", MIXED)
def test_translating_again_gives_the_same(name: str) -> None:
    assert translate(*made(name)).architecture == translate(*made(name)).architecture


class Around(nn.Module):
    """One module, whatever it returns."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part
        self.n_inputs = 3 if isinstance(part, nn.MultiheadAttention) else 1
        self.is_tuple = isinstance(part, nn.MultiheadAttention | nn.LSTM)

    def forward(self, x: Tensor) -> Tensor:
        y = self.part(*[x] * self.n_inputs)
        return y[0] if self.is_tuple else y


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (nn.GroupNorm(2, 4), nn.GroupNorm(4, 4)),
        (nn.GroupNorm(2, 4), nn.GroupNorm(2, 4, eps=1e-3)),
        (nn.LSTM(4, 4, 2, batch_first=True), nn.LSTM(4, 4, 2, batch_first=True, dropout=0.5)),
        (nn.MultiheadAttention(4, 1, batch_first=True), nn.MultiheadAttention(4, 2, batch_first=True)),
        (nn.Softmax(1), nn.Softmax(2)),
        (nn.Softmax(1), nn.Softmin(1)),
        (nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=2, mode="linear")),
    ],
    ids=range(7),
)
def test_parts_that_differ_are_not_equal(first: nn.Module, second: nn.Module) -> None:
    x = torch.randn(2, 4, 4)
    one, other = (translate(Around(part), x).architecture["part"].op for part in (first, second))
    assert isinstance(one, Opaque) and isinstance(other, Opaque)
    assert one.digest != other.digest and one != other


def test_arguments_of_functions_make_a_difference() -> None:
    def digest(*arguments: Any) -> str:
        class Net(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x.roll(*arguments)

        (op,) = parts_of(translate(Net(), torch.randn(2, 4)).architecture).values()
        return op.digest

    assert digest(1, 1) == digest(1, 1)
    assert len({digest(1, 1), digest(2, 1), digest(1, -1)}) == 3


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 6, bias=False)
        self.again = nn.Linear(4, 6, bias=False)
        self.again.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.embed(x) @ self.again.weight


def test_weights_may_be_tied_within_a_part() -> None:
    module, x = nn.Sequential(Tied(), nn.Linear(4, 2)), torch.randn(3, 4)
    translation = translate(module, x, [Tied])
    network = network_of(translation)
    assert translation.architecture.n_parameters == sum(p.numel() for p in network.parameters()) == 24 + 10
    assert set(network.state_dict()) == set(translation.weights) == set(translation.architecture.params)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(x).sum().backward()
    optimizer.step()
    weights = network.state_dict()
    assert torch.equal(weights["layer_0.embed.weight"], weights["layer_0.again.weight"])
    assert not torch.equal(weights["layer_0.embed.weight"], translation.weights["layer_0.embed.weight"])


def test_a_class_can_be_left_as_it_is() -> None:
    module, x = WithControlFlow(), torch.randn(3, 4)
    translation = translate(module, x, [Branching])
    assert {name: op.kind for name, op in parts_of(translation.architecture).items()} == {"gate": "Branching"}
    network = network_of(translation)
    for sign in (1, -1):
        assert torch.equal(network(sign * x), module(sign * x))
    known = translate(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), x, [nn.Linear]).architecture
    assert [node.op.op_name for node in known.nodes] == ["input", "opaque", "activation"]


class Masked(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.register_buffer("mask", torch.tensor([value, 0.0, 1.0]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask


def test_what_is_not_in_the_state_dict_is_kept_and_told_apart() -> None:
    x = torch.randn(2, 3)
    found: list[Translation] = []
    for value in (1.0, 2.0):
        module = nn.Sequential(Masked(value), nn.Linear(3, 2))
        found.append(translate(module, x, [Masked]))
        assert torch.equal(network_of(found[-1]).eval()(x), module.eval()(x))
        assert list(found[-1].architecture.params) == ["layer_1.weight", "layer_1.bias"]
    assert found[0].architecture != found[1].architecture


def test_regions_that_meet_are_one() -> None:
    """All results of an LSTM are used: everything up to where they meet depends on a tuple."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.a, self.b = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 4), nn.Linear(4, 4)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            y, (h, c) = self.lstm(x)
            return self.head(self.a(y.mean(1)) + self.b(h[0] * c[0]))

    architecture = check_same(Net(), torch.randn(3, 5, 3)).architecture
    assert [node.op.op_name for node in architecture.nodes] == ["input", "opaque", "linear"]


def test_a_part_takes_several_inputs_in_order() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.b(x).relu() - self.a(x).relu() / 2)

    architecture = check_same(Net(), torch.randn(3, 3)).architecture
    (op,) = parts_of(architecture).values()
    assert op.kind == "truediv-sub" and len(op.input_shapes) == 2


def test_values_of_weights_are_not_taken_for_sizes() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("factor", torch.tensor(2.0))

        def forward(self, x: Tensor) -> Tensor:
            return x.pow(self.factor.item())

    module, x = Net(), torch.randn(2, 3)
    network = network_of(translate(module, x))
    for net in (module, network):
        (buffer,) = net.buffers()
        buffer.fill_(3.0)
    assert torch.equal(network.eval()(x), x.pow(3.0))


def test_layouts_in_memory_may_differ() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x.transpose(1, 2).contiguous().cumsum(1).transpose(1, 2)
            return y.contiguous().view(x.shape[0], 2, -1).cumsum(1)

    x = torch.randn(5, 4, 6)
    assert torch.equal(network_of(translate(Net(), x[:3]))(x), Net()(x))


def test_dropout_within_a_part_follows_the_mode() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.dropout(x.cumsum(1), 0.5, training=self.training).cumsum(1)

    module, x = Net(), torch.ones(1, 50)
    translation = translate(module, x)
    assert [node.op.op_name for node in translation.architecture.nodes] == ["input", "opaque"]
    network = network_of(translation)
    assert torch.equal(network.eval()(x), x.cumsum(1).cumsum(1))
    assert not torch.equal(network.train()(x), x.cumsum(1).cumsum(1))


@pytest.mark.filterwarnings("ignore:The tensor attributes .*_flat_weights")  # PyTorch's, of any LSTM
@pytest.mark.parametrize("name", ["lstm", "vit", "normed_unet"])
def test_a_network_with_parts_compiles_and_exports(name: str) -> None:
    module, x = made(name)
    network = network_of(translate(module, x)).eval()
    program = torch.export.export(network, (x,), dynamic_shapes=(({0: torch.export.Dim("batch")},),))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x[:3]), module.eval()(x[:3]))
        torch.testing.assert_close(torch.compile(network, backend="eager")(x), module(x))


# Refusals.


def test_weights_that_a_part_shares_with_others_are_refused() -> None:
    norm = nn.GroupNorm(2, 4)
    with pytest.raises(TranslationError, match=r"'layer_0_1.weight' and 'layer_0.weight' are the same weights"):
        translate(nn.Sequential(norm, nn.Conv2d(4, 4, 1), norm), torch.randn(2, 4, 3, 3))


def test_what_never_becomes_a_tensor_of_samples_is_refused() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.softmax(-1).double()

    with pytest.raises(TranslationError, match=r"nothing that depends on .*target=double.* is one tensor of float32"):
        translate(Net(), torch.randn(2, 3))


def test_a_state_of_other_types_is_refused() -> None:
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("order", torch.arange(3, dtype=torch.int32))

        def forward(self, x: Tensor) -> Tensor:
            return x[:, self.order.long()]

    with pytest.raises(TranslationError, match=r"'order' of .* must be a tensor of float32, int64 or bool.*persistent"):
        translate(nn.Sequential(nn.Linear(3, 3), Part()), torch.randn(2, 3), [Part])


@pytest.mark.parametrize("opaque", [[nn.Linear(2, 2)], [int], ["Linear"]])
def test_classes_must_be_of_modules(opaque: list[Any]) -> None:
    with pytest.raises(TypeError, match="opaque must be classes of modules but got"):
        translate(nn.Linear(3, 3), torch.randn(2, 3), opaque)
