"""What the compiler is told, where its defaults do not suit a model's weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def compiler_options(dtype: jnp.dtype) -> dict[str, str]:
    """Return the options for a program that scans over layers, to be given to `jax.jit`.

    A CPU computes with bfloat16 by widening it, and XLA would widen the weights of all layers before the
    loop over layers starts: a copy of the model, in fp32. Left in the loop, it is one layer's.

    Args:
        dtype: Type of the weights.
    """
    if jnp.dtype(dtype) == jnp.bfloat16 and jax.default_backend() == "cpu":
        return {"xla_disable_hlo_passes": "while-loop-invariant-code-motion"}
    return {}
