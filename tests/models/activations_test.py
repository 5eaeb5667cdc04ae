"""Nonlinearities against transformers' of the same name."""

import numpy as np
import pytest
import torch
from transformers.activations import ACT2FN

from lora_jax.models.activations import ACTIVATIONS

X = np.linspace(-8, 8, 4001, dtype=np.float32)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_are_those_of_transformers(name):
    theirs = ACT2FN[name](torch.tensor(X)).numpy()
    np.testing.assert_allclose(ACTIVATIONS[name](X), theirs, atol=2e-6)


def test_names_of_different_functions_are_told_apart():
    values = {
        name: np.asarray(ACTIVATIONS[name](X)) for name in ("silu", "gelu", "gelu_new", "relu")
    }
    for name, one in values.items():
        for other, two in values.items():
            assert name == other or np.abs(one - two).max() > 1e-4
