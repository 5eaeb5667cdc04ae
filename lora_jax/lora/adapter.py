"""An adapter: which projections have factors, and the factors bound to the decoder."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lora_jax.lora.module import LoRA
from lora_jax.lora.targets import PROJECTIONS
from lora_jax.models.parameters import Parameter, Tree, flatten, initialise


@dataclasses.dataclass(frozen=True)
class Placement:
    """Say where one projection is adapted.

    Attributes:
        projection: Its path in a layer, "mlp.up_proj".
        layers: The adapted layers, ascending.
        ranks: The rank in each of them.
        alphas: The numerator of the scale in each of them.
    """

    projection: str
    layers: tuple[int, ...]
    ranks: tuple[int, ...]
    alphas: tuple[float, ...]

    @property
    def rank(self) -> int:
        """Return R, the largest of the ranks: the factors are stacked, so they share one width."""
        return max(self.ranks)


@dataclasses.dataclass(frozen=True)
class AdapterSpec:
    """Describe an adapter, without its values.

    Attributes:
        placements: One for every adapted projection, in the order of their paths; what is drawn at
            random depends on a projection's position.
        dropout: Probability that an input element is left out of the update in training.
        rslora: Whether the scale is alpha / sqrt(rank) instead of alpha / rank.
            Source: Kalajdzievski 2023 (arXiv 2312.03732).
    """

    placements: tuple[Placement, ...]
    dropout: float = 0.0
    rslora: bool = False

    @classmethod
    def from_ranks(
        cls, ranks: Tree, alpha: float | Tree, dropout: float = 0.0, rslora: bool = False
    ) -> AdapterSpec:
        """Describe an adapter by the rank of every projection in every layer.

        Args:
            ranks: Tree as `masks.select` returns it.
            alpha: Numerator of the scale, or a tree of the same structure as `ranks`.
            dropout: As the attribute.
            rslora: As the attribute.
        """
        alphas = flatten(alpha) if isinstance(alpha, Mapping) else {}
        placements = []
        for path, by_layer in sorted(flatten(ranks).items()):
            layers = np.flatnonzero(by_layer)
            if layers.size:
                of_layers = np.broadcast_to(alphas.get(path, alpha), by_layer.shape)[layers]
                projection = path.removeprefix("layers.").removesuffix(".kernel")
                values = (layers, by_layer[layers], of_layers)
                placements.append(Placement(projection, *(tuple(v.tolist()) for v in values)))
        return cls(tuple(placements), dropout, rslora)

    @functools.cached_property
    def layers(self) -> dict[str, tuple[int, ...]]:
        """Return the adapted layers of every projection."""
        return {place.projection: place.layers for place in self.placements}

    @property
    def adapted_layers(self) -> tuple[int, ...]:
        """Return the layers in which anything is adapted, ascending."""
        return tuple(sorted({layer for place in self.placements for layer in place.layers}))

    @functools.cached_property
    def scales(self) -> dict[str, tuple[float, ...]]:
        """Return every projection's scale in each of its layers."""
        denominator = math.sqrt if self.rslora else float
        return {
            place.projection: tuple(
                alpha / denominator(rank)
                for alpha, rank in zip(place.alphas, place.ranks, strict=True)
            )
            for place in self.placements
        }

    @property
    def rank(self) -> int:
        """Return the largest rank of all: what a server has to make room for."""
        return max(place.rank for place in self.placements)

    def describe(self) -> str:
        """Say in a few words what is adapted: "LoRA rank 1 on up_proj"."""
        ranks = {place.projection.rpartition(".")[2]: place.ranks for place in self.placements}
        names: dict[str, list[str]] = {}
        for name in sorted(ranks, key=PROJECTIONS.index):
            low, high = min(ranks[name]), max(ranks[name])
            names.setdefault(str(low) if low == high else f"{low} to {high}", []).append(name)
        parts = [f"rank {rank} on {', '.join(projections)}" for rank, projections in names.items()]
        return f"{'rsLoRA' if self.rslora else 'LoRA'} {'; '.join(parts)}"

    def declare(self, declarations: Tree) -> dict[str, dict[str, Parameter]]:
        """Declare the factors.

        Args:
            declarations: The decoder's tree of `Parameter`.

        Returns:
            By projection, the declarations of A [n, in, R] and B [n, R, out].
        """
        kernels = flatten(declarations)
        return {
            place.projection: LoRA.declare(
                kernels[f"layers.{place.projection}.kernel"], place.layers, place.rank
            )
            for place in self.placements
        }

    def count(self, declarations: Tree) -> int:
        """Return the number of trained scalars; zeros beyond a layer's own rank are none."""
        kernels = flatten(declarations)
        return sum(
            sum(kernels[f"layers.{place.projection}.kernel"].hf_shape) * sum(place.ranks)
            for place in self.placements
        )

    def initialise(self, declarations: Tree, key: jax.Array) -> dict[str, Any]:
        """Draw the factors, in fp32: A as PEFT does, B zero, so that the update starts at zero.

        Where a layer's rank is below R, A is zero beyond it as B is. Neither then ever has a
        gradient there, and weight decay leaves zeros alone, so they stay exactly zero.
        """
        declared = self.declare(declarations)
        keys = jax.random.split(key, len(declared))
        factors = {}
        for place, projection_key in zip(self.placements, keys, strict=True):
            drawn = initialise(declared[place.projection], projection_key, jnp.float32)
            own = np.arange(place.rank) < np.asarray(place.ranks)[:, None, None]
            factors[place.projection] = drawn | {"a": jnp.where(own, drawn["a"], 0)}
        return factors

    def bind(self, factors: Tree, key: jax.Array | None = None) -> BoundAdapter:
        """Give the adapter its values.

        Args:
            factors: By projection, {"a": [n, in, R], "b": [n, R, out]}.
            key: Source of dropout; None at inference.
        """
        scaled = {
            projection: two | {"scale": jnp.asarray(self.scales[projection], jnp.float32)}
            for projection, two in factors.items()
        }
        return BoundAdapter(self, scaled, key)


@dataclasses.dataclass(frozen=True)
class BoundAdapter:
    """Offer the decoder the updates it asks for (see `decoder.Adapter`).

    Attributes:
        spec: The adapter.
        factors: By projection, {"a": [n, in, R], "b": [n, R, out], "scale": [n]}.
        key: Source of dropout; None at inference.
    """

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
        return LoRA(factors["a"], factors["b"], factors["scale"], self.spec.dropout, key)
