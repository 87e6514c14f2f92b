"""Spaces to start from, one function per family of networks. To add one: its file, its line here, its test."""

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
]
