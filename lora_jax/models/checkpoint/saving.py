"""Weights to a Hugging Face directory, tensor by tensor.

The weights' last file to appear is the one that a reader looks for first, so that a directory in which
writing stopped has no weights rather than some.
"""

from __future__ import annotations

import functools
import json
import math
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lora_jax.errors import UserError
from lora_jax.models.checkpoint.blocks import is_finite, transpose
from lora_jax.models.checkpoint.tensor_files import (
    DTYPES,
    INDEX,
    WEIGHTS,
    replacing,
    stream_tensors,
)
from lora_jax.models.parameters import Tree, flatten

SHARD_BYTES = 4 * 2**30
PIECE_BYTES = 8 * 2**20
_SHARDS = "model-*-of-*.safetensors"
# Files that make a directory a usable model besides its weights; copied as they are when saving.
COMPANIONS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
Update = Callable[[str, int], np.ndarray | None]


def save(
    directory: pathlib.Path,
    declarations: Tree,
    parameters: Tree,
    source: pathlib.Path,
    dtype: str = "float32",
    update: Update | None = None,
) -> None:
    """Write a Hugging Face model directory.

    Beside the parameters themselves no more than one tensor is in memory.

    Args:
        directory: Where to; made if absent. Weights that are in it are given up first.
        declarations: Tree of `Parameter`.
        parameters: Tree of arrays.
        source: Model directory whose configuration and tokenizer go along.
        dtype: Type on disk, a key of `DTYPES`.
        update: Gives what to add to a layer's kernel, fp32 [in, out], before it is cast; None for
            nothing. Called with the kernel's dotted path ("layers.mlp.up_proj.kernel") and the layer.

    Raises:
        UserError: A value does not fit into the type.
        OSError: The directory cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for stale in (directory / INDEX, directory / WEIGHTS, *directory.glob(_SHARDS)):
        stale.unlink(missing_ok=True)
    _copy_companions(directory, source, dtype)
    places = {
        name: (path, parameter, row)
        for path, parameter in flatten(declarations).items()
        for row, name in enumerate(parameter.hf_names)
    }
    values = flatten(parameters)

    def read(name: str) -> Iterator[np.ndarray]:
        path, parameter, row = places[name]
        is_kernel = parameter.stacked and path.endswith(".kernel")
        added = update(path, parameter.layers[row]) if update and is_kernel else None
        value = _take(values[path], row, added, DTYPES[dtype], parameter.stacked)
        for piece in _rows(np.asarray(value), parameter.transposed):
            if not is_finite(piece):
                raise UserError(
                    f"{directory}: tensor {name} would hold values that are not finite, or beyond the "
                    f"range of {dtype}; write float32 or bfloat16, or train with a smaller step."
                )
            yield piece

    shapes = {name: parameter.hf_shape for name, (_, parameter, _) in places.items()}
    _write_shards(directory, _shards(shapes, DTYPES[dtype]), DTYPES[dtype], read)


def _write_shards(
    directory: pathlib.Path,
    shards: list[dict[str, tuple[int, ...]]],
    dtype: np.dtype,
    read: Callable[[str], Iterator[np.ndarray]],
) -> None:
    """Write the weights' files, and the index last."""
    if len(shards) == 1:
        stream_tensors(directory / WEIGHTS, shards[0], dtype, read)
        return
    weight_map: dict[str, str] = {}
    total = 0
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        stream_tensors(directory / file, shard, dtype, read)
        weight_map.update(dict.fromkeys(shard, file))
        total += sum(map(math.prod, shard.values())) * dtype.itemsize
    _write_json(directory / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


@functools.partial(jax.jit, static_argnames=("dtype", "stacked"))
def _take(value, row, added, dtype, stacked):
    """Take one layer out, add to it in fp32, and cast it.

    The result is always another array: of an array that was asked for, JAX keeps the host's copy as
    long as the array lives, and parameters live on.
    """
    value = jax.lax.dynamic_index_in_dim(value, row, keepdims=False) if stacked else value
    value = value if added is None else value.astype(jnp.float32) + added
    return jnp.copy(value.astype(dtype))


def _rows(value: np.ndarray, transposed: bool) -> Iterator[np.ndarray]:
    """Cut an array into rows as the file has them."""
    size = value.shape[-1] if transposed else value.shape[0]
    rows = max(1, PIECE_BYTES * size // value.nbytes)
    for first in range(0, size, rows):
        if transposed:
            yield transpose(value[:, first : first + rows])
        else:
            yield value[first : first + rows]


def _shards(
    shapes: dict[str, tuple[int, ...]], dtype: np.dtype
) -> list[dict[str, tuple[int, ...]]]:
    """Cut the tensors, in order, into files of at most `SHARD_BYTES`, or of one tensor."""
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    size = 0
    for name, shape in shapes.items():
        nbytes = math.prod(shape) * dtype.itemsize
        if size and size + nbytes > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = shape
        size += nbytes
    return shards


def _copy_companions(directory: pathlib.Path, source: pathlib.Path, dtype: str) -> None:
    """Copy configuration and tokenizer, and state the type of the weights."""
    for name in COMPANIONS:
        if (source / name).is_file() and source.resolve() != directory.resolve():
            with open(source / name, "rb") as original, replacing(directory / name) as copy:
                shutil.copyfileobj(original, copy)
    fields = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    fields.pop("torch_dtype", None)  # What transformers before 4.56 called it.
    _write_json(directory / "config.json", fields | {"dtype": dtype})


def _write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    with replacing(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())
