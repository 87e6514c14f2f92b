from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from optuna_nas_morph import presets
from optuna_nas_morph.morphisms import Widen, fresh_weights
from optuna_nas_morph.nets import Network
from optuna_nas_morph.spaces import MorphSpace
from tests.presets.contract import Frozen, PresetContract


class TestMlp(PresetContract):
    preset = staticmethod(presets.mlp)
    shapes = ((20,), (1, 8, 8), (3, 32, 32), (3, 40), (1,))
    large_shapes = ((3, 64, 64), (10_000,))
    bad_shapes = ((0,), (3, -1), (1.5,), (True,))
    options = (("width", 8), ("depth", 4))
    other_options = (("n_categories", (3, 5)),)
    frozen = Frozen(
        input_shape=(20,),
        fingerprint="cb895ce2bf3679c8b847106d55792ee0",
        morphisms=("widen:1.5", "widen:2", "deepen:relu", "insert_residual_block:3", "add_skip", "concat_skip"),
        limits=(30, 1_000_000, 100_000_000, 200),
        digest="f628d9ab04e53e040846169c01fb7f28",
    )


# Tables.


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Four numbers and two categories."""
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.integers(n, size=64) for n in (3, 40)], axis=1)
    return torch.as_tensor(rng.normal(size=(64, 4)), dtype=torch.float32), torch.as_tensor(ids)


def test_categories_are_embedded_and_join_the_numbers() -> None:
    network = Network(presets.mlp((4,), 5, depth=1, width=7, n_categories=(3, 40)).seed).eval()
    weights = dict(network.named_parameters())
    assert weights["embedding_1.weight"].shape == (3, 3)  # 1.6 * 3 ** 0.56 = 2.96
    assert weights["embedding_2.weight"].shape == (40, 13)  # 1.6 * 40 ** 0.56 = 12.63
    numbers, ids = batch()
    first = F.one_hot(ids[:, 0], 3).float() @ weights["embedding_1.weight"]
    second = F.one_hot(ids[:, 1], 40).float() @ weights["embedding_2.weight"]
    hidden = torch.cat((numbers, first, second), dim=1) @ weights["linear_1.weight"].T
    expected = F.relu(hidden / (1 + 1e-5) ** 0.5) @ weights["head.weight"].T + weights["head.bias"]
    torch.testing.assert_close(network(numbers, ids), expected)


def test_maps_join_categories_too() -> None:
    seed = presets.mlp((1, 2, 2), 5, n_categories=[np.int64(3)]).seed
    assert seed.inputs == ("input", "categories")
    assert Network(seed)(torch.randn(2, 1, 2, 2), torch.zeros(2, 1, dtype=torch.int64)).shape == (2, 5)


@pytest.mark.parametrize("n_categories", [(6,), (3, 40)])
def test_a_table_may_have_no_numbers(n_categories: tuple[int, ...]) -> None:
    seed = presets.mlp((0,), 5, n_categories=n_categories).seed
    ids = torch.stack([torch.arange(3)] * len(n_categories), dim=1)
    assert Network(seed)(ids).shape == (3, 5)
    for shape in ((0, 2), (0, 0)):
        with pytest.raises(ValueError, match="input_shape must be"):
            presets.mlp(shape, 5, n_categories=n_categories)


def test_embeddings_are_widened_one_by_one() -> None:
    space = presets.mlp((4,), 5, n_categories=(3, 40))
    child = Widen(2.0).apply(space.seed, ("embedding_2",))
    assert (child.specs["embedding_1"].shape, child.specs["embedding_2"].shape) == ((3,), (26,))
    weights = fresh_weights(space.seed, np.random.default_rng(0))
    parent, grown = Network(space.seed).eval(), Network(child).eval()
    parent.load_state_dict(weights)
    after = Widen(2.0).transfer(space.seed, child, ("embedding_2",), weights, np.random.default_rng(1))
    grown.load_state_dict(after)
    torch.testing.assert_close(grown(*batch()), parent(*batch()))
    assert MorphSpace.from_dict(space.to_dict()) == space


def test_it_learns_what_a_category_says() -> None:
    """The class is the parity of the second category: nothing in the numbers, nothing in the order of categories."""
    architecture = presets.mlp((4,), 2, n_categories=(3, 40)).seed
    network = Network(architecture)
    network.load_state_dict(fresh_weights(architecture, np.random.default_rng(0)))
    numbers, ids = batch()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(numbers, ids), ids[:, 1] % 2)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    numbers, ids = batch(seed=1)
    known = torch.isin(ids[:, 1], batch()[1][:, 1])
    hits = network.eval()(numbers, ids).argmax(1) == ids[:, 1] % 2
    assert hits[known].float().mean() > 0.8


@pytest.mark.parametrize("value", [3, None])
def test_what_is_no_sequence_of_categories_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=f"n_categories must be a sequence of .* but got {value}"):
        presets.mlp((4,), 5, n_categories=value)


@pytest.mark.parametrize("value", [(3, 0), [3, 1.5], (3, True), (3, "4")])
def test_bad_numbers_of_categories_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"n_categories\[1\] must be a positive integer"):
        presets.mlp((4,), 5, n_categories=value)
