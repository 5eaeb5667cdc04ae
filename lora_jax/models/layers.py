"""The parts of a decoder layer, as Flax modules over given arrays.

Weights live in plain nested dicts (see `parameters`), so that `jax.jit`, Optax and Orbax see
ordinary pytrees. A module is made around one layer's arrays inside the trace and describes the
computation; the `declare` beside it says which arrays it wants.

A projection accepts an *update*: any callable from its input to a term added to its output. That is
all the decoder knows of LoRA.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from lora_jax.models.activations import ACTIVATIONS
from lora_jax.models.config import DecoderConfig
from lora_jax.models.parameters import Parameter, Tree, kernel
from lora_jax.models.rope import Rope

Update = Callable[[jax.Array], jax.Array]
KeysAndValues = tuple[jax.Array, jax.Array]
Remember = Callable[[jax.Array, jax.Array], KeysAndValues]

NEGATIVE_INFINITY = -1e30  # Finite, so that a row with nothing to attend to does not become NaN.


class Linear(nnx.Module):
    """Compute `x W + b`, plus an update where one is given."""

    def __init__(self, weights: Tree, update: Update | None = None):
        self.kernel = weights["kernel"]
        self.bias = weights.get("bias")
        self.update = update

    @staticmethod
    def declare(
        inputs: int, outputs: int, axes: tuple[str, str], hf_name: str, bias: bool
    ) -> dict[str, Parameter]:
        """Declare the matrix and, where there is one, the bias."""
        tree = {"kernel": kernel(inputs, outputs, axes, hf_name)}
        if bias:
            tree["bias"] = Parameter((outputs,), axes[1:], f"{hf_name}.bias", init="zeros")
        return tree

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map x [B, T, in] to [B, T, out]."""
        y = x @ self.kernel
        if self.bias is not None:
            y += self.bias
        return y if self.update is None else y + self.update(x)


class RMSNorm(nnx.Module):
    """Divide by the root mean square over the last axis, in fp32, and scale."""

    def __init__(self, weights: Tree, eps: float):
        self.weight = weights["weight"]
        self.eps = eps

    @staticmethod
    def declare(width: int, hf_name: str) -> dict[str, Parameter]:
        """Declare the scale."""
        return {"weight": Parameter((width,), (None,), f"{hf_name}.weight", init="ones")}

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalise x [..., width]."""
        x32 = x.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
        return self.weight * (x32 * jax.lax.rsqrt(mean_square + self.eps)).astype(x.dtype)


class MLP(nnx.Module):
    """Compute the gated MLP, down(activation(gate(x)) * up(x))."""

    def __init__(self, config: DecoderConfig, weights: Tree, updates: Mapping[str, Update]):
        self.activation = ACTIVATIONS[config.activation]
        self.gate_proj = Linear(weights["gate_proj"], updates.get("gate_proj"))
        self.up_proj = Linear(weights["up_proj"], updates.get("up_proj"))
        self.down_proj = Linear(weights["down_proj"], updates.get("down_proj"))

    @staticmethod
    def declare(config: DecoderConfig, hf_name: str) -> dict[str, dict[str, Parameter]]:
        """Declare the three projections and, where the model has them, their biases."""
        d, f = config.width, config.mlp_width
        sizes = {
            "gate_proj": (d, f, ("embed", "mlp")),
            "up_proj": (d, f, ("embed", "mlp")),
            "down_proj": (f, d, ("mlp", "embed")),
        }
        return {
            name: Linear.declare(*size, f"{hf_name}.{name}", config.mlp_bias)
            for name, size in sizes.items()
        }

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map x [B, T, D] to [B, T, D]."""
        return self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))


class Attention(nnx.Module):
    """Attend with H query heads over K key/value heads, with rotary positions."""

    def __init__(self, config: DecoderConfig, weights: Tree, updates: Mapping[str, Update]):
        self.config = config
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, Linear(weights[name], updates.get(name)))
        if config.qk_norm:
            self.q_norm = RMSNorm(weights["q_norm"], config.norm_eps)
            self.k_norm = RMSNorm(weights["k_norm"], config.norm_eps)

    @staticmethod
    def declare(config: DecoderConfig, hf_name: str) -> dict[str, dict[str, Parameter]]:
        """Declare the four projections and, where the model has them, biases and head norms."""
        d, h = config.width, config.head_width
        sizes = {
            "q_proj": (d, config.heads * h, ("embed", "heads"), config.qkv_bias),
            "k_proj": (d, config.kv_heads * h, ("embed", "kv_heads"), config.qkv_bias),
            "v_proj": (d, config.kv_heads * h, ("embed", "kv_heads"), config.qkv_bias),
            "o_proj": (config.heads * h, d, ("heads", "embed"), config.o_bias),
        }
        tree = {
            name: Linear.declare(inputs, outputs, axes, f"{hf_name}.{name}", bias)
            for name, (inputs, outputs, axes, bias) in sizes.items()
        }
        if config.qk_norm:
            tree["q_norm"] = RMSNorm.declare(h, f"{hf_name}.q_norm")
            tree["k_norm"] = RMSNorm.declare(h, f"{hf_name}.k_norm")
        return tree

    def __call__(
        self, x: jax.Array, rotation: KeysAndValues, mask: jax.Array, remember: Remember | None
    ) -> tuple[jax.Array, KeysAndValues]:
        """Attend from x [B, T, D].

        Args:
            x: Input [B, T, D].
            rotation: Cosines and sines of the positions, each [B, T, h].
            mask: True where query T may see key S, [B, T, S].
            remember: Takes this call's keys and values [B, T, K, h] to those to attend over
                [B, S, K, h]; how a cache comes in. None attends over this call's own.

        Returns:
            Output [B, T, D], and this call's own keys and values, each [B, T, K, h].
        """
        config = self.config
        batch, length, _ = x.shape
        q = self.q_proj(x).reshape(batch, length, config.heads, config.head_width)
        k = self.k_proj(x).reshape(batch, length, config.kv_heads, config.head_width)
        v = self.v_proj(x).reshape(batch, length, config.kv_heads, config.head_width)
        if config.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q, rotation), rotate(k, rotation)
        own = (k, v)
        k, v = own if remember is None else remember(k, v)
        out = attend(q, k, v, mask)
        return self.o_proj(out.reshape(batch, length, -1)), own


def attend(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> jax.Array:
    """Compute grouped-query attention, softmax in fp32.

    The G query heads of a key/value head are folded into rows of one matrix product: on CPU that is
    much faster than a five-dimensional einsum.

    Args:
        q: Queries [B, T, H, h].
        k: Keys [B, S, K, h].
        v: Values [B, S, K, h].
        mask: True where query T may see key S, [B, T, S].

    Returns:
        Output [B, T, H, h].
    """
    batch, length, heads, width = q.shape
    kv_heads = k.shape[2]
    groups = heads // kv_heads
    rows = q.reshape(batch, length, kv_heads, groups, width).transpose(0, 2, 3, 1, 4)
    rows = rows.reshape(batch, kv_heads, groups * length, width) * width**-0.5
    scores = jnp.einsum("bkrh,bskh->bkrs", rows, k, preferred_element_type=jnp.float32)
    scores = scores.reshape(batch, kv_heads, groups, length, -1)
    scores = jnp.where(mask[:, None, None], scores, NEGATIVE_INFINITY)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    weights = weights.reshape(batch, kv_heads, groups * length, -1)
    out = jnp.einsum("bkrs,bskh->bkrh", weights, v).reshape(batch, kv_heads, groups, length, width)
    return out.transpose(0, 3, 1, 2, 4).reshape(batch, length, heads, width)


def rotary_angles(positions: jax.Array, rope: Rope, head_width: int) -> KeysAndValues:
    """Return cosines and sines, each [B, T, h] in fp32, of positions [B, T].

    The two halves of a head rotate together (Hugging Face's layout), so angles repeat once.
    """
    angles = positions[..., None].astype(jnp.float32) * rope.frequencies(head_width)
    angles = jnp.concatenate([angles, angles], axis=-1)
    return jnp.cos(angles) * rope.attention_factor, jnp.sin(angles) * rope.attention_factor


def rotate(x: jax.Array, rotation: KeysAndValues) -> jax.Array:
    """Apply rotary positions to heads x [B, T, heads, h]."""
    cos, sin = (part[:, :, None, :].astype(x.dtype) for part in rotation)
    first, second = jnp.split(x, 2, axis=-1)
    return x * cos + jnp.concatenate([-second, first], axis=-1) * sin
