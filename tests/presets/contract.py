"""What every preset must do. A test file subclasses `PresetContract`, names the preset and freezes its defaults."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.morphisms import Widen, fresh_weights
from optuna_nas_morph.nets import Network
from optuna_nas_morph.spaces import MorphSpace

Shape = tuple[int, ...]

LIMITS = ("max_parameters", "max_flops", "max_nodes")
TASKS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "classes": (F.cross_entropy, lambda noise: noise.argmax(1)),
    "labels": (F.binary_cross_entropy_with_logits, lambda noise: (noise > 0).float()),
    "numbers": (F.mse_loss, lambda noise: noise),
}
"""Loss of each, and what makes its targets of standard normal noise of shape (N, outputs)."""


@dataclass(frozen=True)
class Frozen:
    """Defaults that stay within a minor version, for ten classes.

    Args:
        input_shape:
            Shape of one sample.
        fingerprint:
            That of the seed.
        morphisms:
            Their texts.
        limits:
            Most morphisms, parameters, FLOPs and nodes.
        digest:
            That of the space: a study is resumed only with the same one. It covers names of nodes too.
    """

    input_shape: Shape
    fingerprint: str
    morphisms: tuple[str, ...]
    limits: tuple[int, int, int, int]
    digest: str


class PresetContract:
    """Subclass it as ``TestCnn``; the preset goes in as ``preset = staticmethod(presets.cnn)``."""

    preset: ClassVar[Callable[..., MorphSpace]]
    shapes: ClassVar[Sequence[Shape]]
    """Shapes to try, the first one small, the last one the smallest that is allowed."""
    large_shapes: ClassVar[Sequence[Shape]]
    """Shapes on which networks are only checked on the meta device."""
    bad_shapes: ClassVar[Sequence[Any]]
    """Shapes of another rank, and too small ones."""
    options: ClassVar[Sequence[tuple[str, int]]]
    """Every number that is the preset's own, with a value that is not the default."""
    other_options: ClassVar[Sequence[tuple[str, Any]]] = ()
    """Every other argument that is the preset's own, likewise."""
    frozen: ClassVar[Frozen]

    def batch(self, n: int, shape: Shape, generator: torch.Generator | None = None) -> Tensor:
        """Random samples."""
        return torch.randn(n, *shape, generator=generator)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Tests that take a shape run for every one; with ``any_shape`` for the large ones too."""
        for fixture, shapes in (("shape", self.shapes), ("any_shape", (*self.shapes, *self.large_shapes))):
            if fixture in metafunc.fixturenames:
                metafunc.parametrize(fixture, shapes, ids=["x".join(map(str, s)) for s in shapes])
        if "bad_shape" in metafunc.fixturenames:
            metafunc.parametrize("bad_shape", self.bad_shapes, ids=repr)
        if "option" in metafunc.fixturenames:
            options = (*self.options, *self.other_options)
            metafunc.parametrize("option", options, ids=[name for name, _ in options])

    # The seed.

    @pytest.mark.parametrize("n_classes", [1, 7])
    def test_the_network_gives_one_output_per_class(self, shape: Shape, n_classes: int) -> None:
        architecture = self.preset(input_shape=shape, n_classes=n_classes).seed
        assert architecture.specs[architecture.inputs[0]].shape == shape
        assert architecture.specs[architecture.output].shape == (n_classes,)
        network = Network(architecture)
        for train in (True, False):
            assert network.train(train)(self.batch(3, shape)).shape == (3, n_classes)

    def test_costs_are_those_of_pytorch(self, any_shape: Shape) -> None:
        architecture = self.preset(any_shape, 10).seed
        with torch.device("meta"):
            network = Network(architecture).eval()
            assert sum(p.numel() for p in network.parameters()) == architecture.n_parameters
            with FlopCounterMode(display=False) as counter:
                assert network(self.batch(1, any_shape)).shape == (1, 10)
        assert counter.get_total_flops() == architecture.flops

    def test_no_map_gets_too_small(self, any_shape: Shape) -> None:
        architecture = self.preset(any_shape, 10).seed
        smallest = min(self.shapes[-1][1:], default=0)
        squeezed: set[str] = set()  # to one position, for a gate
        for node in architecture.nodes:
            if node.op.op_name == "adaptive_pool" or (node.inputs and squeezed.issuperset(node.inputs)):
                squeezed.add(node.name)
            elif node.name not in squeezed:
                assert min(architecture.specs[node.name].spatial, default=smallest) >= smallest, node.name

    def test_names_are_words_or_numbered(self, any_shape: Shape) -> None:
        architecture = self.preset(any_shape, 10).seed
        taken = dir(torch.nn.Module)
        for node in architecture.nodes:
            assert re.fullmatch(r"[a-z]+|[a-z]+(_[a-z]+)*_[1-9][0-9]*", node.name)
            assert node.name not in taken
        assert (architecture.inputs, architecture.output) == (("input",), "head")

    def test_no_bias_before_a_batch_norm(self, any_shape: Shape) -> None:
        architecture = self.preset(any_shape, 10).seed
        for node in architecture.nodes:
            if node.op.op_name == "batch_norm" and hasattr(op := architecture[node.inputs[0]].op, "bias"):
                assert not op.bias

    @pytest.mark.parametrize("task", TASKS)
    def test_it_learns(self, task: str) -> None:
        loss_of, target = TASKS[task]
        shape, n_outputs = self.shapes[0], 4
        architecture = self.preset(shape, n_outputs).seed
        network = Network(architecture)
        network.load_state_dict(fresh_weights(architecture, np.random.default_rng(0)))
        generator = torch.Generator().manual_seed(0)
        x = self.batch(16, shape, generator)
        y = target(torch.randn(16, n_outputs, generator=generator))
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
        losses = []
        for _ in range(20):
            optimizer.zero_grad()
            loss = loss_of(network(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.5 * losses[0]

    # The space.

    def test_every_morphism_has_room(self, any_shape: Shape) -> None:
        if any_shape == self.shapes[-1]:
            pytest.skip("on the smallest inputs kernels cannot grow")
        space = self.preset(any_shape, 10)
        for morphism in space.morphisms:
            assert space.nearest(space.seed, morphism, 0.5) is not None, f"no room for {morphism}"

    def test_the_seed_is_small(self, any_shape: Shape) -> None:
        space = self.preset(any_shape, 10)
        assert 8 * space.seed.n_parameters <= space.max_parameters
        assert 8 * space.seed.flops <= space.max_flops
        assert 2 * len(space.seed.nodes) <= space.max_nodes

    @pytest.mark.parametrize("seed", range(2))
    def test_a_random_walk_stays_within_the_limits(self, shape: Shape, seed: int) -> None:
        space = self.preset(shape, 10)
        end = walk(space, seed)
        assert end.n_parameters > space.seed.n_parameters
        assert Network(end).eval()(self.batch(2, shape)).shape == (2, 10)

    @pytest.mark.parametrize(
        ("limit", "room"), [("max_parameters", 300), ("max_parameters", 6_000), ("max_flops", 30_000), ("max_nodes", 4)]
    )
    def test_tight_limits_hold(self, limit: str, room: int) -> None:
        seed = self.preset(self.shapes[0], 10).seed
        space = self.preset(self.shapes[0], 10, **{limit: size(seed, limit) + room})
        for k in range(3):
            assert size(walk(space, k), limit) <= size(seed, limit) + room

    def test_the_description_makes_the_space_again(self, any_shape: Shape) -> None:
        space = self.preset(any_shape, 10)
        again = MorphSpace.from_dict(space.to_dict())
        assert again == space
        assert again.digest == space.digest

    def test_two_calls_give_one_space(self, any_shape: Shape) -> None:
        space, again = self.preset(any_shape, 10), self.preset(list(any_shape), np.int64(10))
        assert again == space
        assert again.digest == space.digest
        assert again.seed.to_json() == space.seed.to_json()

    def test_defaults_are_frozen(self) -> None:
        space = self.preset(self.frozen.input_shape, 10)
        assert (
            Frozen(
                self.frozen.input_shape,
                space.seed.fingerprint,
                tuple(map(str, space.morphisms)),
                (space.max_morphisms, space.max_parameters, space.max_flops, space.max_nodes),
                space.digest,
            )
            == self.frozen
        )

    # Arguments.

    def test_common_arguments_reach_the_space(self) -> None:
        limits = {"max_morphisms": 3, "max_parameters": 10**9, "max_flops": 10**12, "max_nodes": 333}
        space = self.preset(self.shapes[0], 10, morphisms=[Widen(3.0)], **limits)
        assert space.morphisms == (Widen(3.0),)
        assert {name: getattr(space, name) for name in limits} == limits

    def test_own_arguments_change_the_seed(self, option: tuple[str, Any]) -> None:
        name, value = option
        seed = self.preset(self.shapes[0], 10).seed
        for other in (value, 1) if option in self.options else (value,):
            changed = self.preset(self.shapes[0], 10, **{name: other}).seed
            assert changed.specs[changed.output].shape == (10,)
        assert self.preset(self.shapes[0], 10, **{name: value}).seed != seed

    def test_all_own_arguments_are_tested(self) -> None:
        common = {"input_shape", "n_classes", "morphisms", "max_morphisms", *LIMITS}
        assert set(inspect.signature(self.preset).parameters) - common == {
            *dict(self.options),
            *dict(self.other_options),
        }

    def test_stages_may_differ_in_depth(self) -> None:
        if "n_stages" not in dict(self.options):
            pytest.skip("there are no stages")

        def n_nodes(depth: Any) -> int:
            return len(self.preset(self.shapes[0], 10, depth=depth, n_stages=2).seed.nodes)

        one, two, three = n_nodes(1), n_nodes(2), n_nodes(3)
        assert n_nodes((2, 2)) == n_nodes([np.int64(2), 2]) == two
        assert (n_nodes((1, 2)) - one) + (n_nodes((2, 1)) - one) == two - one
        assert n_nodes((3, 1)) + n_nodes((1, 3)) == one + three
        for depth in ((), (2,), (2, 2, 2), (2, 0), (2, 1.0), "22"):
            with pytest.raises(ValueError, match=rf"depth must be .* but got {re.escape(repr(depth))}\."):
                n_nodes(depth)

    def test_deep_seeds_have_room(self) -> None:
        space = self.preset(self.shapes[0], 10, depth=20)
        assert 2 * len(space.seed.nodes) <= space.max_nodes

    @pytest.mark.parametrize("value", [0, -1, 2.0, True, "3", None])
    def test_bad_integers_are_refused(self, value: Any) -> None:
        defaults = {name: p.default for name, p in inspect.signature(self.preset).parameters.items()}
        for name in ("n_classes", *dict(self.options)):
            if value is None and defaults[name] is None:
                continue  # it says something there
            with pytest.raises(ValueError, match=re.escape(f"{name} must be a positive integer but got {value!r}.")):
                self.preset(self.shapes[0], **{"n_classes": 10, name: value})

    @pytest.mark.parametrize("shape_", [(), 8, None, "888"], ids=repr)
    def test_what_is_no_shape_is_refused(self, shape_: Any) -> None:
        with pytest.raises(ValueError, match=rf"input_shape must be .* but got {re.escape(repr(shape_))}\."):
            self.preset(shape_, 10)

    def test_bad_shapes_are_refused(self, bad_shape: Any) -> None:
        with pytest.raises(ValueError, match=rf"input_shape must be .* but got {re.escape(repr(bad_shape))}\."):
            self.preset(bad_shape, 10)

    @pytest.mark.parametrize("limit", LIMITS)
    def test_limits_below_the_seed_are_refused(self, limit: str) -> None:
        too_low = size(self.preset(self.shapes[0], 10).seed, limit) - 1
        with pytest.raises(ValueError, match=f"{limit}={too_low}"):
            self.preset(self.shapes[0], 10, **{limit: too_low})

    @pytest.mark.parametrize("limit", ["max_morphisms", *LIMITS])
    def test_limits_that_are_no_positive_integers_are_refused(self, limit: str) -> None:
        with pytest.raises(ValueError, match=f"{limit} must be a positive integer but got 0"):
            self.preset(self.shapes[0], 10, **{limit: 0})

    def test_no_morphisms_are_refused(self) -> None:
        with pytest.raises(ValueError, match="morphisms must be a non-empty sequence"):
            self.preset(self.shapes[0], 10, morphisms=())


def walk(space: MorphSpace, seed: int, n_steps: int = 12) -> Architecture:
    """The end of a random chain of steps, all of which were checked."""
    rng = np.random.default_rng(seed)
    architecture, steps = space.seed, []
    for _ in range(n_steps):
        morphism = space.morphisms[int(rng.integers(len(space.morphisms)))]
        found = space.nearest(architecture, morphism, rng.uniform())
        if found is not None:
            step, architecture = found
            steps.append(step)
            assert space.violation(architecture) is None
            assert architecture.n_parameters <= space.max_parameters
            assert architecture.flops <= space.max_flops
            assert len(architecture.nodes) <= space.max_nodes
            assert architecture.specs[architecture.output] == space.seed.specs[space.seed.output]
    assert space.replay(steps) == architecture
    return architecture


def size(architecture: Architecture, limit: str) -> int:
    """What a limit is about."""
    return {
        "max_parameters": architecture.n_parameters,
        "max_flops": architecture.flops,
        "max_nodes": len(architecture.nodes),
    }[limit]
