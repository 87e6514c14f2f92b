"""Moments of a parent's gradients become those of its child's gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from optuna_nas_morph.errors import WeightsMismatchError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.morphisms import Morphism, PruneChannels, Site, Widen, find_origins
from optuna_nas_morph.nets import Network
from optuna_nas_morph.spaces import MorphSpace, Step
from optuna_nas_morph.weights.inherit import inherit, inherit_moments
from optuna_nas_morph.weights.moments import check_moments, push
from tests.morphisms.architectures import HAND_MADE
from tests.morphisms.chains import MORPHISMS
from tests.morphisms.contract import cases
from tests.morphisms.same_function import random_weights, set_mode
from tests.strategies import example_inputs
from tests.studies import CNN_SPACE, MLP

ALL = pytest.mark.parametrize("morphism", MORPHISMS, ids=str)
EVERYWHERE = pytest.mark.parametrize("architecture", HAND_MADE.values(), ids=HAND_MADE)
KNOWN = ("momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq")


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def gradient(architecture: Architecture, weights: Mapping[str, Tensor], *, train: bool = True) -> dict[str, Tensor]:
    """PyTorch's gradient of a random linear function of the outputs, in train mode or in eval mode."""
    network = Network(architecture).double()
    network.load_state_dict(weights)
    set_mode(network, train=train)
    inputs = [x.double() if x.is_floating_point() else x for x in example_inputs(architecture, 16, 1)]
    y = network(*inputs)
    if y.requires_grad:
        y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def random_moments(architecture: Architecture, rng: np.random.Generator) -> dict[str, dict[str, Tensor]]:
    shapes = {name: p.shape for name, p in architecture.params.items() if not p.buffer}
    drawn = {m: {n: torch.as_tensor(rng.normal(size=s)).float() for n, s in shapes.items()} for m in KNOWN}
    return drawn | {"step": {name: torch.tensor(float(i)) for i, name in enumerate(shapes)}}


def shares(found: Any, child: Architecture) -> dict[str, Tensor]:
    """Per entry of the child's parameters, the sum of all factors of its source; an own loop, entry by entry."""
    totals: dict[int, float] = {}
    names = [name for name in found.sources if not child.params[name].buffer]
    for name in names:
        for source, factor in zip(found.sources[name].flatten(), found.factors[name].flatten(), strict=True):
            totals[int(source)] = totals.get(int(source), 0.0) + float(factor)

    def total(name: str) -> Tensor:
        values = [totals[int(s)] for s in found.sources[name].flatten()]
        return torch.tensor(values, dtype=torch.float64).reshape(child.params[name].shape)

    return {name: total(name) for name in names}


def has_own_gradient(source: Tensor, factor: Tensor, total: Tensor) -> Tensor:
    """Entries that are all there is of their source, or shares that sum to it."""
    return (source >= 0) & (((total - 1).abs() < 1e-9) | ((total - factor).abs() < 1e-9))


def is_mixed(
    morphism: Morphism, parent: Architecture, child: Architecture, site: Site, after: Mapping[str, Tensor]
) -> bool:
    """Whether entries that have no one source are more than constants."""
    nothing = {n: torch.zeros(p.shape, dtype=torch.float64) for n, p in parent.params.items() if p.dtype == "float32"}
    counters = {n: torch.zeros(p.shape, dtype=torch.int64) for n, p in parent.params.items() if p.dtype == "int64"}
    constants = morphism.transfer(parent, child, site, nothing | counters, generator())
    found = find_origins(morphism, parent, child, site, generator())
    return any(not torch.equal(after[n][s < 0], constants[n][s < 0]) for n, s in found.sources.items())


@ALL
@EVERYWHERE
def test_the_gradient_of_a_child_is_that_of_its_parent_pushed(morphism: Morphism, architecture: Architecture) -> None:
    for site, child, weights in cases(morphism, architecture, limit=3):
        after = morphism.transfer(architecture, child, site, weights, generator())
        if is_mixed(morphism, architecture, child, site, after):
            continue  # no multiple of the parent's gradient is the child's
        # A norm that has not seen data yet is the identity in eval mode alone.
        train = morphism.exact_train or not morphism.exact
        before, truth = (gradient(a, w, train=train) for a, w in ((architecture, weights), (child, after)))
        pushed = push(morphism, architecture, child, site, {"exp_avg": before}, generator())["exp_avg"]
        found = find_origins(morphism, architecture, child, site, generator())
        tolerance = 1e-10 * max((float(g.abs().max()) for g in before.values()), default=0.0)
        total = shares(found, child)
        # What comes back to the parent along the morphism: the chain rule, for PyTorch's gradient and for ours.
        back = [torch.zeros(sum(w.numel() for w in weights.values()) + 1, dtype=torch.float64) for _ in range(3)]
        for name, moment in pushed.items():
            source, factor = found.sources[name], found.factors[name]
            assert moment.shape == child.params[name].shape
            assert (moment[source < 0] == 0).all()
            # Only incoming weights of copies, of which each has the whole weight, share its gradient unevenly.
            alone = has_own_gradient(source, factor, total[name])
            assert torch.allclose(moment[alone], truth[name][alone], rtol=0, atol=tolerance), (site, name)
            back[0].index_put_((source,), factor * moment, accumulate=True)
            back[1].index_put_((source,), factor * truth[name], accumulate=True)
        flat = [before.get(n, torch.zeros_like(w)).flatten().double() for n, w in weights.items()]
        back[2][:-1] = torch.cat(flat) if flat else back[2][:-1]
        assert torch.allclose(back[0][:-1], back[2][:-1], rtol=0, atol=tolerance)
        assert torch.allclose(back[1][:-1], back[2][:-1], rtol=0, atol=tolerance)
        if not isinstance(morphism, Widen):
            rows = ((found.sources[n], found.factors[n], t) for n, t in total.items())
            assert all(has_own_gradient(*row)[row[0] >= 0].all() for row in rows)


@ALL
@EVERYWHERE
def test_what_did_not_change_keeps_its_moments_exactly(morphism: Morphism, architecture: Architecture) -> None:
    moments = random_moments(architecture, np.random.default_rng(1))
    before = {m: {n: t.clone() for n, t in tensors.items()} for m, tensors in moments.items()}
    for site, child, weights in cases(morphism, architecture):
        after = morphism.transfer(architecture, child, site, weights, generator())
        pushed = push(morphism, architecture, child, site, moments, generator())
        check_moments(child, pushed)
        touched = {n for n in after if n not in weights or after[n] is not weights[n]}
        found = find_origins(morphism, architecture, child, site, generator())
        trained = {n for n, param in child.params.items() if not param.buffer}
        for moment in (*KNOWN, "step"):
            for name in moments[moment].keys() - touched:
                assert torch.equal(pushed[moment][name], moments[moment][name])
                assert pushed[moment][name].dtype == torch.float32
            # A parameter that is all new counts its steps from 0.
            assert pushed[moment].keys() == {
                n for n, source in found.sources.items() if n in trained and source.max() >= 0
            }
        for name in pushed["step"].keys() & moments["step"].keys():
            assert pushed["step"][name] == moments["step"][name]
    assert all(torch.equal(moments[m][n], t) for m, tensors in before.items() for n, t in tensors.items())


@ALL
@EVERYWHERE
def test_second_moments_go_by_the_square(morphism: Morphism, architecture: Architecture) -> None:
    first = random_moments(architecture, np.random.default_rng(1))["exp_avg"]
    first = {name: t.double() for name, t in first.items()}
    second = {name: t.square() for name, t in first.items()}
    for site, child, _ in cases(morphism, architecture):
        pushed = push(morphism, architecture, child, site, {"exp_avg": first, "max_exp_avg_sq": second}, generator())
        assert pushed["exp_avg"].keys() == pushed["max_exp_avg_sq"].keys()
        for name, moment in pushed["exp_avg"].items():
            assert torch.allclose(moment.square(), pushed["max_exp_avg_sq"][name], rtol=1e-14, atol=0)


def test_twins_share_what_comes_in_and_repeat_what_goes_out() -> None:
    # 4 units become 8: each has one copy.
    widen = Widen(2.0, "copy")
    child = widen.apply(MLP, ("a",))
    moments = random_moments(MLP, np.random.default_rng(0))
    pushed = push(widen, MLP, child, ("a",), moments, np.random.default_rng(7))
    copied = np.random.default_rng(7).permutation(4)
    for moment, share in (("momentum_buffer", 2), ("exp_avg_sq", 4)):
        was, now = moments[moment], pushed[moment]
        assert torch.equal(now["a.weight"], torch.cat([was["a.weight"], was["a.weight"][copied]]) / share)
        assert torch.equal(now["a.bias"], torch.cat([was["a.bias"], was["a.bias"][copied]]) / share)
        assert torch.equal(now["b.weight"], torch.cat([was["b.weight"], was["b.weight"][:, copied]], dim=1))
        assert torch.equal(now["fc.weight"], was["fc.weight"])


def test_what_was_not_trained_has_no_moments() -> None:
    widen = Widen(2.0)
    moments = {"exp_avg": {"b.weight": torch.ones(3, 4)}, "step": {"b.weight": torch.tensor(5.0)}}
    pushed = push(widen, MLP, widen.apply(MLP, ("a",)), ("a",), moments, generator())
    assert {m: list(tensors) for m, tensors in pushed.items()} == {"exp_avg": ["b.weight"], "step": ["b.weight"]}
    assert push(widen, MLP, widen.apply(MLP, ("a",)), ("a",), {}, generator()) == {}


@pytest.mark.parametrize("seed", range(5))
def test_a_chain_of_steps_sees_the_draws_of_the_weights(seed: int) -> None:
    rng = np.random.default_rng(seed)
    end = CNN_SPACE.first()
    while len(end.steps) < 4:
        end = CNN_SPACE.random_child(end, rng) or end
    start = CNN_SPACE.replay(end.steps[:1])
    weights = random_weights(start, rng)
    first, second = (np.random.default_rng(9) for _ in range(2))
    after = inherit(CNN_SPACE, end.steps, 1, weights, first)
    pushed = inherit_moments(CNN_SPACE, end.steps, 1, {"exp_avg": gradient(start, weights)}, weights, second)["exp_avg"]
    assert first.bit_generator.state == second.bit_generator.state
    # Along what becomes of any change of the parent, the child's loss changes as the parent's did.
    change = random_weights(start, rng)
    changed = inherit(CNN_SPACE, end.steps, 1, {n: w + change[n] for n, w in weights.items()}, np.random.default_rng(9))
    theirs = sum(float((gradient(start, weights)[name] * change[name]).sum()) for name in gradient(start, weights))
    ours = sum(float((moment * (changed[name] - after[name])).sum()) for name, moment in pushed.items())
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_moments_go_where_the_values_of_the_weights_send_the_weights() -> None:
    space = MorphSpace(MLP, (Widen(2.0, "copy"), PruneChannels(2.0)))
    steps = (Step(Widen(2.0, "copy"), ("a",)), Step(PruneChannels(2.0), ("a",)), Step(PruneChannels(4.0 / 2), ("b",)))
    weights = random_weights(MLP, np.random.default_rng(0))
    moments = {"exp_avg": {n: 3 * w for n, w in weights.items()}}
    after = inherit(space, steps, 0, weights, np.random.default_rng(3))
    pushed = inherit_moments(space, steps, 0, moments, weights, np.random.default_rng(3))["exp_avg"]
    # Copies of a unit share its moments: half of 3 times what the unit has.
    for name in ("a.weight", "b.bias", "fc.weight"):
        ratio = pushed[name] / after[name]
        assert bool(((ratio - 3).abs().minimum((ratio - 1.5).abs()) < 1e-9).all()), name
    assert torch.allclose(pushed["b.bias"], 3 * after["b.bias"])
    with pytest.raises(WeightsMismatchError, match=r"weights must hold 'a.weight'"):
        inherit_moments(space, steps, 0, moments, {}, np.random.default_rng(3))


@pytest.mark.parametrize(
    ("moments", "message"),
    [
        ({"momentum": {}}, "moments must be of .* but got 'momentum'"),
        ({"exp_avg": {"nowhere.weight": torch.ones(1)}}, "exp_avg is of 'nowhere.weight', which is no parameter"),
        ({"exp_avg": {"a.bias": torch.ones(5)}}, r"exp_avg of 'a.bias' must be of shape \(4,\) but is of shape \(5,\)"),
        ({"step": {"a.bias": torch.ones(4)}}, r"step of 'a.bias' must be of shape \(\) but is of shape \(4,\)"),
    ],
)
def test_moments_that_do_not_fit(moments: Any, message: str) -> None:
    with pytest.raises(WeightsMismatchError, match=message):
        check_moments(MLP, moments)
