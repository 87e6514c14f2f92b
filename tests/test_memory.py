"""Memory of training: estimates against PyTorch, errors, the guard, and studies on devices of different sizes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import FixedTrial, TrialState
from torch import nn

from optuna_nas_morph import (
    CellSpace,
    MorphBOSampler,
    encoding,
    lineage,
    memory,
    presets,
    suggest_architecture,
    suggest_network,
)
from optuna_nas_morph.capacity import Device, MemoryFact, Training, capacity
from optuna_nas_morph.ir import Architecture, LabelledGraph
from optuna_nas_morph.memory import Estimate, estimate, guard, is_out_of_memory
from optuna_nas_morph.nets import Network
from tests.ir.test_saved_tensors import saved_by_autograd
from tests.strategies import example_architectures, example_inputs
from tests.studies import CNN, CNN_SPACE, SPACE, make_objective, quick_sampler

GB = 2**30
SMALL, LARGE = Device("cuda", "small", 4 * GB), Device("cuda", "large", 16 * GB)
SEEDS = {name: getattr(presets, name)((3, 8, 8), 10).seed for name in ("mlp", "cnn", "resnet", "densenet")}


# Estimates.


def sizes(tensors: Any) -> int:
    return sum(tensor.nbytes for tensor in tensors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("sgd", lambda parameters: torch.optim.SGD(parameters, lr=0.1)),
        ("momentum", lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True)),
        ("adam", lambda parameters: torch.optim.AdamW(parameters, lr=0.1)),
    ],
)
@pytest.mark.parametrize("preset", SEEDS)
def test_every_part_is_what_a_step_of_training_takes(
    preset: str, name: str, make: Callable[[Any], torch.optim.Optimizer], dtype: torch.dtype
) -> None:
    architecture, batch_size = SEEDS[preset], 3
    network = Network(architecture).to(dtype)
    inputs = tuple(x.to(dtype) for x in example_inputs(architecture, batch_size))
    optimizer = make(network.parameters())
    expected = estimate(network, batch_size, optimizer=optimizer)
    activations = sum(saved_by_autograd(network, inputs).values())
    network(*inputs).sum().backward()
    optimizer.step()
    state = [t for s in optimizer.state.values() for t in s.values() if isinstance(t, torch.Tensor) and t.dim() > 0]
    assert expected == Estimate(
        activations=activations,
        parameters=sizes(network.parameters()),
        gradients=sizes(p.grad for p in network.parameters()),
        optimizer=sizes(state),
        buffers=sum(b.numel() * (8 if b.dtype == torch.int64 else dtype.itemsize) for b in network.buffers()),
        inputs=0,  # the first layer saves them
    )
    assert expected.total == activations + sizes([*network.parameters()] * 2) + sizes(state) + expected.buffers
    assert estimate(architecture, batch_size, optimizer=name, dtype=dtype) == expected


@pytest.mark.parametrize(
    ("make", "copies"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), 1),
        (lambda p: torch.optim.Adam(p, amsgrad=True), 3),
        (lambda p: torch.optim.RMSprop(p, momentum=0.5, centered=True), 3),
        (torch.optim.Adagrad, 1),
        (lambda p: torch.optim.NAdam(p, foreach=True), 2),
        (lambda p: torch.optim.Adam(p, fused=True), 2),
    ],
)
def test_an_optimizer_shows_what_it_keeps(make: Callable[[Any], torch.optim.Optimizer], copies: int) -> None:
    optimizer = make(Network(CNN).parameters())
    expected = estimate(CNN, 1, optimizer=optimizer)
    assert expected.optimizer == copies * expected.parameters
    assert all(state["step"] == 0 for state in optimizer.state.values())  # the optimizer itself made no step


class OfAnotherKind(torch.optim.Optimizer):
    """What anybody may write."""

    def __init__(self, parameters: Any, model_size: int) -> None:
        super().__init__(parameters, {"rate": 1 / model_size})


@pytest.mark.parametrize(
    "make",
    [
        torch.optim.LBFGS,  # asks for a closure
        lambda p: torch.optim.SparseAdam(list(p)),  # and for sparse gradients
        lambda p: OfAnotherKind(p, model_size=8),
    ],
)
def test_an_optimizer_that_does_not_show_what_it_keeps_counts_as_adam(
    make: Callable[[Any], torch.optim.Optimizer],
) -> None:
    network = Network(CNN)
    optimizer = make(network.parameters())
    with pytest.warns(UserWarning, match=f"{type(optimizer).__name__} is estimated to keep what Adam does"):
        assert estimate(network, 3, optimizer=optimizer) == estimate(network, 3)
    trial = optuna.create_study().ask()
    with pytest.warns(UserWarning, match="what Adam does"), guard(trial, network, batch_size=3, optimizer=optimizer):
        pass
    assert trial.user_attrs["nasmorph:mem"]["estimate"] == estimate(network, 3).total


def test_inputs_that_nothing_saves_count_by_themselves() -> None:
    architecture = example_architectures()["pool2d_avg"]
    result = estimate(architecture, 5)
    assert (result.activations, result.inputs) == (0, 5 * 4 * architecture.specs[architecture.inputs[0]].numel)
    tokens = example_architectures()["token_embedding"]
    assert (estimate(tokens, 5).activations, estimate(tokens, 5).inputs) == (5 * 8 * 4, 0)


def test_wrapped_networks_count_as_what_they_wrap() -> None:
    network = Network(CNN)
    assert estimate(nn.DataParallel(network), 4) == estimate(network, 4) == estimate(CNN, 4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((CNN, 0), ValueError, "batch_size must be a positive integer but got 0"),
        ((CNN, 2.0), ValueError, r"batch_size must be a positive integer but got 2\.0"),
        ((nn.Linear(2, 2), 3), TypeError, "network must be of an Architecture but got Linear"),
    ],
)
def test_bad_arguments(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        estimate(*arguments)
    with pytest.raises(ValueError, match=r"optimizer must be a torch optimizer or one of .* but got 'adan'"):
        estimate(CNN, 3, optimizer="adan")


# Errors.


def test_real_errors_of_the_cpu() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert is_out_of_memory(caught.value)
    with pytest.raises(RuntimeError, match=r"^std::bad_alloc$|^bad allocation$") as of_cpp:
        torch.zeros(1).expand(10**15).split(1)
    assert is_out_of_memory(of_cpp.value)
    with pytest.raises(MemoryError) as of_numpy:
        np.empty(10**15)
    assert is_out_of_memory(of_numpy.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 3.95 GiB total capacity)"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("HIP error: hipErrorOutOfMemory"),
        RuntimeError(
            "ncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\nCuda failure 2 'out of memory'"
        ),
        RuntimeError("Last error:\nCuda failure 'out of memory'"),
        RuntimeError("bad allocation"),
        RuntimeError("MPS backend out of memory (MPS allocated: 18.11 GB, other allocations: 1 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:75] DefaultCPUAllocator: not enough memory: you tried to"),
        RuntimeError("Caught RuntimeError in DataLoader worker process 0.\nRuntimeError: CUDA out of memory. Tried"),
    ],
)
def test_errors_that_are(error: Exception) -> None:
    assert is_out_of_memory(error)
    outer = ValueError("training failed")
    outer.__cause__ = error
    assert is_out_of_memory(outer)


@pytest.mark.parametrize(
    "error",
    [
        None,
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError(
            "ncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\nCuda failure 999 'unknown error'"
        ),
        RuntimeError("could not create a primitive"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)"),
        ValueError("CUDA out of memory"),
        RuntimeError("the queue is out of memory slots"),
    ],
)
def test_errors_that_are_not(error: Exception | None) -> None:
    assert not is_out_of_memory(error)


# The guard.


def run(body: Callable[[optuna.Trial, Network], object], **arguments: Any) -> optuna.trial.FrozenTrial:
    """One trial whose body runs inside of a guard."""
    study = optuna.create_study(sampler=quick_sampler())

    def objective(trial: optuna.Trial) -> float:
        network = suggest_network(trial, CNN_SPACE)
        with guard(trial, network, **arguments):
            body(trial, network)
        return 1.0

    study.optimize(objective, n_trials=1, catch=ZeroDivisionError)
    return study.trials[0]


def fact_of(trial: optuna.trial.FrozenTrial) -> MemoryFact:
    fact = lineage.memory_of(trial)
    assert fact is not None
    return fact


def allocate(*_: object) -> None:
    torch.empty(10**15)


def test_a_training_that_went_well_is_a_fact() -> None:
    trial = run(lambda *_: None, batch_size=7, optimizer="momentum")
    expected = estimate(CNN, 7, optimizer="momentum").total
    assert trial.state == TrialState.COMPLETE
    assert fact_of(trial) == MemoryFact(memory.describe("cpu"), False, Training(7, 1, 4), expected, None)
    assert "nasmorph:oom" not in trial.user_attrs


def test_running_out_of_memory_ends_the_trial_and_not_the_study() -> None:
    trial = run(allocate, batch_size=7)
    assert (trial.state, trial.values) == (TrialState.PRUNED, None)
    assert fact_of(trial).failed
    assert fact_of(trial).estimate == estimate(CNN, 7).total
    assert "DefaultCPUAllocator" in trial.user_attrs["nasmorph:oom"]


def test_without_a_batch_size_there_is_no_estimate() -> None:
    assert fact_of(run(allocate)) == MemoryFact(memory.describe("cpu"), failed=True)


def test_a_trial_that_is_pruned_after_a_report_has_fitted() -> None:
    def prune(trial: optuna.Trial, network: Network) -> None:
        trial.report(1.0, 0)
        raise optuna.TrialPruned

    trial = run(prune, batch_size=7)
    assert trial.state == TrialState.PRUNED
    assert not fact_of(trial).failed


@pytest.mark.parametrize("reported_before", [False, True])  # by a trial that this one is a retry of
def test_a_trial_that_is_pruned_before_training_says_nothing(reported_before: bool) -> None:
    study = optuna.create_study(sampler=quick_sampler())

    def objective(trial: optuna.Trial) -> float:
        network = suggest_network(trial, CNN_SPACE)
        if reported_before:
            trial.report(1.0, 0)
        with guard(trial, network, batch_size=7):
            raise optuna.TrialPruned

    study.optimize(objective, n_trials=1)
    assert study.trials[0].state == TrialState.PRUNED
    assert lineage.memory_of(study.trials[0]) is None


def test_another_error_passes_and_says_nothing() -> None:
    trial = run(lambda *_: 1 / 0, batch_size=7)
    assert trial.state == TrialState.FAIL
    assert lineage.memory_of(trial) is None


def test_what_the_failed_training_held_is_freed_before_the_next_trial() -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    def train(*_: object) -> None:
        activations = torch.zeros(10)
        held.append(weakref.ref(activations))
        allocate()

    gc.disable()  # so that nobody else collects
    try:
        study = optuna.create_study(sampler=quick_sampler())

        def objective(trial: optuna.Trial) -> float:
            with guard(trial):
                assert all(ref() is None for ref in held)
                train()
            return 1.0

        study.optimize(objective, n_trials=3)
    finally:
        gc.enable()
    assert [t.state for t in study.trials] == [TrialState.PRUNED] * 3


def test_outside_of_a_study_errors_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"), guard(FixedTrial({})):
        allocate()
    with guard(FixedTrial({}), Network(CNN), batch_size=3):
        pass


def test_a_measured_peak_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_peak_of", lambda device: 123)
    assert fact_of(run(lambda *_: None, batch_size=7)).peak == 123


def test_a_record_of_another_trial_does_not_count() -> None:
    """Optuna copies attributes to a trial that is a retry."""
    study = optuna.create_study(sampler=quick_sampler())
    study.optimize(make_guarded(SPACE, [SMALL], lambda network: 10**12), n_trials=1)
    (first,) = study.trials
    study.enqueue_trial(first.params, user_attrs=first.user_attrs)
    retry = study.ask()
    assert lineage.memory_of(study.trials[1]) is None
    with guard(retry):
        pass
    assert retry.user_attrs["nasmorph:oom"] is None
    study.tell(retry, 1.0)
    assert not fact_of(study.trials[1]).failed


# Studies.

BATCH_SIZE = 1_050_000  # the seed of CNN_SPACE then takes 1.1 GB: nothing is trained
N_TRIALS = 18


def need_of(network: Network) -> int:
    """What training takes in truth: more than the estimate, and not quite in proportion."""
    noise = int(network.architecture.fingerprint[:4], 16) / 16**4
    return int((1.15 + 0.1 * noise) * estimate(network, BATCH_SIZE).total + GB / 5)


def make_guarded(
    space: Any, workers: list[Device], need: Callable[[Network], int] = need_of
) -> Callable[[optuna.Trial], float]:
    """An objective that prefers large networks, on a device that is the first of a list."""

    def objective(trial: optuna.Trial) -> float:
        network = suggest_network(trial, space)
        device = workers[0]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(memory, "describe", lambda _: device)
            with guard(trial, network, batch_size=BATCH_SIZE):
                if need(network) > device.total:
                    raise torch.OutOfMemoryError("CUDA out of memory.")
        return float(np.log(network.architecture.n_parameters))

    return objective


def sampler_of(device: Device, seed: int = 0, **arguments: Any) -> MorphBOSampler:
    return quick_sampler(3, seed, device=device, **arguments)


@pytest.mark.parametrize("hyperparameters", [False, True])
def test_devices_of_4_and_16_gb_share_a_study(tmp_path: Path, hyperparameters: bool) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(storage=storage, study_name="shared", direction="maximize")
    worker: list[Device] = [SMALL]
    inner = make_guarded(CNN_SPACE, worker)

    def objective(trial: optuna.Trial) -> float:
        if hyperparameters:
            trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        trial.set_user_attr("worker", worker[0].name)
        return inner(trial)

    for _ in range(N_TRIALS):
        for device in (SMALL, LARGE):
            worker[0] = device
            # A new process each time, as it were: all that is known is in the storage.
            study = optuna.load_study(study_name="shared", storage=storage, sampler=sampler_of(device))
            study.optimize(objective, n_trials=1)

    trials = study.trials
    facts = [fact_of(t) for t in trials]
    failures = {d.name: [f for f in facts if f.failed and f.device == d] for d in (SMALL, LARGE)}
    assert all(len(found) <= 4 for found in failures.values())
    assert all(f.device.name == t.user_attrs["worker"] for f, t in zip(facts, trials, strict=True))
    assert {t.state for t, f in zip(trials, facts, strict=True) if f.failed} <= {TrialState.PRUNED}
    # The small device's failures change nothing for the large one, which goes beyond what the small one can train.
    assert failures["small"]
    without = [f for f in facts if not (f.failed and f.device == SMALL)]
    assert capacity(without, LARGE) == capacity(facts, LARGE)
    assert max(f.estimate or 0 for f in facts if not f.failed and f.device == LARGE) > 1.1 * SMALL.total
    # Once it knows, the small one trains what it can.
    late = [f for f in facts if f.device == SMALL][-N_TRIALS // 3 :]
    assert sum(f.failed for f in late) <= 1
    assert max(f.estimate or 0 for f in late if not f.failed) > 0.4 * SMALL.total


def test_what_failed_on_a_small_device_is_tried_on_a_large_one() -> None:
    worker = [SMALL]
    study = optuna.create_study(direction="maximize", sampler=sampler_of(SMALL))
    study.optimize(make_guarded(SPACE, worker, lambda network: 5 * GB), n_trials=1)
    worker[0] = LARGE
    study.sampler = sampler_of(LARGE)
    study.optimize(make_guarded(SPACE, worker, lambda network: 5 * GB), n_trials=6)
    states = [t.state for t in study.trials]
    assert states == [TrialState.PRUNED] + [TrialState.COMPLETE] * 6
    fingerprints = [t.user_attrs["nasmorph:fingerprint"] for t in study.trials]
    assert fingerprints[0] in fingerprints[1:]


def test_what_is_enqueued_is_never_filtered() -> None:
    worker = [SMALL]
    study = optuna.create_study(direction="maximize", sampler=sampler_of(SMALL))
    objective = make_guarded(CNN_SPACE, worker)
    study.optimize(objective, n_trials=8)
    limit = capacity([fact_of(t) for t in study.trials], SMALL)
    rng = np.random.default_rng(0)
    members = (CNN_SPACE.random(rng) for _ in range(1000))
    big = next(m for m in members if estimate(m.architecture, BATCH_SIZE).total > 2 * limit)
    params = encoding.encode(CNN_SPACE, big)
    study.enqueue_trial(params)
    study.optimize(objective, n_trials=1)
    assert study.trials[-1].params == params
    assert study.trials[-1].user_attrs["nasmorph:fingerprint"] == big.fingerprint


@pytest.mark.parametrize("n_startup_trials", [2, 99])
def test_a_proposal_is_made_even_if_nothing_fits(n_startup_trials: int) -> None:
    """At the start it is the smallest there is; later it warns of a repetition."""
    worker = [Device("cuda", "tiny", 1)]
    study = optuna.create_study(
        direction="maximize", sampler=quick_sampler(n_startup_trials, device=worker[0], warn_independent_sampling=False)
    )

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        return make_guarded(SPACE, worker, lambda network: 2)(trial)

    study.optimize(objective, n_trials=5)
    assert [t.state for t in study.trials] == [TrialState.PRUNED] * 5
    assert {t.params["arch/n"] for t in study.trials} == {0}


@pytest.mark.parametrize("max_staleness", [0, 1])
def test_the_limit_holds_for_prepared_proposals(max_staleness: int) -> None:
    worker = [SMALL]
    study = optuna.create_study(direction="maximize", sampler=sampler_of(SMALL, max_staleness=max_staleness))
    objective = make_guarded(CNN_SPACE, worker)
    for _ in range(12):
        facts = [f for t in study.trials if (f := lineage.memory_of(t)) is not None]
        study.optimize(objective, n_trials=1)
        assert (fact_of(study.trials[-1]).estimate or 0) <= capacity(facts, SMALL)


def test_without_facts_no_device_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Device:
        raise AssertionError

    monkeypatch.setattr(memory, "describe", refuse)
    study = optuna.create_study(sampler=quick_sampler())
    study.optimize(make_objective(publish=False), n_trials=4)


def test_cells_have_no_estimate_but_their_failures_are_recorded() -> None:
    def to_graph(choices: Any) -> LabelledGraph:
        return LabelledGraph((str(choices["a"]), str(choices["b"])), ((0, 1),))

    space = CellSpace({"a": (0, 1, 2), "b": (0, 1, 2)}, to_graph)
    study = optuna.create_study(sampler=quick_sampler(device=SMALL))

    def objective(trial: optuna.Trial) -> float:
        cell = suggest_architecture(trial, space)
        with guard(trial, nn.Linear(2, 2), batch_size=3):
            if cell["a"] == 2:
                allocate()
        return float(cell["b"])

    study.optimize(objective, n_trials=9)
    assert len({(t.params["arch/a"], t.params["arch/b"]) for t in study.trials}) == 9
    assert sum(t.state == TrialState.PRUNED for t in study.trials) == 3


def test_the_device_of_a_sampler_by_name() -> None:
    study = optuna.create_study(sampler=quick_sampler(device="cpu"))

    def objective(trial: optuna.Trial) -> float:
        network = suggest_network(trial, SPACE)
        with guard(trial, network, batch_size=2):
            return float(network.architecture.n_parameters)

    study.optimize(objective, n_trials=4)
    assert len({t.user_attrs["nasmorph:fingerprint"] for t in study.trials}) == 4
    with pytest.raises(TypeError, match="device must be the name of a device, such as 'cuda:1', or None but got 1"):
        MorphBOSampler(device=1)  # type: ignore[arg-type]


def test_the_estimate_of_a_large_network_takes_no_memory() -> None:
    space = presets.resnet((3, 224, 224), 1000, width=256, max_parameters=10**10, max_flops=10**14)
    assert isinstance(space.seed, Architecture)
    assert estimate(space.seed, 4096).total > 10**11
