"""What every morphism must do. A test file subclasses `MorphismContract` and lists instances."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from optuna_nas_morph.errors import MorphismError
from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.morphisms import MORPHISMS, Morphism, Site, find_origins, parse_morphism
from optuna_nas_morph.nets import Network
from tests.morphisms.architectures import HAND_MADE, RANDOM
from tests.morphisms.same_function import difference, in_float32, random_weights, set_mode
from tests.strategies import example_inputs, random_architecture

MAX_SITES = 6
"""Sites per architecture in the tests that compute; the slow test takes all of them."""

BOUNDS = {torch.float32: 1e-5, torch.float64: 1e-12}


class MorphismContract:
    """Subclass it as ``TestWiden`` with the instances to check."""

    morphisms: ClassVar[Sequence[Morphism]]
    """Instances that differ in what they do."""
    draws: ClassVar[bool]
    """Whether `Morphism.transfer` draws anything."""
    adds_parameters: ClassVar[bool] = True
    """Whether every child has more trained parameters than its parent."""
    keeps_nodes: ClassVar[bool] = True
    """Whether every node of a parent is in its children."""
    mixes: ClassVar[bool] = False
    """Whether entries may be linear combinations of several of the parent's."""
    extra: ClassVar[Mapping[str, Architecture]] = {}
    """Architectures beside those that every morphism is checked on."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Every test runs for every morphism, and for every architecture if it takes one."""
        names = metafunc.fixturenames
        morphisms = [pytest.param(m, id=str(m)) for m in self.morphisms]
        if "morphism" in names:
            metafunc.parametrize("morphism", morphisms)
        for fixture, architectures in (("architecture", {**HAND_MADE, **self.extra}), ("wild", RANDOM)):
            if fixture in names:
                metafunc.parametrize(fixture, [pytest.param(a, id=name) for name, a in architectures.items()])

    # The architecture half.

    def test_sites_are_deterministic_and_plain(self, morphism: Morphism, architecture: Architecture) -> None:
        sites = morphism.sites(architecture)
        assert sites == parse_morphism(str(morphism)).sites(Architecture.from_json(architecture.to_json()))
        assert [tuple(s) for s in json.loads(json.dumps(sites))] == list(sites)
        assert len(set(sites)) == len(sites)
        for site in sites:
            assert type(site) is tuple and all(type(part) is str for part in site)
            assert site[0] in architecture.index
        positions = [architecture.index[site[0]] for site in sites]
        assert positions == sorted(positions)

    def test_every_site_applies(self, morphism: Morphism, architecture: Architecture) -> None:
        self._check_apply(morphism, architecture)

    def test_every_site_of_random_architectures_applies(self, morphism: Morphism, wild: Architecture) -> None:
        self._check_apply(morphism, wild)

    def _check_apply(self, morphism: Morphism, architecture: Architecture) -> None:
        text = architecture.to_json()
        for site in morphism.sites(architecture):
            assert morphism.refusal(architecture, site) is None
            child = morphism.apply(architecture, site)
            assert Architecture.from_json(child.to_json()) == child
            assert child == morphism.apply(Architecture.from_json(text), site)
            assert child.fingerprint != architecture.fingerprint
            assert child.n_parameters > architecture.n_parameters or not self.adds_parameters
            assert child.inputs == architecture.inputs
            assert child.specs[child.output] == architecture.specs[architecture.output]
            assert {n.name for n in architecture.nodes} <= {n.name for n in child.nodes} or not self.keeps_nodes
        assert architecture.to_json() == text

    def test_refused_candidates_say_why(self, morphism: Morphism, architecture: Architecture) -> None:
        names = [node.name for node in architecture.nodes]
        made_up: list[Site] = [(), ("nowhere",), ("a", "b", "c"), ("x", "nowhere"), ("nowhere", "0"), ("x", "-1")]
        made_up += [(name,) for name in names] + [(names[0], name) for name in names] + [(names[-1], names[0])]
        candidates = list(morphism.candidates(architecture))
        assert set(morphism.sites(architecture)) <= set(candidates)
        for site in [*candidates, *made_up]:
            reason = morphism.refusal(architecture, site)
            if reason is None:
                assert site in candidates
                continue
            with pytest.raises(MorphismError) as e:
                morphism.apply(architecture, site)
            assert str(e.value) == f"{morphism} cannot be applied at {' '.join(site)!r}: {reason}."
            assert reason and not reason.endswith(".")

    # The weight half.

    def test_transfer_gives_the_parameters_of_the_child(self, morphism: Morphism, architecture: Architecture) -> None:
        self._check_transfer(morphism, architecture)

    def test_transfer_gives_the_parameters_of_random_children(self, morphism: Morphism, wild: Architecture) -> None:
        self._check_transfer(morphism, wild)

    def _check_transfer(self, morphism: Morphism, architecture: Architecture) -> None:
        for site, child, weights in cases(morphism, architecture):
            before = snapshot(weights)
            states = torch.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002
            for given in (weights, in_float32(weights)):
                after = morphism.transfer(architecture, child, site, given, np.random.default_rng(0))
                assert {n: tuple(w.shape) for n, w in after.items()} == {n: p.shape for n, p in child.params.items()}
                kind = next(w.dtype for w in given.values() if w.is_floating_point())
                for name, w in after.items():
                    assert w.dtype == (torch.int64 if child.params[name].dtype == "int64" else kind)
                    assert w.is_contiguous() and not w.requires_grad
                    assert bool(w.isfinite().all())
                assert len({w.untyped_storage().data_ptr() for w in after.values()}) == len(after)
            assert snapshot(weights) == before
            assert bool((states[0] == torch.get_rng_state()).all())
            assert states[1] == repr(np.random.get_state())  # noqa: NPY002

    def test_weights_are_multiples_of_the_parents_plus_constants(
        self, morphism: Morphism, architecture: Architecture
    ) -> None:
        for site, child, weights in cases(morphism, architecture):
            first, second = np.random.default_rng(3), np.random.default_rng(3)
            settled = morphism.settled(architecture, site, weights)
            found = find_origins(settled, architecture, child, site, first)
            after = morphism.transfer(architecture, child, site, weights, second)
            assert first.bit_generator.state == second.bit_generator.state
            nothing = {n: torch.zeros_like(w) for n, w in weights.items()}
            constants = settled.transfer(architecture, child, site, nothing, np.random.default_rng(3))
            numbered = torch.cat([*(w.flatten().double() for w in weights.values()), torch.zeros(1).double()])
            assert list(weights) == list(architecture.params)
            floats = {n: w for n, w in after.items() if w.is_floating_point()}
            assert found.sources.keys() == found.factors.keys() == floats.keys()
            for name, w in floats.items():
                source, factor = found.sources[name], found.factors[name]
                assert ((factor == 0) == (source == -1)).all()
                again = (factor * numbered[source] + constants[name]).to(w.dtype)
                explained = source >= 0 if self.mixes else torch.ones_like(source, dtype=torch.bool)
                assert torch.allclose(w[explained], again[explained], rtol=1e-12, atol=1e-12), f"{site}: {name}"

    def test_the_same_seed_gives_the_same_bytes(self, morphism: Morphism, architecture: Architecture) -> None:
        for site, child, weights in cases(morphism, architecture):
            first, again, other = (
                snapshot(morphism.transfer(architecture, child, site, weights, np.random.default_rng(seed)))
                for seed in (5, 5, 6)
            )
            assert first == again
            assert (first != other) == self.draws, f"{site}: does a second seed give other weights?"

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
    def test_the_function_stays(self, morphism: Morphism, architecture: Architecture, dtype: torch.dtype) -> None:
        self._check_function(morphism, architecture, dtype)

    def test_the_function_of_random_architectures_stays(self, morphism: Morphism, wild: Architecture) -> None:
        self._check_function(morphism, wild, torch.float64)

    @pytest.mark.slow
    def test_the_function_stays_at_every_site(self, morphism: Morphism) -> None:
        wild = [random_architecture(np.random.default_rng([1, i])) for i in range(40)]
        for architecture in (*HAND_MADE.values(), *self.extra.values(), *wild):
            self._check_function(morphism, architecture, torch.float64, limit=1000)

    def _check_function(
        self, morphism: Morphism, architecture: Architecture, dtype: torch.dtype, limit: int = MAX_SITES
    ) -> None:
        for site, child, weights in cases(morphism, architecture, limit):
            given = weights if dtype == torch.float64 else in_float32(weights)
            after = morphism.transfer(architecture, child, site, given, np.random.default_rng(0))
            bound = BOUNDS[dtype if given else torch.float32]  # nothing makes a network without weights float64
            for train in [False] * morphism.exact + [True] * morphism.exact_train:
                moved = difference(architecture, given, child, after, train=train)
                mode = "train" if train else "eval"
                assert moved <= bound, f"{site}, {mode}: outputs move by {moved:.2g} of their deviation"

    def test_what_is_new_can_learn(self, morphism: Morphism, architecture: Architecture) -> None:
        for site, child, weights in cases(morphism, architecture):
            after = morphism.transfer(architecture, child, site, weights, np.random.default_rng(0))
            trained = train(child, after, n_steps=3)
            touched = [
                node.name
                for node in child.nodes
                if any(
                    name not in architecture.params or architecture.params[name].shape != param.shape
                    for name, param in child.params.items()
                    if name.rpartition(".")[0].split(".")[0] == node.name and not param.buffer
                )
            ]
            assert touched or not self.keeps_nodes
            for node in touched:
                names = [n for n, p in child.params.items() if n.split(".")[0] == node and not p.buffer]
                assert any(not torch.equal(trained[n], after[n]) for n in names), f"{site}: {node} does not learn"

    # Text.

    def test_text_round_trip(self, morphism: Morphism) -> None:
        assert parse_morphism(str(morphism)) == morphism
        assert str(parse_morphism(str(morphism))) == str(morphism)
        assert MORPHISMS[morphism.morphism_name] is type(morphism)
        assert hash(parse_morphism(str(morphism))) == hash(morphism)


@functools.cache
def _cases(morphism: Morphism, architecture: Architecture, limit: int) -> tuple[tuple[Site, Architecture], ...]:
    sites = morphism.sites(architecture)
    places = np.unique(np.linspace(0, len(sites) - 1, min(limit, len(sites))).round().astype(int)).tolist()
    return tuple((sites[i], morphism.apply(architecture, sites[i])) for i in places)


def cases(
    morphism: Morphism, architecture: Architecture, limit: int = MAX_SITES
) -> Iterator[tuple[Site, Architecture, dict[str, Tensor]]]:
    """Sites from first to last, the child there, and other random weights for the parent each time."""
    for i, (site, child) in enumerate(_cases(morphism, architecture, limit)):
        yield site, child, random_weights(architecture, np.random.default_rng(i))


def snapshot(weights: Mapping[str, Tensor]) -> dict[str, bytes]:
    """Every byte."""
    return {name: w.numpy().tobytes() for name, w in weights.items()}


def train(
    architecture: Architecture,
    weights: Mapping[str, Tensor],
    n_steps: int,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
) -> dict[str, Tensor]:
    """Weights after a few steps towards random targets."""
    net = Network(architecture).double()
    net.load_state_dict(weights)
    set_mode(net, train=True)
    inputs = [x.double() if x.is_floating_point() else x for x in example_inputs(architecture, 16, 1)]
    target = torch.randn(net(*inputs).shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    steps = optimizer(net.parameters(), lr=0.01)
    for _ in range(n_steps):
        steps.zero_grad()
        loss = (net(*inputs) - target).square().mean()
        loss.backward()
        steps.step()
    return {name: w.detach().clone() for name, w in net.state_dict().items()}
