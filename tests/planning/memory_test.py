"""Bytes by kind, of shapes and of what the compiler says."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from lora_jax import sharding
from lora_jax.planning.memory import StateMemory, chip_bytes, measure, read_refusal

STATE = StateMemory(weights=2**30, adapter=2**20, optimizer=2**21)


def test_a_chip_holds_its_part():
    mesh = sharding.make_mesh(2, 4, 1, jax.devices()[:8])
    shapes = [
        jax.ShapeDtypeStruct((8, 3), dtype, sharding=NamedSharding(mesh, PartitionSpec(*split)))
        for dtype, split in ((jnp.bfloat16, ("fsdp",)), (jnp.float32, ()))
    ]
    assert chip_bytes(shapes) == 2 * 3 * 2 + 8 * 3 * 4


def test_a_donated_argument_counts_once():
    shape = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
    kept = measure(STATE, jax.jit(lambda x: x + 1).lower(shape).compile())
    reused = measure(STATE, jax.jit(lambda x: x + 1, donate_argnums=0).lower(shape).compile())
    assert kept.total - reused.total == pytest.approx(4 * 2**20, rel=0.01)
    assert reused.total == pytest.approx(4 * 2**20, rel=0.01)


def test_the_parts_add_up():
    shape = jax.ShapeDtypeStruct((256, 256), jnp.float32)
    found = measure(STATE, jax.jit(lambda x: jnp.tanh(x @ x) @ x).lower(shape).compile())
    assert found.activations >= 256 * 256 * 4
    assert found.state.total + found.activations + found.rest == found.total


@pytest.mark.parametrize(
    ("message", "total"),
    [
        (
            "Ran out of memory in memory space hbm. Used 22.50G of 15.75G hbm. Exceeded it by 6.75G.",
            22.5 * 2**30,
        ),
        (
            "the total memory required for HLO temporaries (19.50G) exceeds available HBM (15.75G).",
            19.5 * 2**30 + STATE.total,
        ),
    ],
)
def test_a_refusal_tells_what_would_be_needed(message, total):
    memory = read_refusal(STATE, message)
    assert memory.total == total
    assert memory.activations == total - STATE.total


def test_another_error_is_no_refusal():
    assert read_refusal(STATE, "INTERNAL: something else") is None
