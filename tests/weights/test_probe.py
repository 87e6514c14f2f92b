"""What a batch of data tells of inherited weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from torch import Tensor, nn

from optuna_nas_morph import MorphSpace, publish_weights, suggest_architecture, suggest_network
from optuna_nas_morph.morphisms import DropLayer, InsertBatchNorm, Widen
from optuna_nas_morph.nets import Network, example_inputs
from optuna_nas_morph.spaces import Step
from optuna_nas_morph.weights.inherit import inherit
from optuna_nas_morph.weights.probe import calibrated, check_probe, drift
from tests.morphisms.architectures import HAND_MADE
from tests.morphisms.same_function import outputs, random_weights
from tests.studies import quick_sampler

SPACE = MorphSpace(HAND_MADE["residual"], morphisms=(InsertBatchNorm(), Widen(2.0), DropLayer()))
BATCH = example_inputs(SPACE.seed, 16)
NORMS = (Step(InsertBatchNorm(), ("b1",)), Step(InsertBatchNorm(), ("b_proj",)))


def grown(*steps: Step, n_done: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Random weights in float64 of an architecture on the way, and those that the end of the way inherits."""
    before = random_weights(SPACE.replay(steps[:n_done]), np.random.default_rng(0))
    return before, inherit(SPACE, steps, n_done, before, np.random.default_rng(0))


def moved(steps: tuple[Step, ...], before: dict[str, Tensor], after: dict[str, Tensor], train: bool) -> float:
    y = outputs(SPACE.seed, before, BATCH, train=train)
    z = outputs(SPACE.replay(steps), after, BATCH, train=train)
    return float((y - z).abs().max() / y.std())


def test_calibrated_norms_change_nothing_on_their_batch() -> None:
    steps = NORMS
    before, after = grown(*steps)
    assert moved(steps, before, after, train=False) < 1e-12
    assert moved(steps, before, after, train=True) > 0.1
    seen = calibrated(SPACE, steps, 0, after, [x.double() for x in BATCH])
    assert moved(steps, before, seen, train=False) < 1e-12
    changed = {name for name in seen if not torch.equal(seen[name], after[name])}
    parts = ("weight", "bias", "running_mean", "running_var")
    assert changed == {f"{n}.{part}" for n in ("bn_1", "bn_2") for part in parts}
    # With all other norms in eval mode, the new ones are the identity in train mode too.
    network = Network(SPACE.replay(steps)).double().eval()
    network.load_state_dict(seen)
    expected = network(*(x.double() for x in BATCH))
    for name in ("bn_1", "bn_2"):
        network.get_submodule(name).train()
    torch.testing.assert_close(network(*(x.double() for x in BATCH)), expected, rtol=1e-10, atol=1e-10)


def test_statistics_are_those_that_pytorch_finds() -> None:
    steps = NORMS
    _, after = grown(*steps)
    seen = calibrated(SPACE, steps, 0, after, [x.double() for x in BATCH])
    network = Network(SPACE.replay(steps)).double().eval()
    network.load_state_dict(after)
    norms = {name: network.get_submodule(name) for name in ("bn_1", "bn_2")}
    for norm in norms.values():
        assert isinstance(norm, nn.BatchNorm2d)
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        network(*(x.double() for x in BATCH))
    n = len(BATCH[0]) * math.prod(SPACE.seed.specs["b1"].spatial)
    found = network.get_buffer("bn_1.running_var") * (n - 1) / n  # running variances are unbiased, batch ones are not
    torch.testing.assert_close(seen["bn_1.running_mean"], network.get_buffer("bn_1.running_mean"))
    torch.testing.assert_close(seen["bn_1.running_var"], found)


def test_norms_that_the_donor_had_keep_theirs() -> None:
    steps = NORMS
    _, after = grown(*steps, n_done=1)
    seen = calibrated(SPACE, steps, 1, after, [x.double() for x in BATCH])
    assert {name.split(".")[0] for name in seen if not torch.equal(seen[name], after[name])} == {"bn_2"}
    assert calibrated(SPACE, steps, 2, after, BATCH) == after


def test_a_norm_widened_since_is_calibrated_as_it_is() -> None:
    steps = (NORMS[0], Step(Widen(2.0), ("b1",)))
    before, after = grown(*steps)
    seen = calibrated(SPACE, steps, 0, after, [x.double() for x in BATCH])
    assert len(seen["bn_1.running_mean"]) == 2 * len(random_weights(SPACE.seed, np.random.default_rng(0))["b1.bias"])
    assert moved(steps, before, seen, train=False) < 1e-12


def test_drift_is_relative_to_how_outputs_vary() -> None:
    network = Network(SPACE.seed).double().eval()
    before = random_weights(SPACE.seed, np.random.default_rng(0))
    network.load_state_dict(before)
    batch = tuple(x.double() for x in BATCH)
    with torch.no_grad():
        y = network(*batch).numpy()
    after = {**before, "fc.bias": before["fc.bias"] + 0.5}
    expected = 0.5 / np.sqrt(((y - y.mean(0)) ** 2).mean())
    assert drift(SPACE.seed, before, SPACE.seed, after, batch) == pytest.approx(expected)
    assert drift(SPACE.seed, before, SPACE.seed, before, batch) == 0
    silent = {name: torch.zeros_like(w) for name, w in before.items()}
    assert drift(SPACE.seed, silent, SPACE.seed, after, batch) is None


def test_a_study_records_drift() -> None:
    def objective(trial: optuna.Trial) -> float:
        network = suggest_network(trial, SPACE, budget=1, probe=BATCH[0])
        publish_weights(trial, network)
        return float(network.architecture.n_parameters)

    study = optuna.create_study(sampler=quick_sampler(100))
    for chain in ((), ("insert_batch_norm", "b1"), ("drop_layer", "b2")):
        study.enqueue_trial(params_of(*chain))
        study.optimize(objective, n_trials=1)
    seed, normed, dropped = (t.user_attrs for t in study.trials)
    assert "nasmorph:drift" not in seed
    assert normed["nasmorph:donor"] == dropped["nasmorph:donor"] == 0
    assert normed["nasmorph:drift"] < 1e-5
    assert dropped["nasmorph:drift"] > 0.01


def params_of(morphism: str = "", node: str = "") -> dict[str, Any]:
    if not morphism:
        return {"arch/n": 0}
    (found,) = (m for m in SPACE.morphisms if m.morphism_name == morphism)
    sites = SPACE.sites(SPACE.seed, found)
    return {"arch/n": 1, "arch/00/op": str(found), "arch/00/at": (sites.index((node,)) + 0.5) / len(sites)}


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        (BATCH[0][:1], "batch of at least 2 samples of shape"),
        (BATCH[0][:, :1], "batch of at least 2 samples of shape"),
        ([BATCH[0], BATCH[0]], "hold 1 tensors, one per input of the network, but holds 2"),
        (["x"], ".*but is str"),
    ],
)
def test_bad_probes(probe: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^probe must (be a )?{message}"):
        check_probe(SPACE.seed, probe)
    study = optuna.create_study()
    with pytest.raises(ValueError, match=r"^probe must"):
        suggest_network(study.ask(), SPACE, probe=probe)
    assert suggest_architecture(study.ask(), SPACE)
