"""Which axis of a tensor holds the channels: what PyTorch leaves to those who read it."""

from __future__ import annotations

from collections import deque

from torch import fx, nn

from optuna_nas_morph.translation.tracing import Trace

_FIRST = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
_LAST = (nn.Linear, nn.LayerNorm, nn.MultiheadAttention, nn.LSTM, nn.GRU, nn.RNN, nn.TransformerEncoderLayer)


def channel_axis(traced: Trace, node: fx.Node) -> int:
    """The axis of a sample that holds the channels, as the first layer says that reads the tensor.

    The first one if no layer says; of a matrix that is not an input the last one, as in tokens.
    """
    shape = traced.shapes[node][0]
    queue, seen = deque(node.users), {node}
    while queue and len(shape) > 1:
        user = queue.popleft()
        if user in seen:
            continue
        seen.add(user)
        module = traced.module.get_submodule(str(user.target)) if user.op == "call_module" else None
        if isinstance(module, _FIRST):
            return 0
        if isinstance(module, _LAST):
            return len(shape) - 1
        if traced.shapes.get(user, ((), None))[0] == shape:
            queue.extend(user.users)
    return len(shape) - 1 if len(shape) == 2 and node.op != "placeholder" else 0
