"""Adapters on a decoder: where they act, what they add, and how dropout is drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax.lora import masks
from lora_jax.lora.adapter import AdapterSpec
from lora_jax.models import decoder
from lora_jax.models.config import DecoderConfig
from lora_jax.models.parameters import count, initialise

CONFIG = DecoderConfig(
    "qwen2", vocabulary=61, width=16, mlp_width=24, layers=4, heads=2, kv_heads=1, head_width=8
)
DECLARATIONS = decoder.declare(CONFIG)
TOKENS = jnp.arange(20).reshape(2, 10)
PLACES = [
    (["up_proj"], "all"),
    (["up_proj"], "1-2"),
    (["up_proj"], "3"),
    (["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], "0-2"),
]


@pytest.fixture(scope="module")
def params():
    return jax.tree.map(lambda x: 5 * x, initialise(DECLARATIONS, jax.random.key(0)))


@pytest.fixture(scope="module")
def base_logits(params):
    return logits(params)


def describe(targets, layers, rank=3, alpha=6.0, dropout=0.0):
    mask = masks.select(DECLARATIONS, targets, masks.parse_layers(layers, CONFIG.layers))
    return AdapterSpec.from_mask(mask, rank, alpha, dropout)


def draw(spec):
    """Return factors that do something: B drawn too."""
    factors = spec.initialise(DECLARATIONS, jax.random.key(1))
    return jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(2), x.shape), factors)


def logits(params, spec=None, factors=None, key=None):
    positions = jnp.broadcast_to(jnp.arange(TOKENS.shape[1]), TOKENS.shape)
    mask = decoder.causal_mask(jnp.ones(TOKENS.shape, jnp.int32))

    @jax.jit
    def compute(params, factors, key):
        adapter = None if spec is None else spec.bind(factors, key)
        hidden, _ = decoder.hidden_states(CONFIG, params, TOKENS, positions, mask, adapter=adapter)
        return decoder.logits(params, hidden)

    return np.asarray(compute(params, factors, key))


@pytest.mark.parametrize(("targets", "layers"), PLACES)
def test_first_factors_leave_the_model_as_it_is(params, base_logits, targets, layers):
    spec = describe(targets, layers)
    factors = spec.initialise(DECLARATIONS, jax.random.key(0))
    np.testing.assert_allclose(logits(params, spec, factors), base_logits, atol=1e-6)


@pytest.mark.parametrize(("targets", "layers"), PLACES)
def test_adapter_equals_its_product_merged_into_the_kernels(params, base_logits, targets, layers):
    spec = describe(targets, layers)
    factors = draw(spec)
    merged = jax.tree.map(jnp.copy, params)
    for projection, chosen in spec.layers.items():
        block, name = projection.split(".")
        update = spec.scale * factors[projection]["a"] @ factors[projection]["b"]
        kernel = merged["layers"][block][name]["kernel"]
        merged["layers"][block][name]["kernel"] = kernel.at[jnp.array(chosen)].add(update)
    ours = logits(params, spec, factors)
    np.testing.assert_allclose(ours, logits(merged), atol=2e-4)
    assert np.abs(ours - base_logits).max() > 0.05, "the update is too small to tell anything"


def test_scale_is_alpha_over_rank():
    assert describe(["up_proj"], "all", rank=1, alpha=16.0).scale == 16.0
    assert describe(["up_proj"], "all", rank=64, alpha=16.0).scale == 0.25


def test_factors_exist_for_the_chosen_places_only():
    spec = describe(["up_proj", "q_proj"], "1-2", rank=3)
    declared = spec.declare(DECLARATIONS)
    assert declared.keys() == {"mlp.up_proj", "self_attn.q_proj"}
    assert count(declared) == 2 * 3 * ((16 + 24) + (16 + 16))
    drawn = spec.initialise(DECLARATIONS, jax.random.key(0))
    assert jax.tree.map(jnp.shape, drawn) == {
        "self_attn.q_proj": {"a": (2, 16, 3), "b": (2, 3, 16)},
        "mlp.up_proj": {"a": (2, 16, 3), "b": (2, 3, 24)},
    }
    assert not np.array_equal(drawn["mlp.up_proj"]["a"], drawn["self_attn.q_proj"]["a"])


def test_dropout_needs_a_key_and_depends_on_it_alone(params):
    spec = describe(["up_proj", "q_proj"], "all", dropout=0.5)
    factors = draw(spec)
    without = logits(params, describe(["up_proj", "q_proj"], "all"), factors)
    np.testing.assert_array_equal(logits(params, spec, factors), without)
    one, again, other = (logits(params, spec, factors, jax.random.key(k)) for k in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3 and np.abs(one - without).max() > 1e-3


def test_dropout_differs_between_layers_and_projections():
    spec = describe(["gate_proj", "up_proj"], "all", dropout=0.5)
    eye = {"a": jnp.eye(16), "b": jnp.eye(16)}
    bound = spec.bind({}, jax.random.key(0))
    x = jnp.ones((8, 16))
    dropped = {
        (projection, layer): np.asarray(bound.bind(projection, eye, layer)(x)).tobytes()
        for projection in spec.layers
        for layer in range(CONFIG.layers)
    }
    assert len(set(dropped.values())) == 2 * CONFIG.layers
