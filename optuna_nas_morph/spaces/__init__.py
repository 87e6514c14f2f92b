"""What a study may propose: open spaces that grow from a seed, and closed ones with fixed choices."""

from optuna_nas_morph.spaces.base import Candidate, Space
from optuna_nas_morph.spaces.cell import Cell, CellSpace
from optuna_nas_morph.spaces.growth import Growth, NodeGrowth
from optuna_nas_morph.spaces.morph import (
    DEFAULT_MORPHISMS,
    TRANSFORMER_MORPHISMS,
    Descendant,
    MorphSpace,
    Step,
    default_morphisms,
)
from optuna_nas_morph.spaces.seed_weights import SeedWeights

__all__ = [
    "DEFAULT_MORPHISMS",
    "TRANSFORMER_MORPHISMS",
    "Candidate",
    "Cell",
    "CellSpace",
    "Descendant",
    "Growth",
    "MorphSpace",
    "NodeGrowth",
    "SeedWeights",
    "Space",
    "Step",
    "default_morphisms",
]
