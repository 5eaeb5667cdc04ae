"""A program over bfloat16 weights holds no second copy of them."""

import types

import jax
import jax.numpy as jnp
import pytest

from lora_jax.compilation import compiler_options
from lora_jax.models import decoder
from lora_jax.models.config import DecoderConfig

NOTHING = types.SimpleNamespace(layers={}, factors={})  # An adapter: the weights are frozen.
CONFIG = DecoderConfig("qwen2", 64, 256, 1024, layers=8, heads=4, kv_heads=2, head_width=64)


def forward(weights):
    tokens = jnp.arange(16)[None]
    mask = decoder.causal_mask(jnp.ones((1, 16), jnp.int32))
    return decoder.hidden_states(CONFIG, weights, tokens, tokens, mask, adapter=NOTHING)[0]


def temporary_bytes(dtype, options) -> tuple[int, int]:
    """Return the bytes of the weights, and of what the program needs besides."""
    weights = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype),
        decoder.declare(CONFIG),
        is_leaf=lambda node: hasattr(node, "hf_name"),
    )
    program = jax.jit(forward, compiler_options=options).lower(weights).compile()
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(weights))
    return size, program.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_weights_are_not_copied(dtype):
    size, temporary = temporary_bytes(dtype, compiler_options(dtype))
    assert temporary < size / 2


def test_only_bfloat16_on_a_cpu_needs_options():
    assert compiler_options(jnp.float32) == {}
    size, temporary = temporary_bytes(jnp.bfloat16, {})
    assert temporary > size, "the compiler has learnt it, and the options can go"
