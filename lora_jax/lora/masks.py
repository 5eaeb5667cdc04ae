"""Masks: which parameters an adapter belongs to, as a tree of ranks."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lora_jax.errors import UserError
from lora_jax.lora.targets import Target, parse_target
from lora_jax.models.parameters import Parameter, Tree, flatten, tree_map


def select(
    declarations: Tree, targets: Sequence[str], layers: Sequence[int], rank: int
) -> dict[str, Any]:
    """Select projections in some of the layers.

    Args:
        declarations: Tree of `Parameter`.
        targets: What to adapt, each as for `targets.parse_target`.
        layers: Indices of layers; a regular expression, too, selects among these only.
        rank: R where a target does not give its own.

    Returns:
        Tree of the declarations' structure: for a stacked kernel its ranks in every layer, int [L],
        0 where it is not adapted; a single 0 for everything else.

    Raises:
        UserError: A target matches nothing, or two of them give one projection different ranks.
    """
    ranks = tree_map(lambda leaf: np.zeros(len(leaf.layers) or (), int), declarations)
    flat = flatten(ranks)
    chosen_by: dict[str, str] = {}
    for target in map(parse_target, targets):
        found = [module for module in named_modules(declarations) if target.covers(module[0])]
        if not any(layer in layers for _, _, layer in found):
            raise UserError(_nothing_matched(target, declarations, bool(found)))
        for module, path, layer in found:
            if layer not in layers:
                continue
            wanted = target.rank or rank
            if flat[path][layer] not in (0, wanted):
                raise UserError(
                    f"config.lora.targets: {chosen_by[module]!r} gives {module} rank "
                    f"{flat[path][layer]}, {target.text!r} gives it rank {wanted}; "
                    "let only one of them match."
                )
            flat[path][layer] = wanted
            chosen_by[module] = target.text
    return ranks


def named_modules(declarations: Tree) -> Iterator[tuple[str, str, int]]:
    """List the linear maps of the decoder layers.

    Args:
        declarations: Tree of `Parameter`.

    Yields:
        The module's path as Hugging Face names it, its kernel's path in the tree, and its layer.
    """
    for path, kernel in stacked_kernels(declarations).items():
        for layer, name in zip(kernel.layers, kernel.hf_names, strict=True):
            yield name.removesuffix(".weight"), path, layer


def stacked_kernels(declarations: Tree) -> dict[str, Parameter]:
    """Return the kernels of the decoder layers by their path ("layers.mlp.up_proj.kernel")."""
    return {
        path: leaf
        for path, leaf in flatten(declarations).items()
        if leaf.stacked and path.endswith(".kernel")
    }


def _nothing_matched(target: Target, declarations: Tree, elsewhere: bool) -> str:
    start = f"config.lora.targets: {target.text!r} matches no module of this model"
    if elsewhere:
        return f"{start} in the layers that config.lora.layers selects; choose other layers."
    paths = [module for module, _, _ in named_modules(declarations)]
    if target.pattern is not None:
        literal = target.pattern.pattern.replace("\\", "")
        near = difflib.get_close_matches(literal, paths, n=3, cutoff=0.5) or paths[:2] + paths[-1:]
        return f"{start}; there are, for example, {', '.join(near)}."
    return f"{start}; it has {', '.join(dict.fromkeys(p.rpartition('.')[2] for p in paths))}."
