"""How candidates are found."""

from optuna_nas_morph.search.at_random import RandomSearch
from optuna_nas_morph.search.base import Score, Search
from optuna_nas_morph.search.default import default_search
from optuna_nas_morph.search.exhaustive import ExhaustiveSearch
from optuna_nas_morph.search.mixture import Mixture
from optuna_nas_morph.search.mutation import MutationSearch
from optuna_nas_morph.search.neighbours import NeighbourSearch
from optuna_nas_morph.search.tree import TreeSearch
from optuna_nas_morph.search.walk import random_walk

__all__ = [
    "ExhaustiveSearch",
    "Mixture",
    "MutationSearch",
    "NeighbourSearch",
    "RandomSearch",
    "Score",
    "Search",
    "TreeSearch",
    "default_search",
    "random_walk",
]
