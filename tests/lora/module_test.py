"""The low-rank update: its value, its scale, its dropout, and its first factors."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import peft
import pytest
import torch

from lora_jax.lora.module import LoRA
from lora_jax.models.parameters import initialise, kernel

WIDTH, OUTPUTS, RANK = 512, 96, 4
KERNEL = kernel(WIDTH, OUTPUTS, ("embed", "mlp"), "model.layers.{layer}.mlp.up_proj").stack(
    range(6)
)


def draw(rank=RANK, seed=0):
    """Return one layer's factors, B not zero."""
    a, b = jax.random.split(jax.random.key(seed))
    return jax.random.normal(a, (WIDTH, rank)), jax.random.normal(b, (rank, OUTPUTS))


def test_update_is_scale_times_the_product():
    a, b = draw()
    x = jax.random.normal(jax.random.key(1), (2, 3, WIDTH))
    update = LoRA(a, b, scale=2.5, dropout=0.0, key=None)(x)
    np.testing.assert_allclose(update, 2.5 * (x @ (a @ b)), rtol=1e-3, atol=1e-2)


def test_first_factors_give_no_update():
    factors = initialise(LoRA.declare(KERNEL, (0, 3), RANK), jax.random.key(0))
    assert factors["a"].shape == (2, WIDTH, RANK) and factors["b"].shape == (2, RANK, OUTPUTS)
    assert factors["a"].dtype == factors["b"].dtype == jnp.float32
    x = jax.random.normal(jax.random.key(1), (5, WIDTH))
    assert (LoRA(factors["a"][0], factors["b"][0], 16.0, 0.0, None)(x) == 0).all()
    assert np.abs(factors["a"]).min(axis=(1, 2)).all(), "A is zero too, so nothing would learn"


@pytest.mark.parametrize("rank", [1, 16])
def test_first_a_has_pefts_distribution(rank):
    theirs = peft.tuners.lora.Linear(
        torch.nn.Linear(WIDTH, OUTPUTS),
        adapter_name="default",
        config=peft.LoraConfig(r=rank),
        r=rank,
    )
    drawn = []
    for _ in range(64):
        theirs.reset_lora_parameters("default", init_lora_weights=True)
        drawn.append(theirs.lora_A["default"].weight.detach().numpy().copy())
    declared = LoRA.declare(KERNEL, tuple(range(64)), rank)
    ours = np.asarray(initialise(declared, jax.random.key(0))["a"])
    np.testing.assert_allclose(np.std(ours), np.std(drawn), rtol=0.02)
    np.testing.assert_allclose(np.abs(ours).max(), np.abs(drawn).max(), rtol=0.01)
    np.testing.assert_allclose(np.abs(ours).max(), 1 / math.sqrt(WIDTH), rtol=0.01)


def test_declared_factors_are_pefts_names_and_follow_the_kernels_split():
    declared = LoRA.declare(KERNEL, (1, 4), RANK)
    prefix = "base_model.model.model.layers.4.mlp.up_proj"
    assert declared["a"].hf_names[1] == f"{prefix}.lora_A.weight"
    assert declared["b"].hf_names[1] == f"{prefix}.lora_B.weight"
    assert (declared["a"].hf_shape, declared["b"].hf_shape) == ((RANK, WIDTH), (OUTPUTS, RANK))
    assert declared["a"].axes == ("layers", None, "rank")
    assert declared["b"].axes == ("layers", "rank", "mlp")


def test_dropout_is_unbiased_and_drops_the_share_asked_for():
    x = jnp.ones((4000, WIDTH))
    identity = jnp.eye(WIDTH)
    dropped = LoRA(identity, identity, 1.0, dropout=0.25, key=jax.random.key(0))(x)
    np.testing.assert_allclose((dropped == 0).mean(), 0.25, atol=0.002)
    np.testing.assert_allclose(dropped.mean(), 1.0, atol=0.002)
    np.testing.assert_allclose(jnp.unique(dropped), [0, 1 / 0.75], rtol=1e-6)


@pytest.mark.parametrize(("dropout", "key"), [(0.5, None), (0.0, 7)])
def test_nothing_is_dropped_at_inference_or_at_rate_zero(dropout, key):
    a, b = draw()
    x = jax.random.normal(jax.random.key(1), (3, WIDTH))
    key = None if key is None else jax.random.key(key)
    np.testing.assert_array_equal(LoRA(a, b, 2.0, dropout, key)(x), LoRA(a, b, 2.0, 0.0, None)(x))


def test_update_of_a_bfloat16_input_is_computed_in_float32():
    a, b = draw()
    x = jax.random.normal(jax.random.key(1), (3, WIDTH)).astype(jnp.bfloat16)
    update = LoRA(a, b, 2.0, 0.0, None)
    assert update(x).dtype == jnp.bfloat16
    np.testing.assert_array_equal(update(x), update(x.astype(jnp.float32)).astype(jnp.bfloat16))
