"""The update of every kernel as one matrix, for a model that needs no adapter any more."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from lora_jax.lora.adapter import AdapterSpec
from lora_jax.models.parameters import Tree


def updates(spec: AdapterSpec, factors: Tree) -> Callable[[str, int], np.ndarray | None]:
    """Offer what an adapter adds to the kernels, one matrix at a time.

    The sum is to be taken in fp32 and cast afterwards: bf16 may swallow a small update whole.

    Args:
        spec: The adapter.
        factors: Its values.

    Returns:
        (path of a stacked kernel, such as "layers.mlp.up_proj.kernel", and a layer) -> the update
        [in, out], fp32, or None where there is none.
    """
    values = jax.device_get(factors)
    places = {f"layers.{place.projection}.kernel": place for place in spec.placements}

    def update(path: str, layer: int) -> np.ndarray | None:
        place = places.get(path)
        if place is None or layer not in place.layers:
            return None
        row = place.layers.index(layer)
        two = values[place.projection]
        a, b = (np.asarray(two[name][row], np.float32) for name in ("a", "b"))
        return np.float32(spec.scales[place.projection][row]) * (a @ b)

    return update
