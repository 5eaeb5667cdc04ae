"""The loss: cross-entropy of supervised tokens, every token of a batch weighing the same."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from lora_jax.models.config import DecoderConfig
from lora_jax.models.decoder import Adapter, causal_mask, hidden_states, output_kernel
from lora_jax.models.parameters import Tree

CHUNK = 1024  # Tokens whose logits exist at the same time; a 152k vocabulary leaves no choice.

Batch = Mapping[str, jax.Array]


def summed_loss(
    config: DecoderConfig,
    parameters: Tree,
    batch: Batch,
    *,
    adapter: Adapter | None = None,
    remat: str = "none",
) -> tuple[jax.Array, jax.Array]:
    """Sum the cross-entropy over a batch's supervised tokens.

    Sum and count are returned apart, so that whoever combines several batches can divide once: an
    average of averages would weigh the tokens of short samples more.

    Args:
        config: The decoder.
        parameters: The base weights.
        batch: tokens, targets, positions, segment_ids and loss_mask, each [B, T].
        adapter: Updates to add to projections.
        remat: As for `hidden_states`.

    Returns:
        The summed loss in nats, and the number of supervised tokens, both fp32 scalars.
    """
    hidden, _ = hidden_states(
        config,
        parameters,
        batch["tokens"],
        batch["positions"],
        causal_mask(batch["segment_ids"]),
        adapter=adapter,
        remat=remat,
    )
    weights = batch["loss_mask"].astype(jnp.float32)
    kernel = output_kernel(parameters)
    return _chunked_cross_entropy(hidden, kernel, batch["targets"], weights), weights.sum()


def _chunked_cross_entropy(
    hidden: jax.Array, kernel: jax.Array, targets: jax.Array, weights: jax.Array
) -> jax.Array:
    """Sum weighted cross-entropies, holding the logits of one chunk of tokens at a time.

    Args:
        hidden: [B, T, D].
        kernel: [D, V].
        targets: [B, T].
        weights: [B, T].

    Returns:
        The sum in nats.
    """
    batch, length, _ = hidden.shape
    width = max(1, min(length, CHUNK // batch))
    padding = -length % width

    def chunks(x: jax.Array) -> jax.Array:
        """Cut along T, so that a sharded batch axis stays whole: [B, T, ...] to [C, B, T/C, ...]."""
        x = jnp.pad(x, [(0, 0), (0, padding)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(batch, -1, width, *x.shape[2:]), 1, 0)

    @jax.checkpoint
    def one_chunk(total, chunk):
        h, target, weight = chunk
        logits = jnp.matmul(h, kernel, preferred_element_type=jnp.float32)
        chosen = jnp.take_along_axis(logits, target[..., None], axis=-1)[..., 0]
        losses = jax.nn.logsumexp(logits, axis=-1) - chosen
        return total + jnp.sum(losses * weight), None

    inputs = (chunks(hidden), chunks(targets), chunks(weights))
    total, _ = jax.lax.scan(one_chunk, jnp.zeros((), jnp.float32), inputs)
    return total
