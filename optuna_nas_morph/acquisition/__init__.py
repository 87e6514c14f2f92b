"""How much a candidate is worth trying, given what the surrogate believes."""

from optuna_nas_morph.acquisition.base import Acquisition
from optuna_nas_morph.acquisition.feasibility import log_probability_of_feasibility
from optuna_nas_morph.acquisition.log_expected_hypervolume_improvement import LogExpectedHypervolumeImprovement
from optuna_nas_morph.acquisition.log_expected_improvement import LogExpectedImprovement
from optuna_nas_morph.acquisition.thompson_sampling import ThompsonSampling
from optuna_nas_morph.acquisition.upper_confidence_bound import UpperConfidenceBound

__all__ = [
    "Acquisition",
    "LogExpectedHypervolumeImprovement",
    "LogExpectedImprovement",
    "ThompsonSampling",
    "UpperConfidenceBound",
    "log_probability_of_feasibility",
]
