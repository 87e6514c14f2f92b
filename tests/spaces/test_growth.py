"""What can grow is what widening changes."""

from __future__ import annotations

import pytest

from optuna_nas_morph import presets
from optuna_nas_morph.ir import Architecture, Node
from optuna_nas_morph.ir.ops import Activation, Conv, GlobalPool, Input, LayerNorm, Linear, SelfAttention
from optuna_nas_morph.morphisms import AddHead, Deepen, Widen, WidenHidden
from optuna_nas_morph.spaces import DEFAULT_MORPHISMS, TRANSFORMER_MORPHISMS, MorphSpace, default_morphisms
from tests.translation.zoo import MIXED, PLAIN, made

# Shares of parameters; what is left is tied to the input's three channels (a depthwise convolution would be) or has no
# width that the output does not fix.
SHARES = dict.fromkeys(PLAIN, 1.0) | {"pre_activation": 0.0}


def widened(architecture: Architecture) -> set[str]:
    """Nodes whose parameters change their shape in some widening."""
    found: set[str] = set()
    for morphism in (Widen(2.0), WidenHidden(2.0), AddHead()):
        for site in morphism.sites(architecture):
            shapes = {name: p.shape for name, p in morphism.apply(architecture, site).params.items()}
            found |= {name.split(".")[0] for name, p in architecture.params.items() if p.shape != shapes[name]}
    return found


@pytest.mark.parametrize("name", PLAIN)
def test_networks_that_grow(name: str) -> None:
    space = MorphSpace.from_module(*made(name))
    growth = space.growth
    assert growth.share == SHARES[name]
    assert {n.name for n in growth.nodes if not n.reasons} == widened(space.seed)
    assert sum(n.n_parameters for n in growth.nodes) == space.seed.n_parameters
    assert growth.places == tuple(site for (site,) in Deepen("relu").sites(space.seed))


@pytest.mark.parametrize("space", [presets.cnn((3, 8, 8), 2), presets.densenet((3, 8, 8), 2)])
def test_presets_grow_as_a_whole(space: MorphSpace) -> None:
    assert space.growth.share == 1.0
    assert {n.name for n in space.growth.nodes} == widened(space.seed)


def test_what_cannot_grow_says_why() -> None:
    architecture = Architecture(
        (
            Node("tokens", Input((5, 8), channel_axis=1)),
            Node("norm", LayerNorm(), ("tokens",)),
            Node("attention", SelfAttention(2, 4, 8), ("norm",)),
            Node("last", LayerNorm(), ("attention",)),
            Node("pool", GlobalPool(), ("last",)),
            Node("hidden", Linear(4), ("pool",)),
            Node("relu", Activation("relu"), ("hidden",)),
            Node("head", Linear(2), ("relu",)),
        )
    )
    growth = MorphSpace(architecture).growth
    reasons = {n.name: n.reasons for n in growth.nodes}
    assert reasons == {
        "norm": ("network input 'tokens'", "layer norm 'norm'"),
        "attention": (),
        "last": (),
        "hidden": (),
        "head": (),
    }
    n = 4 * 72 + 16 + 46
    assert growth.share == n / (n + 16)
    text = str(growth)
    assert text.startswith(
        f"96% of {n + 16} parameters are in layers that can be made wider; new ones can be inserted at"
    )
    assert "\n  norm (ln, 16 parameters): network input 'tokens', layer norm 'norm'" in text
    assert "hidden" not in text


def test_nothing_to_grow() -> None:
    plain = Architecture((Node("x", Input((3, 4, 4))), Node("pool", GlobalPool(), ("x",))))
    assert MorphSpace(plain).growth.share == 0.0
    one = Architecture((Node("x", Input((3, 4, 4))), Node("conv", Conv.same(2, 3, 3), ("x",))))
    assert [n.reasons for n in MorphSpace(one).growth.nodes] == [("network output 'conv'", "network input 'x'")]


@pytest.mark.parametrize("name", MIXED)
def test_networks_with_opaque_parts(name: str) -> None:
    space = MorphSpace.from_module(*made(name))
    growth = space.growth
    assert 0 < growth.share < 1
    assert {n.name for n in growth.nodes if not n.reasons} == widened(space.seed)
    opaque = {node.name for node in space.seed.nodes if node.op.op_name == "opaque"}
    for node in growth.nodes:
        if node.name in opaque:
            assert node.reasons == ("opaque",)


def test_what_an_opaque_part_ties_is_named() -> None:
    growth = MorphSpace.from_module(*made("lstm")).growth
    assert {n.name: n.reasons for n in growth.nodes} == {
        "embed": ("opaque LSTM 'lstm'",),
        "lstm": ("opaque",),
        "head_0": (),
        "head_2": (),
    }
    assert "\n  lstm (LSTM, 512 parameters): opaque" in str(growth)


def test_default_morphisms_are_those_that_a_network_has_a_place_for() -> None:
    def own(space: MorphSpace) -> tuple[str, ...]:
        return tuple(map(str, default_morphisms(space.seed)[len(DEFAULT_MORPHISMS) :]))

    assert own(presets.cnn((3, 8, 8), 2)) == ()
    assert own(presets.vit((3, 8, 8), 2)) == tuple(map(str, TRANSFORMER_MORPHISMS))
    assert own(MorphSpace.from_module(*made("vit"))) == ("insert_transformer_block:4",)
    assert MorphSpace.from_module(*made("vit")).morphisms == default_morphisms(
        MorphSpace.from_module(*made("vit")).seed
    )
