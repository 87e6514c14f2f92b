"""Thompson sampling."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ThompsonSampling:
    """A function drawn from the posterior takes the place of the acquisition: its maximiser is proposed.

    Thompson, On the Likelihood that One Unknown Probability Exceeds Another, Biometrika 25 (1933); for Gaussian
    processes Kandasamy et al., Parallelised Bayesian Optimisation via Thompson Sampling, AISTATS 2018. The draw is one
    function: however candidates are asked for, in batches and twice, their values belong together
    (:class:`~optuna_nas_morph.surrogate.Path`).
    """
