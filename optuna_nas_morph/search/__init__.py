"""How candidates are found."""

from optuna_nas_morph.search.tree import Score, TreeSearch
from optuna_nas_morph.search.walk import random_child, random_walk

__all__ = ["Score", "TreeSearch", "random_child", "random_walk"]
