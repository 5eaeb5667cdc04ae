"""Blocks turned round and checked, against NumPy."""

import ml_dtypes
import numpy as np
import pytest

from lora_jax.models.checkpoint.blocks import is_finite, transpose

TYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16]


@pytest.mark.parametrize("shape", [(1, 1), (64, 3), (65, 200), (200, 129), (3, 0)])
def test_transpose_is_that_of_numpy(shape):
    matrix = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    turned = transpose(matrix)
    np.testing.assert_array_equal(turned, matrix.T)
    assert turned.flags.c_contiguous


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, -np.nan])
def test_what_is_not_finite_is_found(dtype, value):
    block = np.zeros((3, 5), dtype)
    block[2, 4] = value
    assert not is_finite(block)


@pytest.mark.parametrize("dtype", TYPES)
def test_the_largest_and_the_smallest_are_finite(dtype):
    limits = ml_dtypes.finfo(dtype)
    extremes = [limits.max, limits.min, limits.smallest_subnormal, 0.0, -0.0]
    assert is_finite(np.array(extremes, dtype))
