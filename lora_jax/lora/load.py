"""Adapters that PEFT wrote, whoever trained them, read into factors."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from safetensors import SafetensorError, safe_open

from lora_jax.errors import UserError
from lora_jax.lora.adapter import AdapterSpec
from lora_jax.lora.masks import named_modules
from lora_jax.lora.peft_config import (
    CONFIG,
    OUTSIDE,
    PREFIX,
    WEIGHTS,
    AdapterConfig,
    read_adapter_config,
)
from lora_jax.models.parameters import Tree, flatten, tree_map
from lora_jax.sharding import parameter_shardings

PICKLE = "adapter_model.bin"
_FLOATS = ("F64", "F32", "F16", "BF16")  # As a safetensors header calls them.


def load_adapter(
    directory: pathlib.Path, declarations: Tree, mesh: Mesh
) -> tuple[AdapterSpec, dict[str, Any]]:
    """Read a PEFT adapter.

    The configuration alone says which projections are adapted; the weights have to be exactly
    those that it implies.

    Args:
        directory: PEFT adapter directory.
        declarations: The decoder's tree of `Parameter`.
        mesh: Where the factors go.

    Returns:
        The adapter, and its factors in fp32, sharded as `AdapterSpec.declare` says.

    Raises:
        UserError: A file is missing or broken, asks for something that is not supported, or does
            not fit the decoder.
    """
    spec = _spec(read_adapter_config(directory / CONFIG), declarations)
    path = _locate_weights(directory)
    shapes = _expected_shapes(spec, declarations)
    try:
        with safe_open(path, framework="np") as file:
            _check_names(shapes, set(file.keys()), path)
            tensors = {name: _read(file, name, shape, path) for name, shape in shapes.items()}
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): it is truncated or damaged, copy it again."
        ) from error
    declared = spec.declare(declarations)
    factors = tree_map(lambda leaf: _stack([tensors[n] for n in leaf.hf_names], leaf), declared)
    return spec, jax.device_put(factors, parameter_shardings(declared, mesh))


def _spec(config: AdapterConfig, declarations: Tree) -> AdapterSpec:
    """Give every module of the decoder the rank and alpha that the configuration implies."""
    for module in OUTSIDE:
        if config.adapts(module):
            raise UserError(
                f"{config.path}: target_modules selects {module}, and adapters are supported in the "
                "decoder's layers only; train the adapter without it."
            )
    ranks, alphas = (
        tree_map(lambda leaf, dtype=dtype: np.zeros(len(leaf.layers) or (), dtype), declarations)
        for dtype in (int, float)
    )
    flat_ranks, flat_alphas = flatten(ranks), flatten(alphas)
    modules = list(named_modules(declarations))
    for module, path, layer in modules:
        if config.adapts(module):
            flat_ranks[path][layer] = config.rank_of(module)
            flat_alphas[path][layer] = config.alpha_of(module)
    spec = AdapterSpec.from_ranks(ranks, alphas, config.dropout, config.rslora)
    if not spec.placements:
        raise UserError(
            f"{config.path}: target_modules, exclude_modules and layers_to_transform together select "
            f"no module of this model, which has {modules[0][0]} to {modules[-1][0]}; "
            "the adapter belongs to another model."
        )
    return spec


def _locate_weights(directory: pathlib.Path) -> pathlib.Path:
    if (directory / WEIGHTS).is_file():
        return directory / WEIGHTS
    if (directory / PICKLE).is_file():
        raise UserError(
            f"{directory / PICKLE} is a pickle, which may run code when it is read; load the adapter "
            f"with PEFT and save it with save_pretrained, which writes {WEIGHTS}."
        )
    raise UserError(f"{directory} has no {WEIGHTS}: give a PEFT adapter's directory.")


def _expected_shapes(spec: AdapterSpec, declarations: Tree) -> dict[str, tuple[int, int]]:
    """Return the shape of every tensor by its name; a layer has its own rank on disk."""
    shapes = {}
    declared = spec.declare(declarations)
    for place in spec.placements:
        a, b = declared[place.projection]["a"], declared[place.projection]["b"]
        for name_a, name_b, rank in zip(a.hf_names, b.hf_names, place.ranks, strict=True):
            shapes[name_a] = (rank, a.hf_shape[1])
            shapes[name_b] = (b.hf_shape[0], rank)
    return shapes


def _check_names(expected: Mapping[str, Any], found: set[str], path: pathlib.Path) -> None:
    missing = [name for name in expected if name not in found]
    surplus = sorted(found - expected.keys())
    by_core = {_core(name): name for name in missing}
    for name in surplus:
        if right := by_core.get(_core(name)):
            raise UserError(
                f"{path}: tensor {name} should be named {right}, with the prefix {PREFIX} before the "
                "module's path and no adapter's name; save the adapter with PEFT's save_pretrained."
            )
    for name in missing:
        one, two = ("lora_A", "lora_B") if "lora_A" in name else ("lora_B", "lora_A")
        other = name.replace(one, two)
        if other in found:
            raise UserError(
                f"{path}: tensor {other} is there without {name}; the two belong together, so the "
                "file is incomplete, copy it again."
            )
    if missing:
        raise UserError(
            f"{path}: tensor {missing[0]}, which {CONFIG} implies, is missing{_and_more(missing)}; "
            "the two files do not belong together, or not to this model."
        )
    if surplus:
        raise UserError(
            f"{path}: tensor {surplus[0]} is not implied by {CONFIG}{_and_more(surplus)}; "
            "the two files do not belong together, or not to this model."
        )


def _core(name: str) -> str:
    """Return a tensor's name without whatever prefix and adapter's name it may carry."""
    name = name[max(name.find("layers."), 0) :]
    return re.sub(r"(\.lora_[AB])\.[^.]+(\.weight)$", r"\1\2", name)


def _and_more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if names[1:] else ""


def _read(file: Any, name: str, shape: tuple[int, int], path: pathlib.Path) -> np.ndarray:
    """Return one tensor in fp32, its values checked."""
    header = file.get_slice(name)
    if tuple(header.get_shape()) != shape:
        raise UserError(
            f"{path}: tensor {name} has shape {tuple(header.get_shape())}, {CONFIG} and the model "
            f"ask for {shape}; they do not belong together."
        )
    if header.get_dtype() not in _FLOATS:
        raise UserError(
            f"{path}: tensor {name} is of type {header.get_dtype()}; use an adapter in "
            "float32, bfloat16 or float16."
        )
    tensor = file.get_tensor(name).astype(np.float32)
    if not np.isfinite(tensor).all():
        raise UserError(
            f"{path}: tensor {name} holds values that are not finite; the adapter is damaged, or its "
            "training diverged, use another."
        )
    return tensor


def _stack(tensors: list[np.ndarray], parameter: Any) -> np.ndarray:
    """Stack the layers' matrices, with zeros beyond a rank below the largest."""
    stack = np.zeros(parameter.shape, np.float32)
    for row, tensor in zip(stack, tensors, strict=True):
        outputs, inputs = tensor.shape
        row[:inputs, :outputs] = tensor.T
    return stack
