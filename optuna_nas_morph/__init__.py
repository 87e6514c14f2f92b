"""Neural architecture search by network morphism and Bayesian optimisation, as a plugin for Optuna."""
