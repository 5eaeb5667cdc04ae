"""One declaration per parameter: everything else about it is derived from here.

A model is a nested dict of `Parameter`s. Initialisation, sharding, loading, saving, masks and the
printed counts all read this tree; there is no second list of names. Parameters of the decoder
layers are declared once and stacked over a leading layer axis, because the layers are scanned.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

Tree = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Parameter:
    """Declare one parameter.

    Attributes:
        shape: Its shape, kernels as (in, out); with a leading L when `stacked`.
        axes: The logical name of every dimension, resolved to mesh axes by `lora_jax.sharding`.
        hf_name: Its name in a Hugging Face checkpoint; `{layer}` stands for the layer's index.
        init: "normal" (standard deviation 0.02), "zeros", "ones", or "kaiming_uniform" (uniform
            within 1 / sqrt(in), which is Kaiming's rule with a = sqrt 5, as PEFT draws A).
        transposed: Whether Hugging Face stores the matrix as (out, in).
        layers: The layers that dimension 0 runs over; empty for what is not part of a layer.
    """

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]
    hf_name: str
    init: str = "normal"
    transposed: bool = False
    layers: tuple[int, ...] = ()

    @property
    def stacked(self) -> bool:
        """Return whether dimension 0 runs over layers."""
        return bool(self.layers)

    @property
    def hf_names(self) -> list[str]:
        """Return the names of the Hugging Face tensors that it is made of, in order."""
        if not self.stacked:
            return [self.hf_name]
        return [self.hf_name.format(layer=layer) for layer in self.layers]

    @property
    def hf_shape(self) -> tuple[int, ...]:
        """Return the shape of each of those tensors."""
        shape = self.shape[1:] if self.stacked else self.shape
        return shape[::-1] if self.transposed else shape

    def stack(self, layers: Iterable[int]) -> Parameter:
        """Return the declaration of such parameters of several layers along a new leading axis."""
        layers = tuple(layers)
        shape, axes = (len(layers), *self.shape), ("layers", *self.axes)
        return dataclasses.replace(self, shape=shape, axes=axes, layers=layers)


def kernel(inputs: int, outputs: int, axes: tuple[str, str], hf_name: str) -> Parameter:
    """Declare a linear map's matrix, stored (in, out) here and (out, in) by Hugging Face."""
    return Parameter((inputs, outputs), axes, f"{hf_name}.weight", transposed=True)


def tree_map(function, tree: Tree, *rest: Tree) -> dict[str, Any]:
    """Map over trees of declarations (and trees of the same structure)."""
    return jax.tree.map(function, tree, *rest, is_leaf=lambda node: isinstance(node, Parameter))


def flatten(tree: Tree, prefix: str = "") -> dict[str, Any]:
    """Return the tree's leaves by their dotted path, in the tree's own order."""
    flat = {}
    for name, node in tree.items():
        path = f"{prefix}{name}"
        flat.update(flatten(node, f"{path}.") if isinstance(node, Mapping) else {path: node})
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Invert `flatten`."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        *parents, name = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


def count(tree: Tree) -> int:
    """Return the number of scalar parameters in a tree of arrays, shapes or declarations."""
    return sum(math.prod(leaf.shape) for leaf in flatten(tree).values())


def initialise(declarations: Tree, key: jax.Array, dtype: jnp.dtype = jnp.float32) -> dict:
    """Draw a model from nothing.

    Args:
        declarations: Tree of `Parameter`.
        key: Source of randomness; every parameter gets its own key, by its position.
        dtype: Type of the arrays.

    Returns:
        Tree of arrays.
    """
    fill = {
        "normal": lambda key, shape: 0.02 * jax.random.normal(key, shape, dtype),
        "zeros": lambda key, shape: jnp.zeros(shape, dtype),
        "ones": lambda key, shape: jnp.ones(shape, dtype),
        "kaiming_uniform": lambda key, shape: (
            jax.random.uniform(key, shape, dtype, -1.0, 1.0) * shape[-2] ** -0.5
        ),
    }
    flat = flatten(declarations)
    keys = jax.random.split(key, len(flat))
    return unflatten(
        {
            path: fill[leaf.init](leaf_key, leaf.shape)
            for (path, leaf), leaf_key in zip(flat.items(), keys, strict=True)
        }
    )
