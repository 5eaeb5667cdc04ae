"""PEFT's adapter directories: written in the form that every reader accepts, and read back.

The canonical form uses plain old fields only: one rank, plain alpha, no patterns, suffixes as
targets and a list of layers. PEFT, transformers, vLLM and llama.cpp all read it.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

import jax

from lora_jax.errors import UserError
from lora_jax.lora.adapter import AdapterSpec
from lora_jax.models import checkpoint
from lora_jax.models.parameters import Tree, flatten
from lora_jax.workdir import write_atomically

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
# What would change the computation, at the only values that are written and read.
PLAIN = {
    "peft_type": "LORA",
    "rank_pattern": {},
    "alpha_pattern": {},
    "use_rslora": False,
    "use_dora": False,
    "bias": "none",
    "fan_in_fan_out": False,
    "modules_to_save": None,
}


def export(
    directory: pathlib.Path,
    spec: AdapterSpec,
    declarations: Tree,
    factors: Tree,
    base: str,
    dtype: str = "float32",
) -> None:
    """Write an adapter as PEFT does.

    Args:
        directory: Where to; made if absent.
        spec: The adapter; all its projections are adapted in the same layers.
        declarations: The decoder's tree of `Parameter`.
        factors: The adapter's values.
        base: The base model's path or hub id.
        dtype: Type of the tensors, "float32" or "bfloat16".
    """
    directory.mkdir(parents=True, exist_ok=True)
    tensors = checkpoint.named_tensors(
        spec.declare(declarations), factors, checkpoint.DTYPES[dtype]
    )
    checkpoint.write_tensors(tensors, directory / WEIGHTS)
    fields = PLAIN | {
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "lora_dropout": spec.dropout,
        "target_modules": [projection.rpartition(".")[2] for projection in spec.layers],
        "layers_to_transform": list(next(iter(spec.layers.values()))),
        "layers_pattern": "layers",
        "init_lora_weights": True,
        "inference_mode": True,
    }
    write_atomically(directory / CONFIG, json.dumps(fields, indent=2) + "\n")


def load(
    directory: pathlib.Path, declarations: Tree, sharding: jax.sharding.Sharding
) -> tuple[AdapterSpec, dict[str, Any]]:
    """Read an adapter in the form that `export` writes.

    Args:
        directory: PEFT adapter directory.
        declarations: The decoder's tree of `Parameter`.
        sharding: Where the factors go.

    Returns:
        The adapter and its factors in fp32.

    Raises:
        UserError: A file is missing or broken, or does not fit the decoder.
    """
    spec = _read_spec(directory / CONFIG, declarations)
    declared = spec.declare(declarations)
    shardings = jax.tree.map(
        lambda _: sharding, declared, is_leaf=lambda node: hasattr(node, "hf_name")
    )
    return spec, checkpoint.load(directory, declared, shardings, weights=WEIGHTS)


def _read_spec(path: pathlib.Path, declarations: Tree) -> AdapterSpec:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        targets = list(fields["target_modules"])
        layers = tuple(map(int, fields["layers_to_transform"]))
        rank, alpha = int(fields["r"]), float(fields["lora_alpha"])
        dropout = float(fields["lora_dropout"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read as an adapter's configuration ({error!r}); export it again."
        ) from error
    for name, value in PLAIN.items():
        if (found := fields.get(name, value)) != value:
            raise UserError(
                f"{path}: {name} {found!r} is not supported; use an adapter where it is {value!r}."
            )
    kernels = (name.split(".") for name, leaf in flatten(declarations).items() if leaf.stacked)
    places = {path[-2]: ".".join(path[1:-1]) for path in kernels if path[-1] == "kernel"}
    for target in targets:
        if target not in places:
            raise UserError(
                f"{path}: target_modules names {target!r}, which is no projection of this model; "
                f"it has {', '.join(places)}."
            )
    adapted = {place: layers for name, place in places.items() if name in targets}
    return AdapterSpec(adapted, rank, alpha, dropout)
