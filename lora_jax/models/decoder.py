"""The decoder: embedding, scanned layers in segments, final norm, logits.

Layers are scanned, so that compile time does not grow with depth. Adapted layers cut the stack
into segments: below the first adapter nothing depends on a trainable value, so no activation is
kept there and the backward pass ends where the first adapter is.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from lora_jax.models.config import DecoderConfig
from lora_jax.models.layers import (
    MLP,
    Attention,
    KeysAndValues,
    RMSNorm,
    Update,
    rotary_angles,
)
from lora_jax.models.parameters import Parameter, Tree, kernel, tree_map
from lora_jax.sharding import constrain

REMAT = ("none", "full")


class Adapter(Protocol):
    """What the decoder asks of something that adds updates to projections.

    Attributes:
        layers: The adapted layers of every projection, ascending, by path ("mlp.up_proj").
        factors: For every projection a pytree of arrays stacked over those layers.
    """

    layers: Mapping[str, tuple[int, ...]]
    factors: Mapping[str, Any]

    def bind(self, projection: str, factors: Any, layer: jax.Array) -> Update:
        """Return the update of one projection in one layer."""


class DecoderLayer(nnx.Module):
    """Compute one pre-norm transformer layer."""

    def __init__(self, config: DecoderConfig, weights: Tree, updates: Mapping[str, Update]):
        eps = config.norm_eps
        self.input_layernorm = RMSNorm(weights["input_layernorm"], eps)
        self.self_attn = Attention(config, weights["self_attn"], updates)
        self.post_attention_layernorm = RMSNorm(weights["post_attention_layernorm"], eps)
        self.mlp = MLP(config, weights["mlp"], updates)

    @staticmethod
    def declare(config: DecoderConfig) -> dict[str, Any]:
        """Declare one layer's parameters."""
        name, norm = "model.layers.{layer}", "layernorm"
        return {
            "input_layernorm": RMSNorm.declare(config.width, f"{name}.input_{norm}"),
            "self_attn": Attention.declare(config, f"{name}.self_attn"),
            "post_attention_layernorm": RMSNorm.declare(
                config.width, f"{name}.post_attention_{norm}"
            ),
            "mlp": MLP.declare(config, f"{name}.mlp"),
        }

    def __call__(self, x, rotation, mask, remember) -> tuple[jax.Array, KeysAndValues]:
        """Map x [B, T, D] to [B, T, D]; the rest is as for `Attention`."""
        attended, own = self.self_attn(self.input_layernorm(x), rotation, mask, remember)
        x = x + attended
        x = x + self.mlp(self.post_attention_layernorm(x))
        return constrain(x, "batch", None, None), own


def declare(config: DecoderConfig) -> dict[str, Any]:
    """Declare every parameter of the decoder.

    Returns:
        Tree of `Parameter`: `embed_tokens`, `layers` (stacked over L), `norm` and, unless the
        embeddings are tied, `lm_head`.
    """
    embedding = (config.vocabulary, config.width)
    tree = {
        "embed_tokens": {
            "embedding": Parameter(embedding, ("vocabulary", "embed"), "model.embed_tokens.weight")
        },
        "layers": tree_map(
            lambda leaf: leaf.stack(range(config.layers)), DecoderLayer.declare(config)
        ),
        "norm": RMSNorm.declare(config.width, "model.norm"),
    }
    if not config.tied_embeddings:
        head = kernel(config.width, config.vocabulary, ("embed", "vocabulary"), "lm_head")
        tree["lm_head"] = {"kernel": head}
    return tree


def hidden_states(
    config: DecoderConfig,
    parameters: Tree,
    tokens: jax.Array,
    positions: jax.Array,
    mask: jax.Array,
    *,
    adapter: Adapter | None = None,
    cache: KeysAndValues | None = None,
    slot: jax.Array | int = 0,
    remat: str = "none",
) -> tuple[jax.Array, KeysAndValues | None]:
    """Run the decoder up to its final norm.

    Args:
        config: The decoder.
        parameters: Tree of arrays as `declare` describes it.
        tokens: Token ids [B, T].
        positions: Position of every token in its own sequence [B, T].
        mask: True where query T may see key S, [B, T, S]; S = T without a cache.
        adapter: Updates to add to projections.
        cache: Keys and values [L, B, S, K, h] of a cache to write into and attend over.
        slot: Where in the cache this call's first token goes.
        remat: "none", or "full" to keep only layer boundaries for the backward pass.

    Returns:
        Hidden states [B, T, D], and the cache after the call.
    """
    x = parameters["embed_tokens"]["embedding"][tokens]
    x = constrain(x, "batch", None, None)
    rotation = rotary_angles(positions, config.rope, config.head_width)

    def one_layer(carry, layer_inputs):
        x, cache = carry
        index, weights, factors = layer_inputs
        if weights is None:
            weights = jax.tree.map(lambda stack: _read(stack, index), parameters["layers"])
        updates = {
            projection.rpartition(".")[2]: adapter.bind(projection, factors[projection], index)
            for projection in factors
        }
        layer = DecoderLayer(config, weights, updates)
        if cache is None:
            x, _ = layer(x, rotation, mask, None)
            return (x, None), None
        written = []

        def remember(k, v):
            for stack, new in zip(cache, (k, v), strict=True):
                new = new[None].astype(stack.dtype)
                written.append(jax.lax.dynamic_update_slice(stack, new, (index, 0, slot, 0, 0)))
            return tuple(stack[index] for stack in written)

        x, _ = layer(x, rotation, mask, remember)
        return (x, tuple(written)), None

    body = jax.checkpoint(one_layer, policy=_policy(remat), prevent_cse=False)
    # Weights that are trained are scanned over, which is how their gradients come out stacked. Frozen
    # ones are read from the stack in place, because scanned ones would be copied for the backward
    # pass.
    scanned = parameters["layers"] if adapter is None else None
    for start, stop in segments(config.layers, adapter):
        inputs = (jnp.arange(start, stop), scanned, _factors_between(adapter, start, stop))
        (x, cache), _ = jax.lax.scan(body, (x, cache), inputs)
    norm = RMSNorm(parameters["norm"], config.norm_eps)
    return norm(x), cache


def output_kernel(parameters: Tree) -> jax.Array:
    """Return the matrix [D, V] from hidden states to logits, tied or not."""
    if "lm_head" in parameters:
        return parameters["lm_head"]["kernel"]
    return parameters["embed_tokens"]["embedding"].T


def logits(parameters: Tree, hidden: jax.Array) -> jax.Array:
    """Return fp32 logits [..., V] of hidden states [..., D]."""
    return jnp.matmul(hidden, output_kernel(parameters), preferred_element_type=jnp.float32)


def causal_mask(segment_ids: jax.Array) -> jax.Array:
    """Let a token see itself and what came before it in its own segment.

    Args:
        segment_ids: [B, T]; 0 marks padding, packed samples are numbered from 1.

    Returns:
        Mask [B, T, T], True where query T may see key S.
    """
    length = segment_ids.shape[1]
    same = segment_ids[:, :, None] == segment_ids[:, None, :]
    return same & jnp.tril(jnp.ones((length, length), bool))


def segments(layers: int, adapter: Adapter | None) -> list[tuple[int, int]]:
    """Cut the layers into runs that have the same set of adapted projections.

    Returns:
        Half-open layer ranges, in order.
    """
    if adapter is None:
        return [(0, layers)]
    adapted = [
        {projection for projection, chosen in adapter.layers.items() if layer in chosen}
        for layer in range(layers)
    ]
    cuts = [0, *(i for i in range(1, layers) if adapted[i] != adapted[i - 1]), layers]
    return list(itertools.pairwise(cuts))


def _factors_between(adapter: Adapter | None, start: int, stop: int) -> dict[str, Any]:
    """Return the factors, stacked over layers, of the projections adapted in a segment."""
    chosen = {}
    for projection, layers in (adapter.layers if adapter else {}).items():
        if start in layers:
            rows = slice(layers.index(start), layers.index(start) + stop - start)
            chosen[projection] = jax.tree.map(
                lambda stack, rows=rows: stack[rows], adapter.factors[projection]
            )
    return chosen


def _read(stack: jax.Array, layer: jax.Array) -> jax.Array:
    """Return one layer's array out of a stack [L, ...]."""
    return jax.lax.dynamic_index_in_dim(stack, layer, keepdims=False)


def _policy(remat: str):
    """Return what the backward pass keeps: never what `_read` gives, it is read again."""
    if remat == "full":
        return jax.checkpoint_policies.nothing_saveable
    return lambda primitive, *_, **__: primitive.name not in ("dynamic_slice", "squeeze")
