"""A translated module computes the same bits, and what cannot be translated is refused with what to do."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optuna_nas_morph.errors import TranslationError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.nets import Network
from optuna_nas_morph.translation import Translation, translate
from tests.translation.zoo import PLAIN, WithControlFlow, made


def network_of(translation: Translation) -> Network:
    network = Network(translation.architecture)
    network.load_state_dict(dict(translation.weights))
    return network


def check_same(module: nn.Module, x: Tensor) -> Translation:
    """Translate a module; check outputs in both modes, gradients and running statistics, bit by bit."""
    before = copy.deepcopy(module.state_dict())
    translation = translate(module, x)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    module, network = copy.deepcopy(module), network_of(translation)
    for train in (False, True):
        outputs = []
        for net in (module, network):
            torch.manual_seed(1)
            outputs.append(net.train(train)(x))
            outputs[-1].square().mean().backward()
        assert torch.equal(*outputs)
    assert sorted(_sum(p.grad) for p in module.parameters()) == sorted(_sum(p.grad) for p in network.parameters())
    assert sorted(map(_sum, module.buffers())) == sorted(map(_sum, network.buffers()))
    assert Architecture.from_json(translation.architecture.to_json()) == translation.architecture
    return translation


def _sum(tensor: Tensor | None) -> float:
    assert tensor is not None
    return tensor.double().sum().item()


@pytest.mark.parametrize("name", PLAIN)
def test_a_network_computes_the_same_bits(name: str) -> None:
    module, x = made(name)
    translation = check_same(module, x)
    assert sum(p.numel() for p in module.parameters()) == translation.architecture.n_parameters


def test_mode_and_weights_of_the_module_stay() -> None:
    module, x = made("functional")
    module.conv1.eval()
    translation = translate(module, x)
    assert (module.training, module.conv1.training, module.conv2.training) == (True, False, True)
    with torch.no_grad():
        module.fc2.weight.zero_()
    assert translation.weights["fc2.weight"].abs().sum() > 0


def test_nodes_are_named_as_in_the_module() -> None:
    module, x = made("resnet18")
    names = [node.name for node in translate(module, x).architecture.nodes]
    assert names[:4] == ["x", "conv1", "bn1", "relu"]
    assert {"layer2_0_downsample_0", "add", "fc"} <= set(names)


def test_names_that_a_network_cannot_have_are_changed() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.forward_1 = nn.Linear(3, 3)
            self.architecture = nn.Linear(3, 3)
            self._hidden = nn.Linear(3, 2)

        def forward(self, half: Tensor) -> Tensor:
            return self._hidden(self.architecture(self.forward_1(half)))

    names = [node.name for node in check_same(Net(), torch.randn(2, 3)).architecture.nodes]
    assert names == ["layer_half", "forward_1", "layer_architecture", "hidden"]


def test_a_batch_of_any_size_will_do() -> None:
    module, x = made("resnet18")
    translation = translate(module, x[:1])
    assert translation.architecture == translate(module, x).architecture
    with torch.no_grad():
        assert torch.equal(network_of(translation).eval()(x), module.eval()(x))


def test_several_inputs() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(5, 4)

        def forward(self, x: Tensor, y: Tensor, scale: Tensor | None = None, *, deep: bool = False) -> Tensor:
            z = self.a(x) + self.b(y)
            return z if scale is None else z * scale

    x, y = torch.randn(2, 3), torch.randn(2, 5)
    translation = translate(Net(), (x, y))
    assert translation.architecture.inputs == ("x", "y")
    with pytest.raises(TranslationError, match=r"one tensor for each argument of Net.forward.* but holds 1"):
        translate(Net(), x)


def test_conditions_on_shapes_are_decided() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            if x.dim() > 2 and x.shape[1] == 1:
                x = x.reshape(x.shape[0], -1)
            return x + self.fc(x) if self.fc(x).shape == x.shape else self.fc(x)

    module = Net()
    ops = [n.op.op_name for n in check_same(module, torch.randn(3, 1, 4)).architecture.nodes]
    assert ops == ["input", "flatten", "linear", "add"]


def test_a_class_that_inherits_forward_is_what_it_inherits_from() -> None:
    class SameConv(nn.Conv2d):
        def __init__(self, i: int, o: int) -> None:
            super().__init__(i, o, 3, padding=1)

    module = nn.Sequential(SameConv(2, 3), nn.ReLU())
    assert [n.name for n in check_same(module, torch.randn(2, 2, 5, 5)).architecture.nodes][1:] == [
        "layer_0",
        "layer_1",
    ]


def test_dropout_of_a_function_follows_the_mode() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(x, 0.5, training=self.training)

    network = network_of(translate(Net(), torch.randn(4, 50)))
    x = torch.ones(1, 50)
    assert torch.equal(network.eval()(x), x)
    assert set(network.train()(x)[0].tolist()) == {0.0, 2.0}


# Refusals.


def test_control_flow_is_refused_with_its_place() -> None:
    with pytest.raises(TranslationError) as e:
        translate(WithControlFlow(), torch.randn(2, 4))
    message = str(e.value)
    assert "zoo.py" in message
    assert "in Branching: if x.sum() > 0:" in message
    assert "Let it depend on attributes of the module" in message


def test_a_branch_on_the_size_of_the_batch_is_refused() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.shape[0] > 2 else -x

    with pytest.raises(TranslationError, match="size of the batch"):
        translate(Net(), torch.randn(2, 4))


def test_another_graph_in_train_mode_is_refused() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x) if self.training else torch.tanh(x)

    with pytest.raises(TranslationError, match=r"'relu' .*is computed in train mode, where eval mode computes 'tanh'"):
        translate(Net(), torch.randn(2, 4))


def test_shared_weights_are_refused() -> None:
    layer = nn.Linear(4, 4)
    with pytest.raises(TranslationError, match=r"'layer_0_1.weight' and 'layer_0.weight' are the same weights"):
        translate(nn.Sequential(layer, nn.ReLU(), layer), torch.randn(2, 4))


def test_a_fixed_batch_is_refused() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(4, 3)

    with pytest.raises(TranslationError, match="Net must take any number of samples, but fails for 2 of them"):
        translate(Net(), torch.randn(4, 3))


@pytest.mark.parametrize("result", [lambda x: (x, x), lambda x: {"logits": x}, lambda x: x.sum()], ids=range(3))
def test_other_outputs_than_one_tensor_are_refused(result: object) -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> object:
            return result(x.relu())  # type: ignore[operator]

    with pytest.raises(TranslationError, match="Net must return one tensor"):
        translate(Net(), torch.randn(2, 4))


def test_aliases_that_are_written_to_are_refused() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x * 2
            flat = y.flatten(1)
            flat.relu_()
            return y.mean((2, 3)) + flat.mean(1, keepdim=True) if False else y.mean((2, 3))

    class Alias(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x * 2
            flat = y.flatten(2).transpose(1, 2)
            z = F.relu(flat, inplace=True)
            return y.mean((2, 3)) + z.mean(1)

    with pytest.raises(TranslationError, match="write into their input"):
        translate(Alias(), torch.randn(2, 3, 4, 4))
    with pytest.raises(TranslationError, match="write into their input"):
        translate(Net(), torch.randn(2, 3, 4, 4))


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(TranslationError, match=r"'weight' is torch.float64: call module.float\(\) before"):
        translate(nn.Linear(3, 3).double(), torch.randn(2, 3))
    with pytest.raises(ValueError, match=r"must be of dtype float32 or int64 .* but got torch.float64"):
        translate(nn.Linear(3, 3), torch.randn(2, 3).double())


def test_arguments_of_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match=r"module must be an nn.Module but got function"):
        translate(F.relu, torch.randn(2, 3))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="example_input must be a tensor"):
        translate(nn.Linear(3, 3), (2, 3))  # type: ignore[arg-type]


def test_inputs_that_are_not_used_are_refused() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x.relu()

    with pytest.raises(TranslationError, match="Net does not use its input 'y'"):
        translate(Net(), (torch.randn(2, 3), torch.randn(2, 3)))
