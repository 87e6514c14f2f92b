"""Neural architecture search by network morphism and Bayesian optimisation, as a plugin for Optuna.

``suggest_network(trial, space)`` in an objective and ``sampler=MorphBOSampler()`` in a study are all it takes.
"""

from optuna_nas_morph import acquisition, kernels, memory, morphisms, presets, search, spaces
from optuna_nas_morph.errors import (
    ArchitectureError,
    EncodingError,
    MorphismError,
    NasMorphError,
    SpaceMismatchError,
    StoreError,
    TranslationError,
    WeightsCorruptError,
    WeightsError,
    WeightsMismatchError,
    WeightsMissingError,
    WeightsNotFiniteError,
)
from optuna_nas_morph.export import export_onnx, export_source
from optuna_nas_morph.finalize import BestNetwork, best_network, finalize
from optuna_nas_morph.finals import Contender, Finals
from optuna_nas_morph.interpret import explain
from optuna_nas_morph.ir import Architecture, LabelledGraph, Node, ops
from optuna_nas_morph.nets import Network
from optuna_nas_morph.network import (
    epochs_to_train,
    inherit_optimizer,
    inherited_epochs,
    load_network,
    publish_weights,
    suggest_architecture,
    suggest_network,
)
from optuna_nas_morph.pruner import LineagePruner
from optuna_nas_morph.sampler import MorphBOSampler
from optuna_nas_morph.spaces import CellSpace, MorphSpace, Step
from optuna_nas_morph.timing import Latency, latency
from optuna_nas_morph.weights import Keep, WeightStore

__version__ = "0.1.0"

__all__ = [
    "Architecture",
    "ArchitectureError",
    "BestNetwork",
    "CellSpace",
    "Contender",
    "EncodingError",
    "Finals",
    "Keep",
    "LabelledGraph",
    "Latency",
    "LineagePruner",
    "MorphBOSampler",
    "MorphSpace",
    "MorphismError",
    "NasMorphError",
    "Network",
    "Node",
    "SpaceMismatchError",
    "Step",
    "StoreError",
    "TranslationError",
    "WeightStore",
    "WeightsCorruptError",
    "WeightsError",
    "WeightsMismatchError",
    "WeightsMissingError",
    "WeightsNotFiniteError",
    "acquisition",
    "best_network",
    "epochs_to_train",
    "explain",
    "export_onnx",
    "export_source",
    "finalize",
    "inherit_optimizer",
    "inherited_epochs",
    "kernels",
    "latency",
    "load_network",
    "memory",
    "morphisms",
    "ops",
    "presets",
    "publish_weights",
    "search",
    "spaces",
    "suggest_architecture",
    "suggest_network",
]
