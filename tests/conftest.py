"""What holds for every test."""

from __future__ import annotations

import os

import numpy as np
import optuna
import pytest
import torch
from hypothesis import settings

# Contracts live in modules that pytest does not collect; this lets their assertions say what they compared.
for package in ("acquisition", "ir", "kernels", "morphisms", "presets", "search", "weights"):
    pytest.register_assert_rewrite(f"tests.{package}")

# Never a deadline: a shared machine is slow when it likes. In CI every run draws the same examples.
settings.register_profile("default", deadline=None, max_examples=60, derandomize=os.environ.get("CI") == "true")
settings.register_profile("thorough", settings.get_profile("default"), max_examples=1000, derandomize=False)
settings.load_profile("default")

optuna.logging.set_verbosity(optuna.logging.WARNING)
torch.set_num_threads(1)  # pytest-xdist runs one test per core


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
