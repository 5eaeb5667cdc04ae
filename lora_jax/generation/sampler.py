"""Batched sampling with a key-value cache, compiled once for a run."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lora_jax.compilation import compiler_options
from lora_jax.lora.adapter import AdapterSpec
from lora_jax.models.config import DecoderConfig
from lora_jax.models.decoder import hidden_states, logits
from lora_jax.models.layers import NEGATIVE_INFINITY, KeysAndValues
from lora_jax.models.parameters import Tree
from lora_jax.sharding import batch_sharding, constrain

LENGTH_MULTIPLE = 16  # Prompts are padded to a multiple of this, so that lengths share programs.


@dataclasses.dataclass(frozen=True)
class SamplingSettings:
    """Say how to draw tokens.

    Attributes:
        max_new_tokens: Where a sample is cut off.
        stop_tokens: Ids that end a sample; the one drawn is part of it.
        temperature: Divides the logits; 0 takes the likeliest token.
        top_p: Draw from the smallest set of tokens that has this much probability.
    """

    max_new_tokens: int
    stop_tokens: tuple[int, ...]
    temperature: float = 0.0
    top_p: float = 1.0


class Sampler:
    """Continue prompts, the adapter applied without merging it.

    Args:
        config: The decoder.
        settings: How to draw tokens.
        mesh: The device mesh; batches are spread over its data and fsdp axes.
        batch_size: Prompts in flight together; shorter batches are filled up and cut again, so
            that they share one compiled program.
        spec: The adapter, if there is one.
        prompt_length: Prompts are padded to at least this many tokens; the longest prompt's length
            makes one program do for all.
        dtype: Type of the weights that it will be called with.
    """

    def __init__(
        self,
        config: DecoderConfig,
        settings: SamplingSettings,
        mesh: Mesh,
        batch_size: int,
        spec: AdapterSpec | None = None,
        prompt_length: int = 1,
        dtype: str = "float32",
    ):
        self._settings = settings
        self._mesh = mesh
        self._batch_size = batch_size
        self._prompt_length = prompt_length
        self._sample = jax.jit(
            functools.partial(_sample, config, settings, spec),
            compiler_options=compiler_options(dtype),
        )

    def __call__(
        self, parameters: Tree, factors: Tree, prompts: Sequence[Sequence[int]], seed: int = 0
    ) -> list[list[int]]:
        """Continue every prompt.

        The result depends on the prompts and the seed alone, not on what was sampled before, so an
        evaluation that was killed goes on with the same samples.

        Args:
            parameters: The base weights.
            factors: The adapter's factors; an empty dict without an adapter.
            prompts: At most `batch_size` prompts, as token ids.
            seed: Source of randomness where the temperature is not 0.

        Returns:
            The new tokens of every prompt, up to and with the stop token.
        """
        length = max(self._prompt_length, *(len(prompt) for prompt in prompts))
        length += -length % LENGTH_MULTIPLE
        tokens = np.zeros((self._batch_size, length), np.int32)
        real = np.zeros((self._batch_size, length), bool)
        real[len(prompts) :, -1] = True  # Rows that fill the batch up need one token to attend to.
        keys = np.zeros(self._batch_size, np.uint32)
        for row, prompt in enumerate(prompts):
            tokens[row, length - len(prompt) :] = prompt
            real[row, length - len(prompt) :] = True
            keys[row] = zlib.crc32(np.asarray(prompt, np.int32).tobytes())
        rows = batch_sharding(self._mesh)
        with jax.set_mesh(self._mesh):
            new = self._sample(
                parameters,
                factors,
                jax.device_put(tokens, rows),
                jax.device_put(real, rows),
                jax.device_put(keys, rows),
                jax.random.key(seed),
                np.arange(self._batch_size) >= len(prompts),
            )
        return [self._until_stop(row) for row in np.asarray(new)[: len(prompts)].tolist()]

    def _until_stop(self, tokens: list[int]) -> list[int]:
        for position, token in enumerate(tokens):
            if token in self._settings.stop_tokens:
                return tokens[: position + 1]
        return tokens


def _sample(
    config: DecoderConfig,
    settings: SamplingSettings,
    spec: AdapterSpec | None,
    parameters: Tree,
    factors: Tree,
    tokens: jax.Array,
    real: jax.Array,
    row_keys: jax.Array,
    key: jax.Array,
    finished: jax.Array,
) -> jax.Array:
    """Continue left-padded prompts [B, P] by up to `max_new_tokens`, as one program.

    Args:
        config: The decoder.
        settings: How to draw tokens.
        spec: The adapter, if there is one.
        parameters: The base weights.
        factors: The adapter's factors.
        tokens: Prompts [B, P], padded on the left so that all of them end at P.
        real: Where a prompt has a token, [B, P].
        row_keys: What makes a row's randomness its own, [B].
        key: Source of randomness of the run.
        finished: Rows that need no tokens at all, [B].

    Returns:
        New tokens [B, max_new_tokens]; what follows a stop token means nothing.
    """
    batch, prompt_length = tokens.shape
    adapter = spec.bind(factors) if spec else None
    new_tokens = settings.max_new_tokens
    capacity = prompt_length + new_tokens
    visible = jnp.pad(real, ((0, 0), (0, new_tokens)), constant_values=True)
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(row_keys)
    stops = jnp.asarray(settings.stop_tokens)

    def forward(tokens, positions, cache, slot):
        """Run the decoder on tokens [B, T] that go into the cache from `slot` on."""
        query = slot + jnp.arange(tokens.shape[1])
        mask = visible[:, None, :] & (jnp.arange(capacity) <= query[:, None])
        hidden, cache = hidden_states(
            config, parameters, tokens, positions, mask, adapter=adapter, cache=cache, slot=slot
        )
        return logits(parameters, hidden[:, -1]), cache

    def advance(state):
        step, last_logits, cache, out, finished = state
        token = _draw(last_logits, settings, jax.vmap(jax.random.fold_in, (0, None))(keys, step))
        out = jax.lax.dynamic_update_slice(out, token[:, None], (0, step))
        finished = finished | jnp.isin(token, stops)
        positions = real.sum(axis=1, keepdims=True) + step
        last_logits, cache = forward(token[:, None], positions, cache, prompt_length + step)
        return step + 1, last_logits, cache, out, finished

    def unfinished(state):
        step, _, _, _, finished = state
        return (step < new_tokens) & ~finished.all()

    positions = jnp.maximum(jnp.cumsum(real, axis=1) - 1, 0)
    cache = _empty_cache(config, batch, capacity, parameters["norm"]["weight"].dtype)
    last_logits, cache = forward(tokens, positions, cache, 0)
    out = jnp.zeros((batch, new_tokens), jnp.int32)
    state = (0, last_logits, cache, out, finished)
    return jax.lax.while_loop(unfinished, advance, state)[3]


def _draw(logits: jax.Array, settings: SamplingSettings, keys: jax.Array) -> jax.Array:
    """Draw a token [B] from logits [B, V], every row with its own key [B]."""
    if settings.temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = logits / settings.temperature
    if settings.top_p < 1:
        logits = _nucleus(logits, settings.top_p)
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)


def _nucleus(logits: jax.Array, top_p: float) -> jax.Array:
    """Exclude what lies outside the smallest set of tokens with probability `top_p`.

    Source: Holtzman et al. 2019 (arXiv 1904.09751).
    """
    order = jnp.argsort(-logits, axis=-1)
    probability = jnp.take_along_axis(jax.nn.softmax(logits, axis=-1), order, axis=-1)
    before = jnp.cumsum(probability, axis=-1) - probability
    rank = jnp.argsort(order, axis=-1)
    kept = jnp.take_along_axis(before < top_p, rank, axis=-1)
    return jnp.where(kept, logits, NEGATIVE_INFINITY)


def _empty_cache(
    config: DecoderConfig, batch: int, capacity: int, dtype: jnp.dtype
) -> KeysAndValues:
    """Return keys and values [L, B, S, K, h] for `capacity` = S tokens a row."""
    shape = (config.layers, batch, capacity, config.kv_heads, config.head_width)
    empty = constrain(jnp.zeros(shape, dtype), "layers", "batch", None, "kv_heads", None)
    return empty, empty
