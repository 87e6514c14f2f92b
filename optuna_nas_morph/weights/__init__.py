"""Trained weights: where they are kept, and how a child inherits them."""

from __future__ import annotations

from optuna_nas_morph.weights.garbage import Keep
from optuna_nas_morph.weights.location import STORE_ATTR, resolve
from optuna_nas_morph.weights.record import RECORD_ATTR, WeightRecord
from optuna_nas_morph.weights.store import WeightStore

__all__ = ["RECORD_ATTR", "STORE_ATTR", "Keep", "WeightRecord", "WeightStore", "resolve"]
