"""Masks: which parameters an adapter belongs to, as a tree of booleans."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from lora_jax.errors import UserError
from lora_jax.models.parameters import Tree, flatten, tree_map, unflatten


def select(declarations: Tree, targets: Sequence[str], layers: Sequence[int]) -> dict[str, Any]:
    """Select projections by name in some of the layers.

    Args:
        declarations: Tree of `Parameter`.
        targets: Names of projections, such as "up_proj".
        layers: Indices of layers.

    Returns:
        Tree of booleans of the same structure: for a stacked kernel an array [L], True where it is
        selected; False for everything else.

    Raises:
        UserError: A target is not the name of a projection.
    """
    kernels = [
        path
        for path, leaf in flatten(declarations).items()
        if leaf.stacked and path.endswith(".kernel")
    ]
    names = [path.split(".")[-2] for path in kernels]
    for target in targets:
        if target not in names:
            near = difflib.get_close_matches(target, names, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UserError(
                f"config.lora.targets: {target!r} is no projection of this model; "
                f"{hint}Choose from {', '.join(names)}."
            )
    mask = tree_map(lambda leaf: np.zeros(len(leaf.layers) or (), bool), declarations)
    flat = flatten(mask)
    for path, name in zip(kernels, names, strict=True):
        if name in targets:
            flat[path][list(layers)] = True
    return unflatten(flat)


def selected_layers(mask: Tree) -> dict[str, tuple[int, ...]]:
    """Return the selected layers of every selected projection, by its path ("mlp.up_proj")."""
    return {
        path.removeprefix("layers.").removesuffix(".kernel"): tuple(np.flatnonzero(chosen).tolist())
        for path, chosen in flatten(mask).items()
        if np.any(chosen)
    }


def parse_layers(text: str, count: int) -> tuple[int, ...]:
    """Read a choice of layers.

    Args:
        text: "all"; "early", "middle" or "late" for a third of the layers; "a-b", inclusive; or "a".
        count: L.

    Returns:
        Layer indices, ascending.

    Raises:
        UserError: The text is none of these, or names a layer that the model does not have.
    """
    third = count / 3
    named = {
        "all": (0, count),
        "early": (0, round(third)),
        "middle": (round(third), round(2 * third)),
        "late": (round(2 * third), count),
    }
    if text in named:
        chosen = range(*named[text])
    elif match := re.fullmatch(r"(\d+)(?:-(\d+))?", text):
        first = int(match[1])
        chosen = range(first, int(match[2] or first) + 1)
    else:
        raise UserError(
            f"config.lora.layers={text!r} is no choice of layers; "
            "use all, early, middle, late, one layer as 3, or an inclusive range as 2-3."
        )
    if not chosen or chosen[-1] >= count:
        raise UserError(
            f"config.lora.layers={text!r} selects no layers or more than there are; "
            f"this model has layers 0 to {count - 1}."
        )
    return tuple(chosen)
