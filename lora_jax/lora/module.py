"""The low-rank update itself, as a Flax module."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from lora_jax.models.parameters import Parameter


class LoRA(nnx.Module):
    """Compute `scale * dropout(x) A B`, the update of one projection, in fp32.

    Source: Hu et al. 2021 (arXiv 2106.09685), where the update of a weight (out, in) reads
    (alpha / r) B A; matrices here are stored (in, out), which turns the order round.

    Args:
        a: A, [in, R].
        b: B, [R, out].
        scale: Factor of the product, alpha / rank or alpha / sqrt(rank).
        dropout: Probability that an input element is left out of the update.
        key: Source of dropout; None computes without, as at inference.
    """

    def __init__(
        self,
        a: jax.Array,
        b: jax.Array,
        scale: jax.Array | float,
        dropout: float,
        key: jax.Array | None,
    ):
        self.a = a
        self.b = b
        self.scale = scale
        self.dropout = dropout
        self.key = key

    @staticmethod
    def declare(kernel: Parameter, layers: tuple[int, ...], rank: int) -> dict[str, Parameter]:
        """Declare the factors of one projection in several layers.

        A factor follows its weight where that is split over heads or MLP width. Along the model's
        width it is replicated: gathering so small a thing would cost more than it saves.

        Args:
            kernel: The projection's stacked kernel [L, in, out].
            layers: Which layers are adapted.
            rank: R.

        Returns:
            Declarations of A [n, in, R], drawn as PEFT draws it, and B [n, R, out], zero.
        """
        _, inputs, outputs = kernel.shape
        in_axis, out_axis = (None if axis == "embed" else axis for axis in kernel.axes[1:])
        module = kernel.hf_name.removesuffix(".weight")
        a = Parameter(
            (inputs, rank),
            (in_axis, "rank"),
            f"base_model.model.{module}.lora_A.weight",
            init="kaiming_uniform",
            transposed=True,
        )
        b = Parameter(
            (rank, outputs),
            ("rank", out_axis),
            f"base_model.model.{module}.lora_B.weight",
            init="zeros",
            transposed=True,
        )
        return {"a": a.stack(layers), "b": b.stack(layers)}

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map x [..., in] to the update [..., out], in x's type."""
        h = x.astype(jnp.float32)
        if self.key is not None and self.dropout > 0:
            kept = jax.random.bernoulli(self.key, 1 - self.dropout, h.shape)
            h = jnp.where(kept, h / (1 - self.dropout), 0)
        return (h @ self.a @ self.b * self.scale).astype(x.dtype)
