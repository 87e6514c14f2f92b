"""The graph as a value: no torch, no optuna."""

from optuna_nas_morph.ir.architecture import Architecture, Node
from optuna_nas_morph.ir.channels import ChannelGroups, Ref
from optuna_nas_morph.ir.labelled import LabelledGraph
from optuna_nas_morph.ir.tensor import TensorSpec

__all__ = ["Architecture", "ChannelGroups", "LabelledGraph", "Node", "Ref", "TensorSpec"]
