"""The operations. To add one: its file, its line here, its test."""

from optuna_nas_morph.ir.ops.activation import ACTIVATIONS, Activation
from optuna_nas_morph.ir.ops.adaptive_pool import AdaptivePool
from optuna_nas_morph.ir.ops.add import Add
from optuna_nas_morph.ir.ops.attention import SelfAttention
from optuna_nas_morph.ir.ops.base import OPS, Init, Layer, Op, Param, op_from_dict
from optuna_nas_morph.ir.ops.batch_norm import BatchNorm
from optuna_nas_morph.ir.ops.column_embedding import ColumnEmbedding
from optuna_nas_morph.ir.ops.concat import Concat
from optuna_nas_morph.ir.ops.conv import Conv
from optuna_nas_morph.ir.ops.depthwise_conv import DepthwiseConv
from optuna_nas_morph.ir.ops.dropout import Dropout
from optuna_nas_morph.ir.ops.flatten import Flatten
from optuna_nas_morph.ir.ops.global_pool import GlobalPool
from optuna_nas_morph.ir.ops.input import Input
from optuna_nas_morph.ir.ops.layer_norm import LayerNorm
from optuna_nas_morph.ir.ops.layer_scale import LayerScale
from optuna_nas_morph.ir.ops.linear import Linear
from optuna_nas_morph.ir.ops.multiply import Multiply
from optuna_nas_morph.ir.ops.opaque import Opaque
from optuna_nas_morph.ir.ops.parametric_activation import ParametricActivation
from optuna_nas_morph.ir.ops.patch_embedding import PatchEmbedding
from optuna_nas_morph.ir.ops.pool import Pool
from optuna_nas_morph.ir.ops.position_embedding import PositionEmbedding
from optuna_nas_morph.ir.ops.rms_norm import RMSNorm
from optuna_nas_morph.ir.ops.scale import Scale
from optuna_nas_morph.ir.ops.to_tokens import ToTokens
from optuna_nas_morph.ir.ops.token_embedding import TokenEmbedding

__all__ = [
    "ACTIVATIONS",
    "OPS",
    "Activation",
    "AdaptivePool",
    "Add",
    "BatchNorm",
    "ColumnEmbedding",
    "Concat",
    "Conv",
    "DepthwiseConv",
    "Dropout",
    "Flatten",
    "GlobalPool",
    "Init",
    "Input",
    "Layer",
    "LayerNorm",
    "LayerScale",
    "Linear",
    "Multiply",
    "Op",
    "Opaque",
    "Param",
    "ParametricActivation",
    "PatchEmbedding",
    "Pool",
    "PositionEmbedding",
    "RMSNorm",
    "Scale",
    "SelfAttention",
    "ToTokens",
    "TokenEmbedding",
    "op_from_dict",
]
