"""One training step: a pure function of what is trained, what is frozen, and a batch."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lora_jax.compilation import compiler_options
from lora_jax.lora.adapter import AdapterSpec
from lora_jax.models.config import DecoderConfig
from lora_jax.models.parameters import Tree
from lora_jax.training.objective import Batch, summed_loss


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("trainable", "optimizer", "step", "key"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Hold all that changes from step to step; what a checkpoint saves.

    Attributes:
        trainable: The adapter's factors, or the base itself in full fine-tuning; fp32.
        optimizer: Optax's state for it.
        step: Steps taken.
        key: Raw data of the key from which every step's dropout is derived.
    """

    trainable: Tree
    optimizer: Any
    step: jax.Array
    key: jax.Array

    @classmethod
    def start(
        cls, trainable: Tree, optimizer: optax.GradientTransformation, seed: int
    ) -> TrainState:
        """Return the state before the first step."""
        key = jax.random.key_data(jax.random.key(seed))
        return cls(trainable, optimizer.init(trainable), jnp.zeros((), jnp.int32), key)


def make_step(
    config: DecoderConfig,
    optimizer: optax.GradientTransformation,
    *,
    spec: AdapterSpec | None,
    compute_dtype: jnp.dtype,
    remat: str = "none",
    parts: int = 1,
    shardings: TrainState | None = None,
) -> Callable[[TrainState, Tree, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """Make the compiled step, for an adapter or for full fine-tuning.

    Only the trainable tree is differentiated, which is what keeps the backward pass of an adapter
    short: there is no gradient of a base weight anywhere in the program.

    Args:
        config: The decoder.
        optimizer: Updates the trainable tree.
        spec: The adapter; None where the trainable tree is the base itself.
        compute_dtype: Type of the matrix products: that of frozen weights; in full fine-tuning the
            weights stay fp32.
        remat: As for `decoder.hidden_states`.
        parts: Into how many parts a batch is cut, whose gradients are computed one after the other and
            added up: the same step, up to the order of sums and to dropout, with the activations of
            one part.
        shardings: Where the state lives, before and after a step; left to the compiler, it may come
            back elsewhere, and the next step would compile anew.

    Returns:
        (state, frozen base weights, batch) -> (new state, metrics). The state's buffers are reused.
        Metrics are scalars: loss (nats a supervised token) and grad_norm (before clipping).
    """

    def share_of_loss(
        trainable: Tree, frozen: Tree, part: Batch, key: jax.Array, tokens: jax.Array
    ) -> jax.Array:
        """Return what a part adds to the mean over all of the batch's supervised tokens."""
        if spec is None:
            base = jax.tree.map(lambda x: x.astype(compute_dtype), trainable)
            adapter = None
        else:
            base, adapter = frozen, spec.bind(trainable, key)
        total, _ = summed_loss(config, base, part, adapter=adapter, remat=remat)
        return total / tokens

    def loss_and_gradient(trainable: Tree, frozen: Tree, batch: Batch, key: jax.Array):
        tokens = jnp.maximum(batch["loss_mask"].astype(jnp.float32).sum(), 1)
        differentiate = jax.value_and_grad(share_of_loss)
        if parts == 1:
            return differentiate(trainable, frozen, batch, key, tokens)

        def add_part(sums, numbered):
            number, part = numbered
            part_key = jax.random.fold_in(key, number)
            found = differentiate(trainable, frozen, part, part_key, tokens)
            return jax.tree.map(jnp.add, sums, found), None

        zeros = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, trainable))
        numbered = (jnp.arange(parts), {name: _cut(x, parts) for name, x in batch.items()})
        return jax.lax.scan(add_part, zeros, numbered)[0]

    def step(state: TrainState, frozen: Tree, batch: Batch):
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        loss, gradient = loss_and_gradient(state.trainable, frozen, batch, key)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.trainable)
        new = TrainState(
            optax.apply_updates(state.trainable, updates),
            optimizer_state,
            state.step + 1,
            state.key,
        )
        return new, {"loss": loss, "grad_norm": optax.tree.norm(gradient)}

    return jax.jit(
        step,
        donate_argnums=0,
        out_shardings=(shardings, None),
        compiler_options=compiler_options(compute_dtype),
    )


def _cut(x: jax.Array, parts: int) -> jax.Array:
    """Cut a batch [B, T] into parts [C, B/C, T], each with rows of every device's share."""
    return jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1)
