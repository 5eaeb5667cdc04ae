"""The loss against a plain computation, and what it must not depend on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import data
from lora_jax.models import decoder, parameters
from lora_jax.models.config import DecoderConfig
from lora_jax.training import objective

CONFIG = DecoderConfig(
    "qwen2", vocabulary=61, width=16, mlp_width=24, layers=2, heads=2, kv_heads=1, head_width=8
)


@pytest.fixture(scope="module")
def params():
    drawn = parameters.initialise(decoder.declare(CONFIG), jax.random.key(0))
    return jax.tree.map(lambda x: 4 * x, drawn)


def make_batch(rows: int, length: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "tokens": rng.integers(0, CONFIG.vocabulary, (rows, length)),
        "targets": rng.integers(0, CONFIG.vocabulary, (rows, length)),
        "positions": np.tile(np.arange(length), (rows, 1)),
        "segment_ids": np.ones((rows, length), np.int32),
        "loss_mask": rng.random((rows, length)) < 0.4,
    }


@pytest.mark.parametrize("chunk", [1, 7, 24, 4096])
def test_loss_is_the_plain_cross_entropy_whatever_the_chunk(params, monkeypatch, chunk):
    batch = make_batch(3, 17)
    hidden, _ = decoder.hidden_states(
        CONFIG, params, batch["tokens"], batch["positions"],
        decoder.causal_mask(jnp.asarray(batch["segment_ids"])),
    )  # fmt: skip
    log_probs = np.asarray(jax.nn.log_softmax(decoder.logits(params, hidden)))
    chosen = np.take_along_axis(log_probs, batch["targets"][..., None], -1)[..., 0]
    monkeypatch.setattr(objective, "CHUNK", chunk)
    loss, count = objective.summed_loss(CONFIG, params, batch)
    assert count == batch["loss_mask"].sum()
    np.testing.assert_allclose(loss, -(chosen * batch["loss_mask"]).sum(), rtol=1e-5)


def test_sums_of_parts_are_the_sum_of_the_whole(params):
    batch = make_batch(4, 12)
    whole, count = objective.summed_loss(CONFIG, params, batch)
    halves = [
        objective.summed_loss(CONFIG, params, {k: v[rows] for k, v in batch.items()})
        for rows in (slice(0, 1), slice(1, 4))
    ]
    np.testing.assert_allclose(whole, sum(loss for loss, _ in halves), rtol=1e-5)
    assert count == sum(part for _, part in halves)


def test_unsupervised_targets_do_not_matter(params):
    batch = make_batch(2, 9)
    changed = batch | {"targets": np.where(batch["loss_mask"], batch["targets"], 0)}
    before, _ = objective.summed_loss(CONFIG, params, batch)
    after, _ = objective.summed_loss(CONFIG, params, changed)
    assert before == after


def test_packing_changes_no_loss(params):
    """Over the same rows: every supervised token weighs the same, wherever it is put."""
    rng = np.random.default_rng(0)
    rows = [
        data.EncodedConversation(
            rng.integers(0, CONFIG.vocabulary, length).astype(np.int32),
            rng.random(length) < 0.6,
            1,
            f"row {number}",
        )
        for number, length in enumerate(rng.integers(4, 20, 12))
    ]
    loss = jax.jit(functools.partial(objective.summed_loss, CONFIG))
    results = {}
    for packing in (False, True):
        batches = data.training_batches(
            rows, batch_size=3, max_length=48, epochs=1, seed=0, packing=packing
        )
        sums = [loss(params, batch) for batch in batches]
        results[packing] = np.sum(np.array(sums), axis=0)
    assert results[True][1] == results[False][1] == sum(row.supervised[1:].sum() for row in rows)
    np.testing.assert_allclose(results[True], results[False], rtol=1e-5)
