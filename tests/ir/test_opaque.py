"""A part of a user's network: what it says of itself, and what it keeps to itself."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.ir import Architecture, Node
from optuna_nas_morph.ir.ops import Conv, GlobalPool, Input, Linear, Opaque, op_from_dict
from optuna_nas_morph.morphisms import Widen
from optuna_nas_morph.nets import Network

NORM = nn.GroupNorm(2, 4)
OP = Opaque(
    "GroupNorm", ((4, 5, 5),), (4, 5, 5), "ab" * 16, 0, "float32", tuple(
        (name, tuple(t.shape), "float32", True) for name, t in NORM.state_dict().items()
    ), 3, NORM,
)  # fmt: skip


def architecture(op: Opaque = OP) -> Architecture:
    return Architecture(
        (
            Node("x", Input((3, 5, 5))),
            Node("before", Conv.same(2, 4, 3), ("x",)),
            Node("own", op, ("before",)),
            Node("after", Conv.same(2, 6, 3), ("own",)),
            Node("pool", GlobalPool(), ("after",)),
            Node("head", Linear(2), ("pool",)),
        )
    )


OTHERS: dict[str, Any] = {
    "kind": "InstanceNorm",
    "digest": "cd" * 16,
    "tensors": (("weight", (4,), "float32", True),),
    "n_flops": 4,
}


@pytest.mark.parametrize("field", OTHERS)
def test_two_that_differ_are_not_equal(field: str) -> None:
    other = replace(OP, **{field: OTHERS[field]})
    assert other != OP and other.key != OP.key
    assert architecture(other).fingerprint != architecture().fingerprint


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (OP, replace(OP, input_shapes=((4, 5, 5), (4, 5, 5)))),
        (replace(OP, shape=(4, 5)), replace(OP, shape=(4, 5), channel_axis=1)),
        (replace(OP, shape=(4, 5)), replace(OP, shape=(4, 6))),
        (OP, replace(OP, dtype="int64")),
    ],
)
def test_two_of_other_shapes_are_not_equal(first: Opaque, second: Opaque) -> None:
    assert first != second and first.key != second.key


def test_the_module_is_not_compared_and_not_written() -> None:
    bare = replace(OP, module=None)
    assert bare == OP and hash(bare) == hash(OP) and bare.key == OP.key
    assert "module" not in OP.to_dict() and "module" not in repr(OP)
    again = Architecture.from_json(architecture().to_json())
    assert again == architecture() and again.fingerprint == architecture().fingerprint
    assert again["own"].op.module is None  # type: ignore[attr-defined]


def test_a_module_in_json_is_refused() -> None:
    data = {**json.loads(json.dumps(OP.to_dict())), "module": "torch.nn.GroupNorm"}
    with pytest.raises(ArchitectureError, match=r"opaque: unknown fields \['module'\]"):
        op_from_dict(data)


@pytest.mark.parametrize("module", ["GroupNorm", 1, lambda x: x])
def test_a_module_is_a_module(module: Any) -> None:
    with pytest.raises(ArchitectureError, match=r"opaque: module must be an nn\.Module or None"):
        replace(OP, module=module)


def test_without_its_module_there_is_no_network() -> None:
    bare = Architecture.from_json(architecture().to_json())
    with pytest.raises(ArchitectureError, match=r"node 'own': opaque: .*GroupNorm is not at hand: use the space that"):
        Network(bare)
    # All else is known.
    assert (bare.n_parameters, bare.flops) == (architecture().n_parameters, architecture().flops)
    assert str(bare) == str(architecture())


def test_every_network_has_its_own_copy() -> None:
    first, second = Network(architecture()), Network(architecture())
    with torch.no_grad():
        first.own.weight.zero_()  # type: ignore[union-attr, operator]
    assert second.own.weight.sum() == NORM.weight.sum() == 4  # type: ignore[union-attr, operator]
    assert sum(p.numel() for p in first.parameters()) == architecture().n_parameters
    assert set(first.state_dict()) == set(architecture().params)
    assert architecture().params["own.weight"].axes == (None,)


def test_a_new_network_is_in_train_mode_as_a_whole() -> None:
    module = nn.Sequential(nn.Dropout(), nn.GroupNorm(2, 4)).eval()
    tensors = tuple((name, tuple(t.shape), "float32", True) for name, t in module.state_dict().items())
    network = Network(architecture(replace(OP, module=module, tensors=tensors)))
    assert all(part.training for part in network.modules())
    assert not module.training


def test_copies_of_a_network_share_what_it_was_made_of() -> None:
    network = copy.deepcopy(Network(architecture()))
    assert network.architecture["own"].op.module is NORM  # type: ignore[attr-defined]
    again = pickle.loads(pickle.dumps(network))
    assert torch.equal(again.own.weight, network.own.weight)  # type: ignore[arg-type, union-attr]


def test_widths_at_its_ends_do_not_change() -> None:
    groups = architecture().groups
    blocked = {site[0]: reasons for site, reasons in zip(groups.sites, groups.blockers, strict=True)}
    assert blocked["before"] == blocked["own"] == ("opaque GroupNorm 'own'",)
    assert blocked["after"] == ()
    assert Widen(2.0).sites(architecture()) == (("after",),)
    refusal = Widen(2.0).refusal(architecture(), ("before",))
    assert refusal == "its width is tied to opaque GroupNorm 'own'"


def test_a_graph_kernel_sees_its_kind() -> None:
    assert architecture().kernel_graph().labels[2] == "GroupNorm"


def test_buffers_are_no_parameters() -> None:
    tensors = (("w", (2, 3), "float32", True), ("again", (2, 3), "float32", False), ("n", (), "int64", False))
    op = replace(OP, tensors=tensors, module=None)
    params = op.params([])
    assert {name: (p.buffer, p.dtype) for name, p in params.items()} == {
        "w": (False, "float32"),
        "again": (True, "float32"),
        "n": (True, "int64"),
    }
