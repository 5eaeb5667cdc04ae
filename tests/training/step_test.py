"""One step: it changes what is trained, and does no work for what is not."""

import dataclasses
import math

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import config as run_config
from lora_jax.lora import masks
from lora_jax.lora.adapter import AdapterSpec
from lora_jax.lora.targets import parse_layers
from lora_jax.models import decoder
from lora_jax.models.config import DecoderConfig
from lora_jax.models.parameters import count, initialise, tree_map
from lora_jax.training.optimizer import make_optimizer
from lora_jax.training.step import TrainState, make_step

CONFIG = DecoderConfig("qwen2", 61, 16, 24, 4, heads=2, kv_heads=1, head_width=8, qkv_bias=True)
# Much weight and little activation, so that a copy of a weight cannot hide.
HEAVY = DecoderConfig("qwen2", 64, 128, 512, layers=6, heads=4, kv_heads=4, head_width=32)


def describe(config, layers, targets=("up_proj",), dropout=0.0):
    declarations = decoder.declare(config)
    chosen = parse_layers(layers, config.layers)
    return AdapterSpec.from_ranks(masks.select(declarations, targets, chosen, 1), 16.0, dropout)


def build(config, spec, remat="none", dtype="float32", parts=1):
    """Return the step, its first state and the frozen weights, all on the device."""
    declarations = decoder.declare(config)
    base = initialise(declarations, jax.random.key(0))
    trained = declarations if spec is None else spec.declare(declarations)
    start = base if spec is None else spec.initialise(declarations, jax.random.key(1))
    optimizer = make_optimizer(run_config.default_config().train, 10, trained)
    step = make_step(
        config, optimizer, spec=spec, compute_dtype=jnp.dtype(dtype), remat=remat, parts=parts
    )
    return step, TrainState.start(start, optimizer, 0), {} if spec is None else base


def make_batch(config, rows=2, length=12):
    rng = np.random.default_rng(0)
    return {
        "tokens": rng.integers(0, config.vocabulary, (rows, length)),
        "targets": rng.integers(0, config.vocabulary, (rows, length)),
        "positions": np.tile(np.arange(length), (rows, 1)),
        "segment_ids": np.ones((rows, length), np.int32),
        "loss_mask": np.ones((rows, length), bool),
    }


def product_flops(jaxpr) -> int:
    """Count the FLOPs of a program's matrix products, those in loops as often as they run."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            inner = math.prod(shape[axis] for axis in contracted)
            total += 2 * inner * equation.outvars[0].aval.size
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            total += times * product_flops(inner)
    return total


def step_flops(config, layers=None, remat="none") -> int:
    spec = None if layers is None else describe(config, layers)
    step, state, frozen = build(config, spec, remat)
    return product_flops(step.trace(state, frozen, make_batch(config)).jaxpr.jaxpr)


def test_adapter_step_changes_the_factors_and_nothing_else():
    step, state, frozen = build(CONFIG, describe(CONFIG, "1-2"))
    before = jax.tree.map(np.asarray, frozen)
    factors, key = jax.tree.map(np.array, state.trainable), np.array(state.key)
    for number in range(2):
        assert state.step == number
        state, measured = step(state, frozen, make_batch(CONFIG))
    jax.tree.map(np.testing.assert_array_equal, frozen, before)
    changed = jax.tree.map(lambda new, old: (new != old).mean() > 0.9, state.trainable, factors)
    assert all(jax.tree.leaves(changed))
    np.testing.assert_array_equal(state.key, key)
    assert measured["loss"] == pytest.approx(math.log(61), rel=0.05)
    assert measured["grad_norm"] > 0


def test_full_step_changes_every_weight():
    step, state, frozen = build(CONFIG, None)
    before = jax.tree.map(np.array, state.trainable)
    state, _ = step(state, frozen, make_batch(CONFIG))
    changed = jax.tree.map(lambda new, old: (new != old).any(), state.trainable, before)
    assert all(jax.tree.leaves(changed))


def test_full_step_in_bfloat16_keeps_fp32_weights():
    step, state, frozen = build(CONFIG, None, dtype="bfloat16")
    state, measured = step(state, frozen, make_batch(CONFIG))
    assert {x.dtype for x in jax.tree.leaves(state.trainable)} == {jnp.dtype("float32")}
    assert measured["loss"] == pytest.approx(math.log(61), rel=0.05)


def test_dropout_differs_from_step_to_step_and_repeats_from_the_same_state():
    step, state, frozen = build(CONFIG, describe(CONFIG, "all", dropout=0.5))
    ones = jax.tree.map(jnp.ones_like, state.trainable)
    losses = []
    for number in (0, 1, 1):
        # A copy: the step uses its state's buffers up.
        start = dataclasses.replace(
            jax.tree.map(jnp.copy, state),
            trainable=jax.tree.map(jnp.copy, ones),
            step=jnp.int32(number),
        )
        losses.append(float(step(start, frozen, make_batch(CONFIG))[1]["loss"]))
    assert losses[0] != losses[1] == losses[2]


def test_batch_without_supervised_tokens_is_no_nan():
    step, state, frozen = build(CONFIG, describe(CONFIG, "all"))
    batch = make_batch(CONFIG)
    batch["loss_mask"] = np.zeros_like(batch["loss_mask"])
    _, measured = step(state, frozen, batch)
    assert measured == {"loss": 0.0, "grad_norm": 0.0}


def test_adapter_step_has_no_gradient_of_base_weights():
    """Full: forward, gradient of inputs, gradient of weights. Adapter: the first two."""
    tokens = 2 * 12
    weights = count(decoder.declare(HEAVY)["layers"])
    full, adapter = step_flops(HEAVY), step_flops(HEAVY, "all")
    one_pass = 2 * tokens * weights
    assert full == pytest.approx(3 * one_pass, rel=0.06)
    assert adapter == pytest.approx(2 * one_pass, rel=0.06)


@pytest.mark.parametrize("remat", ["none", "full"])
def test_backward_pass_ends_at_the_first_adapter(remat):
    tokens, layers = 2 * 12, HEAVY.layers
    one_layer = 2 * tokens * count(decoder.declare(HEAVY)["layers"]) // layers
    everywhere = step_flops(HEAVY, "all", remat)
    for first in (2, 5):
        saved = everywhere - step_flops(HEAVY, f"{first}-5", remat)
        # Repeating the forward pass stops short of a layer's last product, which nothing needs.
        repeated = 1 - HEAVY.width * HEAVY.mlp_width * layers / count(
            decoder.declare(HEAVY)["layers"]
        )
        per_layer = 1 + (repeated if remat == "full" else 0)
        assert saved == pytest.approx(first * per_layer * one_layer, rel=0.1)


@pytest.mark.parametrize(("layers", "remat"), [("all", "none"), ("2-3", "none"), ("2-3", "full")])
def test_no_copy_of_the_base_is_made(layers, remat):
    step, state, frozen = build(HEAVY, describe(HEAVY, layers), remat)
    compiled = step.lower(state, frozen, make_batch(HEAVY, rows=1, length=8)).compile()
    base = sum(x.nbytes for x in jax.tree.leaves(frozen))
    # Room for two layers' weights and the activations, not for the stack.
    assert compiled.memory_analysis().temp_size_in_bytes < 2.2 * base / HEAVY.layers
    # Less by what is compiled than full fine-tuning, too, whatever the trace says.
    assert compiled.memory_analysis().output_size_in_bytes < 0.05 * base


def test_state_of_an_adapter_is_small():
    _, state, frozen = build(HEAVY, describe(HEAVY, "all"))
    base = sum(x.nbytes for x in jax.tree.leaves(frozen))
    assert sum(x.nbytes for x in jax.tree.leaves(state)) < 0.02 * base


def test_rematerialisation_changes_no_result():
    batch, results = make_batch(CONFIG), []
    for remat in decoder.REMAT:
        step, state, frozen = build(CONFIG, describe(CONFIG, "1-3", dropout=0.3), remat)
        state, measured = step(state, frozen, batch)
        results.append((state.trainable, measured))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7), *results)


def test_tree_map_of_the_state_keeps_its_parts():
    _, state, _ = build(CONFIG, describe(CONFIG, "0"))
    assert jax.tree.structure(jax.tree.map(jnp.copy, state)) == jax.tree.structure(state)
    assert tree_map(jnp.shape, state.trainable) == {
        "mlp.up_proj": {"a": (1, 16, 1), "b": (1, 1, 24)}
    }


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_parts_add_up_to_the_batch(mode):
    """Every token weighs the same, however many of them a part happens to have."""
    spec = describe(CONFIG, "1-2") if mode == "lora" else None
    batch = make_batch(CONFIG, rows=4)
    batch["loss_mask"] = np.arange(12) < np.array([[12], [1], [3], [0]])
    results = []
    for parts in (1, 2, 4):
        step, state, frozen = build(CONFIG, spec, parts=parts)
        measured = []
        for _ in range(3):
            state, scalars = step(state, frozen, batch)
            measured.append((float(scalars["loss"]), float(scalars["grad_norm"])))
        results.append((np.array(measured), jax.tree.map(np.asarray, state.trainable)))
    for measured, trained in results[1:]:
        np.testing.assert_allclose(measured, results[0][0], rtol=1e-4)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), trained, results[0][1]
        )


def test_parts_need_the_activations_of_one():
    spec = describe(CONFIG, "all")
    batch = make_batch(CONFIG, rows=16, length=64)
    memory = []
    for parts in (1, 8):
        step, state, frozen = build(CONFIG, spec, parts=parts)
        compiled = step.lower(state, frozen, batch).compile()
        memory.append(compiled.memory_analysis().temp_size_in_bytes)
    assert memory[1] < memory[0] / 4
