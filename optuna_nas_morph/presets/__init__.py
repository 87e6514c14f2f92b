"""Spaces to start from, one function per family of networks. To add one: its file, its line here, its test.

Networks end in a linear layer with ``n_classes`` outputs and nothing behind it; what they mean is up to the loss:

- one class of several: ``n_classes`` of them, ``F.cross_entropy(network(x), y)``, ``y`` of shape ``(N,)``;
- several labels that each hold or do not, or a decision: one output per label,
  ``F.binary_cross_entropy_with_logits(network(x), y)``, ``y`` of 0.0 and 1.0 and shape ``(N, n_classes)``;
- regression: one output per number to predict, ``F.mse_loss(network(x), y)``, ``y`` of shape ``(N, n_classes)``, also
  where that is 1, and best scaled to mean 0 and standard deviation 1.
"""

from optuna_nas_morph.presets.cnn import cnn
from optuna_nas_morph.presets.conv1d import conv1d
from optuna_nas_morph.presets.convnext import convnext
from optuna_nas_morph.presets.densenet import densenet
from optuna_nas_morph.presets.mlp import mlp
from optuna_nas_morph.presets.mobilenet import mobilenet
from optuna_nas_morph.presets.mobilenet_tables import (
    MOBILENET_V2,
    MOBILENET_V3_LARGE,
    MOBILENET_V3_SMALL,
    InvertedResidual,
    MobileNetTable,
)
from optuna_nas_morph.presets.nas_bench_101 import nas_bench_101
from optuna_nas_morph.presets.nas_bench_201 import nas_bench_201
from optuna_nas_morph.presets.resnet import resnet
from optuna_nas_morph.presets.text_transformer import text_transformer
from optuna_nas_morph.presets.vit import vit

__all__ = [
    "MOBILENET_V2",
    "MOBILENET_V3_LARGE",
    "MOBILENET_V3_SMALL",
    "InvertedResidual",
    "MobileNetTable",
    "cnn",
    "conv1d",
    "convnext",
    "densenet",
    "mlp",
    "mobilenet",
    "nas_bench_101",
    "nas_bench_201",
    "resnet",
    "text_transformer",
    "vit",
]
