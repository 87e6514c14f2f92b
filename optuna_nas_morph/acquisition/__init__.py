"""How much a candidate is worth trying, given what the surrogate believes."""

from optuna_nas_morph.acquisition.base import Acquisition
from optuna_nas_morph.acquisition.log_expected_improvement import LogExpectedImprovement
from optuna_nas_morph.acquisition.upper_confidence_bound import UpperConfidenceBound

__all__ = ["Acquisition", "LogExpectedImprovement", "UpperConfidenceBound"]
