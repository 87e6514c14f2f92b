"""Morphisms: changes of an architecture that keep its function. To add one: its file, its line here, its test."""

from optuna_nas_morph.morphisms.add_head import AddHead
from optuna_nas_morph.morphisms.add_skip import AddSkip
from optuna_nas_morph.morphisms.base import MORPHISMS, Morphism, Site, Weights, parse_morphism
from optuna_nas_morph.morphisms.branch import Branch
from optuna_nas_morph.morphisms.concat_skip import ConcatSkip
from optuna_nas_morph.morphisms.deepen import Deepen
from optuna_nas_morph.morphisms.drop_branch import DropBranch
from optuna_nas_morph.morphisms.drop_layer import DropLayer
from optuna_nas_morph.morphisms.factorize import Factorize
from optuna_nas_morph.morphisms.fold_batch_norm import FoldBatchNorm
from optuna_nas_morph.morphisms.grow_kernel import GrowKernel
from optuna_nas_morph.morphisms.insert_activation import InsertActivation
from optuna_nas_morph.morphisms.insert_batch_norm import InsertBatchNorm
from optuna_nas_morph.morphisms.insert_depthwise_separable import InsertDepthwiseSeparable
from optuna_nas_morph.morphisms.insert_inverted_residual import InsertInvertedResidual
from optuna_nas_morph.morphisms.insert_residual_block import InsertResidualBlock
from optuna_nas_morph.morphisms.insert_squeeze_excite import InsertSqueezeExcite
from optuna_nas_morph.morphisms.insert_transformer_block import InsertTransformerBlock
from optuna_nas_morph.morphisms.make_separable import MakeSeparable
from optuna_nas_morph.morphisms.merge_branches import MergeBranches
from optuna_nas_morph.morphisms.origins import Origins, find_origins
from optuna_nas_morph.morphisms.prune_channels import PruneChannels
from optuna_nas_morph.morphisms.tensors import fresh_weights
from optuna_nas_morph.morphisms.ungroup import Ungroup
from optuna_nas_morph.morphisms.widen import Widen
from optuna_nas_morph.morphisms.widen_head import WidenHead
from optuna_nas_morph.morphisms.widen_hidden import WidenHidden

__all__ = [
    "MORPHISMS",
    "AddHead",
    "AddSkip",
    "Branch",
    "ConcatSkip",
    "Deepen",
    "DropBranch",
    "DropLayer",
    "Factorize",
    "FoldBatchNorm",
    "GrowKernel",
    "InsertActivation",
    "InsertBatchNorm",
    "InsertDepthwiseSeparable",
    "InsertInvertedResidual",
    "InsertResidualBlock",
    "InsertSqueezeExcite",
    "InsertTransformerBlock",
    "MakeSeparable",
    "MergeBranches",
    "Morphism",
    "Origins",
    "PruneChannels",
    "Site",
    "Ungroup",
    "Weights",
    "Widen",
    "WidenHead",
    "WidenHidden",
    "find_origins",
    "fresh_weights",
    "parse_morphism",
]
