"""An adapter: which projections have factors, and the factors bound to the decoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from lora_jax.lora import masks
from lora_jax.lora.module import LoRA
from lora_jax.models.parameters import Parameter, Tree, flatten, initialise


@dataclasses.dataclass(frozen=True)
class AdapterSpec:
    """Describe an adapter, without its values.

    Attributes:
        layers: For every adapted projection, by path ("mlp.up_proj"), its layers, ascending.
        rank: R.
        alpha: Numerator of the scale.
        dropout: Probability that an input element is left out of the update in training.
    """

    layers: Mapping[str, tuple[int, ...]]
    rank: int
    alpha: float
    dropout: float = 0.0

    @property
    def scale(self) -> float:
        """Return alpha / R."""
        return self.alpha / self.rank

    @classmethod
    def from_mask(cls, mask: Tree, rank: int, alpha: float, dropout: float = 0.0) -> AdapterSpec:
        """Describe an adapter on everything that a mask selects."""
        return cls(masks.selected_layers(mask), rank, alpha, dropout)

    def declare(self, declarations: Tree) -> dict[str, dict[str, Parameter]]:
        """Declare the factors.

        Args:
            declarations: The decoder's tree of `Parameter`.

        Returns:
            By projection, the declarations of A and B.
        """
        kernels = flatten(declarations)
        return {
            projection: LoRA.declare(kernels[f"layers.{projection}.kernel"], layers, self.rank)
            for projection, layers in self.layers.items()
        }

    def initialise(self, declarations: Tree, key: jax.Array) -> dict[str, Any]:
        """Draw the factors, in fp32: A as PEFT does, B zero, so that the update starts at zero."""
        declared = self.declare(declarations)
        keys = jax.random.split(key, len(declared))
        return {
            projection: initialise(factors, projection_key, jnp.float32)
            for (projection, factors), projection_key in zip(declared.items(), keys, strict=True)
        }

    def bind(self, factors: Tree, key: jax.Array | None = None) -> BoundAdapter:
        """Give the adapter its values.

        Args:
            factors: By projection, {"a": [n, in, R], "b": [n, R, out]}.
            key: Source of dropout; None at inference.
        """
        return BoundAdapter(self, factors, key)


@dataclasses.dataclass(frozen=True)
class BoundAdapter:
    """Offer the decoder the updates it asks for (see `decoder.Adapter`)."""

    spec: AdapterSpec
    factors: Tree
    key: jax.Array | None

    @property
    def layers(self) -> Mapping[str, tuple[int, ...]]:
        """Return the adapted layers of every projection."""
        return self.spec.layers

    def bind(self, projection: str, factors: Any, layer: jax.Array) -> LoRA:
        """Return the update of one projection in one layer."""
        key = self.key
        if key is not None:
            key = jax.random.fold_in(key, list(self.spec.layers).index(projection))
            key = jax.random.fold_in(key, layer)
        return LoRA(factors["a"], factors["b"], self.spec.scale, self.spec.dropout, key)
