"""Adapters written for other programs, in the one form that all of them read.

The canonical form uses plain old fields only: one rank, a plain alpha, no patterns, suffixes as
targets and a list of layers. What differs from it is made equal without changing the function:
smaller ranks are filled up with zeros, differing scales are folded into B, and a projection that is
adapted in some of the layers gets factors of zero in the others.
"""

from __future__ import annotations

import collections
import json
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from lora_jax.lora.adapter import AdapterSpec, Placement
from lora_jax.lora.masks import stacked_kernels
from lora_jax.lora.peft_config import CONFIG, WEIGHTS
from lora_jax.models.parameters import Tree
from lora_jax.workdir import write_atomically

# Projections that servers compute as one matrix.
FUSED = ({"q_proj", "k_proj", "v_proj"}, {"gate_proj", "up_proj"})


def export_adapter(
    directory: pathlib.Path,
    spec: AdapterSpec,
    declarations: Tree,
    factors: Tree,
    base: str,
    dtype: str = "float32",
    partners: bool = False,
    revision: str = "",
) -> None:
    """Write an adapter as PEFT does, in the canonical form.

    Args:
        directory: Where to; made if absent.
        spec: The adapter.
        declarations: The decoder's tree of `Parameter`.
        factors: The adapter's values.
        base: The base model's path or hub id.
        dtype: Type of the tensors, "float32" or "bfloat16".
        partners: Whether to add factors of zero to the projections that servers fuse with adapted
            ones (q, k and v; gate and up), without which SGLang does not load the adapter.
        revision: The base model's revision on the hub, if it matters.
    """
    spec, factors = canonical(spec, declarations, factors, partners)
    tensors = {}
    for projection, declared in spec.declare(declarations).items():
        for factor, parameter in declared.items():
            rows = factors[projection][factor].astype(jnp.dtype(dtype))
            for name, row in zip(parameter.hf_names, rows, strict=True):
                tensors[name] = np.ascontiguousarray(row.T)
    place = spec.placements[0]
    fields = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "revision": revision or None,
        "r": spec.rank,
        "lora_alpha": place.alphas[0],
        "lora_dropout": spec.dropout,
        "target_modules": [name.rpartition(".")[2] for name in spec.layers],
        "layers_to_transform": list(place.layers),
        "layers_pattern": "layers",
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_rslora": False,
        "use_dora": False,
        "bias": "none",
        "fan_in_fan_out": False,
        "modules_to_save": None,
        "init_lora_weights": True,
        "inference_mode": True,
    }
    directory.mkdir(parents=True, exist_ok=True)
    # Without its configuration a directory is no adapter, so new weights never meet an old one.
    (directory / CONFIG).unlink(missing_ok=True)
    weights = safetensors.numpy.save(tensors, metadata={"format": "pt"})
    write_atomically(directory / WEIGHTS, weights)
    write_atomically(directory / CONFIG, json.dumps(fields, indent=2) + "\n")


def canonical(
    spec: AdapterSpec, declarations: Tree, factors: Tree, partners: bool = False
) -> tuple[AdapterSpec, dict[str, Any]]:
    """Give an adapter one rank, one alpha and one list of layers, computing the same.

    Args:
        spec: The adapter.
        declarations: The decoder's tree of `Parameter`.
        factors: Its values.
        partners: As for `export_adapter`.

    Returns:
        The adapter in canonical form, and its factors on the host, fp32. Where an adapter is in
        that form already, its values are unchanged.
    """
    alpha, scale = _common_alpha(spec)
    layers = spec.adapted_layers
    same = (layers, (spec.rank,) * len(layers), (alpha,) * len(layers))
    adapted = {place.projection: place for place in spec.placements}
    names = {projection.rpartition(".")[2] for projection in adapted}
    if partners:
        names = names.union(*(group for group in FUSED if group & names))
    placements, values = [], {}
    for path, kernel in sorted(stacked_kernels(declarations).items()):
        projection = path.removeprefix("layers.").removesuffix(".kernel")
        if projection.rpartition(".")[2] not in names:
            continue
        placements.append(Placement(projection, *same))
        _, inputs, outputs = kernel.shape
        a = np.zeros((len(layers), inputs, spec.rank), np.float32)
        b = np.zeros((len(layers), spec.rank, outputs), np.float32)
        if place := adapted.get(projection):
            rows = [layers.index(layer) for layer in place.layers]
            folded = np.asarray(spec.scales[projection])[:, None, None] / scale
            a[rows, :, : place.rank] = jax.device_get(factors[projection]["a"])
            b[rows, : place.rank] = jax.device_get(factors[projection]["b"]) * folded
        values[projection] = {"a": a, "b": b}
    return AdapterSpec(tuple(placements), spec.dropout), values


def _common_alpha(spec: AdapterSpec) -> tuple[float, float]:
    """Return the plain alpha for which the commonest scale needs no folding, and that scale."""
    counts: collections.Counter[float] = collections.Counter()
    plain = {}
    for place in spec.placements:
        scales = spec.scales[place.projection]
        counts.update(scales)
        for alpha, rank, scale in zip(place.alphas, place.ranks, scales, strict=True):
            # Scale times rank, in an order that gives a uniform adapter's own alpha back exactly.
            plain[scale] = alpha * (spec.rank / (math.sqrt(rank) if spec.rslora else rank))
    [(scale, _)] = counts.most_common(1)
    alpha = float(plain[scale])
    return int(alpha) if alpha.is_integer() else alpha, scale
