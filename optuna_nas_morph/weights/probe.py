"""What only data can tell of inherited weights: the statistics of new batch norms, and how far a function moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from optuna_nas_morph.ir import Architecture
from optuna_nas_morph.nets import Network
from optuna_nas_morph.spaces import MorphSpace, Step


def check_probe(architecture: Architecture, probe: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """One tensor per input of the network, on the CPU.

    Raises:
        ValueError: If there are more or fewer, a shape does not fit, or there are fewer than two samples.
    """
    inputs = (probe,) if isinstance(probe, Tensor) else tuple(probe)
    names = architecture.inputs
    if len(inputs) != len(names):
        raise ValueError(
            f"probe must hold {len(names)} tensors, one per input of the network, but holds {len(inputs)}."
        )
    for name, x in zip(names, inputs, strict=True):
        shape = architecture.specs[name].shape
        if not isinstance(x, Tensor) or tuple(x.shape[1:]) != shape or len(x) < 2:
            found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(
                f"probe must be a batch of at least 2 samples of shape {shape} for {name!r} but is {found}."
            )
    return tuple(x.detach().cpu() for x in inputs)


def calibrated(
    space: MorphSpace, steps: Sequence[Step], n_done: int, weights: Mapping[str, Tensor], probe: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Weights of a child with the statistics of a batch in the batch norms that its last steps inserted.

    Each of those is the identity in eval mode before and after, so one pass finds the statistics of all.

    Args:
        space:
            The space.
        steps:
            The whole chain from the seed to the child.
        n_done:
            How many of the steps its donor had taken.
        weights:
            The child's.
        probe:
            One batch per input.
    """
    architecture = space.replay(steps[:n_done])
    names: list[str] = []
    for step in steps[n_done:]:
        child = space.apply(architecture, step)
        names += step.morphism.uncalibrated(architecture, child)
        architecture = child
    names = [name for name in names if name in architecture.index]
    if not names:
        return dict(weights)
    result = dict(weights)
    network = _skeleton(architecture)
    hooks = [network.get_submodule(n).register_forward_pre_hook(_Calibration(n, result)) for n in names]
    _outputs(network, weights, probe)
    for hook in hooks:
        hook.remove()
    return result


def drift(
    parent: Architecture,
    before: Mapping[str, Tensor],
    child: Architecture,
    after: Mapping[str, Tensor],
    probe: Sequence[Tensor],
) -> float | None:
    """How far the function moved from parent to child in eval mode.

    Returns:
        Root mean square of the differences of their outputs, over the standard deviation of the parent's outputs
        across samples; :obj:`None` where those do not vary.
    """
    y, z = _outputs(_skeleton(parent), before, probe), _outputs(_skeleton(child), after, probe)
    deviation = float((y - y.mean(0)).square().mean().sqrt())
    return float((y - z).square().mean().sqrt()) / deviation if deviation > 0 else None


class _Calibration:
    """A hook before a batch norm that writes the statistics of what comes in into weights."""

    def __init__(self, name: str, weights: dict[str, Tensor]) -> None:
        self.name, self.weights = name, weights

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
        channels = inputs[0].transpose(0, 1).flatten(1)
        variance, mean = torch.var_mean(channels, dim=1, correction=0)
        self.weights[f"{self.name}.running_mean"] = mean
        self.weights[f"{self.name}.running_var"] = variance
        self.weights[f"{self.name}.weight"] = (variance + module.eps).sqrt()
        self.weights[f"{self.name}.bias"] = mean.clone()


def _skeleton(architecture: Architecture) -> Network:
    """The network without memory for its weights, in eval mode."""
    with torch.device("meta"):
        return Network(architecture).eval()


def _outputs(network: Network, weights: Mapping[str, Tensor], probe: Sequence[Tensor]) -> Tensor:
    with torch.no_grad():
        # What is tied has both its names in the weights; buffers that are not persistent are in the network.
        state = {**dict(network.named_buffers()), **weights}
        y: Tensor = torch.func.functional_call(network, state, tuple(probe), tie_weights=False, strict=True)
    return y
