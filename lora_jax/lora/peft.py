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
    fields = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "lora_dropout": spec.dropout,
        "target_modules": [projection.rpartition(".")[2] for projection in spec.layers],
        "layers_to_transform": list(next(iter(spec.layers.values()))),
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
    write_atomically(directory / CONFIG, json.dumps(fields, indent=2) + "\n")


def load(
    directory: pathlib.Path, declarations: Tree, sharding: jax.sharding.Sharding
) -> tuple[AdapterSpec, dict[str, Any]]:
    """Read an adapter that `export` wrote.

    Args:
        directory: PEFT adapter directory.
        declarations: The decoder's tree of `Parameter`.
        sharding: Where the factors go.

    Returns:
        The adapter and its factors in fp32.

    Raises:
        UserError: A file is missing or broken, or does not fit the decoder.
    """
    path = directory / CONFIG
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        targets, layers = fields["target_modules"], tuple(fields["layers_to_transform"])
        rank, alpha, dropout = fields["r"], fields["lora_alpha"], fields["lora_dropout"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read as an adapter's configuration ({error!r}); export it again."
        ) from error
    paths = (name.split(".") for name in flatten(declarations) if name.endswith(".kernel"))
    adapted = {".".join(path[1:-1]): layers for path in paths if path[-2] in targets}
    spec = AdapterSpec(adapted, rank, alpha, dropout)
    declared = spec.declare(declarations)
    shardings = jax.tree.map(
        lambda _: sharding, declared, is_leaf=lambda node: hasattr(node, "hf_name")
    )
    return spec, checkpoint.load(directory, declared, shardings, weights=WEIGHTS)
