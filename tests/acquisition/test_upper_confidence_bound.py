from __future__ import annotations

import numpy as np
import pytest

from optuna_nas_morph.acquisition import UpperConfidenceBound
from tests.acquisition.contract import AcquisitionContract


class TestUpperConfidenceBound(AcquisitionContract):
    acquisition = UpperConfidenceBound()

    def test_value(self):
        value = UpperConfidenceBound(beta=2.0)(np.array([1.0, -1.0]), np.array([4.0, 0.0]), best=100.0)
        np.testing.assert_allclose(value, [5.0, -1.0])

    @pytest.mark.parametrize("beta", [-0.1, float("nan"), float("inf")])
    def test_beta_out_of_range(self, beta):
        with pytest.raises(ValueError, match="beta must be a finite non-negative number but got"):
            UpperConfidenceBound(beta)
