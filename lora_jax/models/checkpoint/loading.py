"""Weights from a Hugging Face directory, straight into sharded arrays.

The arrays are made first, on the devices, and filled piece by piece: a piece is some rows of one
tensor as the file stores it, of which every device gets its part. So the host never holds more than
a few pieces beside the arrays, however large a model or a tensor is.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from lora_jax.errors import UserError
from lora_jax.models.checkpoint.blocks import is_finite, transpose
from lora_jax.models.checkpoint.tensor_files import DTYPES, WEIGHTS, StoredTensor, TensorFiles
from lora_jax.models.parameters import Parameter, Tree, flatten, tree_map

PIECE_BYTES = 8 * 2**20
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"


def load(
    directory: pathlib.Path,
    declarations: Tree,
    shardings: Tree,
    dtype: str = "float32",
    weights: str = WEIGHTS,
    on_tensor: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Read a model's weights straight into sharded arrays.

    Every process reads only the byte ranges that its devices hold.

    Args:
        directory: Hugging Face model directory.
        declarations: Tree of `Parameter`.
        shardings: Tree of the same structure, the `NamedSharding` of every array.
        dtype: Type in memory, a key of `DTYPES`, whatever it is on disk.
        weights: Name of the weights' file where there is only one.
        on_tensor: Told after every tensor how many bytes of the files are done, and how many there
            are.

    Returns:
        Tree of arrays.

    Raises:
        UserError: A file cannot be read; a tensor is missing, has another shape or type, or holds
            values that are not finite, on disk or in the type in memory.
    """
    with TensorFiles(directory, weights) as files:
        _check_names(directory, declarations, files)
        _check_tensors(declarations, files)
        _check_tied(declarations, files)
        expected = [name for leaf in flatten(declarations).values() for name in leaf.hf_names]
        total = sum(files.tensor(name).nbytes for name in expected)
        done = 0

        def one(parameter: Parameter, sharding: NamedSharding) -> jax.Array:
            nonlocal done
            array = _zeros(parameter.shape, DTYPES[dtype], sharding)()
            for row, name in enumerate(parameter.hf_names):
                tensor = files.tensor(name)
                array = _fill(array, parameter, row, tensor)
                done += tensor.nbytes
                if on_tensor is not None:
                    on_tensor(done, total)
            return array

        return tree_map(one, declarations, shardings)


def _fill(array: jax.Array, parameter: Parameter, row: int, tensor: StoredTensor) -> jax.Array:
    """Write one tensor into the array, which is given up for the one returned."""
    sharding, dtype = array.sharding, array.dtype
    spec = (*sharding.spec, *(None,) * (array.ndim - len(sharding.spec)))
    layer = NamedSharding(sharding.mesh, PartitionSpec(*spec[parameter.stacked :]))
    shape = list(array.shape[parameter.stacked :])
    # The dimension along which the file's rows follow each other.
    axis = len(shape) - 1 if parameter.transposed else 0
    part = layer.shard_shape(tuple(shape))[axis]
    rows = min(part, max(1, PIECE_BYTES * part // tensor.nbytes))
    shape[axis] = shape[axis] // part * rows  # A piece takes the same rows of every device's part.
    write = _writer(sharding, parameter.stacked)
    for first in range(0, part, rows):
        # The last piece begins early enough to be as large as the others: one program writes them all.
        offset = min(first, part - rows)
        blocks: dict[tuple, np.ndarray] = {}

        def read(index: tuple[slice, ...], offset=offset, blocks=blocks) -> np.ndarray:
            start = (index[axis].start or 0) // rows * part + offset
            where = (*index[:axis], slice(start, start + rows), *index[axis + 1 :])
            key = tuple((bound.start, bound.stop) for bound in where)
            if key not in blocks:  # Devices that hold the same share one reading.
                blocks[key] = _block(tensor, where, parameter.transposed, dtype)
            return blocks[key]

        piece = jax.make_array_from_callback(tuple(shape), layer, read)
        start = np.zeros(array.ndim, np.int32)
        start[axis + parameter.stacked] = offset
        start[0] += row
        # Waiting keeps pieces from piling up before the devices.
        array = write(array, piece, start).block_until_ready()
    return array


def _block(
    tensor: StoredTensor, where: tuple[slice, ...], transposed: bool, dtype: np.dtype
) -> np.ndarray:
    """Read one block, turned round and cast."""
    block = tensor[where[::-1] if transposed else where]
    with np.errstate(over="ignore"):  # Told below, in words.
        cast = (transpose(block) if transposed else block).astype(dtype, copy=False)
    if is_finite(cast):
        return cast
    if is_finite(block):
        raise UserError(
            f"{tensor.path}: tensor {tensor.name} holds values beyond the range of {dtype}; "
            "load it as float32."
        )
    raise UserError(
        f"{tensor.path}: tensor {tensor.name} holds values that are not finite; "
        "the checkpoint is damaged, download it again."
    )


@functools.cache
def _zeros(shape: tuple[int, ...], dtype: np.dtype, sharding: NamedSharding) -> Callable:
    """Return a program that makes an array on the devices that will hold it."""
    return jax.jit(lambda: jnp.zeros(shape, dtype), out_shardings=sharding)


@functools.cache
def _writer(sharding: NamedSharding, stacked: bool) -> Callable:
    """Return a program that writes a piece into an array, in place.

    Every device writes its part of the piece into its part of the array, at the same place in each.
    """
    spec = sharding.spec

    def write(array, piece, start):
        return jax.lax.dynamic_update_slice(array, piece[None] if stacked else piece, tuple(start))

    program = jax.shard_map(
        write,
        mesh=sharding.mesh,
        in_specs=(spec, PartitionSpec(*spec[stacked:]), PartitionSpec()),
        out_specs=spec,
        check_vma=False,  # It does not see that parts held by several devices stay the same.
    )
    # For bfloat16 the CPU's compiler would convert the whole array to float32 and back, every time.
    on_cpu = sharding.mesh.devices.flat[0].platform == "cpu"
    options = {"xla_disable_hlo_passes": "float-normalization-bf16"} if on_cpu else None
    return jax.jit(program, donate_argnums=0, compiler_options=options)


def _check_names(directory: pathlib.Path, declarations: Tree, files: TensorFiles) -> None:
    expected = {name for leaf in flatten(declarations).values() for name in leaf.hf_names}
    missing = sorted(expected - files.names)
    # Old Llamas carry their frequencies; a head that repeats the embedding is looked at later.
    extra = {name for name in files.names - expected if not name.endswith("rotary_emb.inv_freq")}
    if _EMBEDDING in expected:
        extra.discard(_HEAD)
    if missing:
        raise UserError(
            f"{directory}: tensor {missing[0]} is missing"
            + (f" (and {len(missing) - 1} more)" if missing[1:] else "")
            + "; the weights and the configuration do not belong together."
        )
    if extra:
        raise UserError(
            f"{directory}: tensor {min(extra)} is not part of what the configuration describes; "
            "the weights and the configuration do not belong together."
        )


def _check_tensors(declarations: Tree, files: TensorFiles) -> None:
    """Refuse shapes and types before anything is read."""
    for parameter in flatten(declarations).values():
        for tensor in map(files.tensor, parameter.hf_names):
            if tensor.shape != parameter.hf_shape:
                raise UserError(
                    f"{tensor.path}: tensor {tensor.name} has shape {tensor.shape}, the configuration "
                    f"asks for {parameter.hf_shape}; the two do not belong together."
                )
            tensor.check_type()


def _check_tied(declarations: Tree, files: TensorFiles) -> None:
    """Refuse an output projection beside tied embeddings that is not the embedding.

    transformers unties the two in that case, so that leaving it out would be another model. Few tied
    checkpoints repeat the matrix, so few pay for reading it.
    """
    expected = {name for leaf in flatten(declarations).values() for name in leaf.hf_names}
    if _EMBEDDING not in expected or _HEAD in expected or _HEAD not in files.names:
        return
    embedding, head = files.tensor(_EMBEDDING), files.tensor(_HEAD)
    rows = max(1, PIECE_BYTES * embedding.shape[0] // embedding.nbytes)
    same = embedding.shape == head.shape and all(
        np.array_equal(embedding[first : first + rows], head[first : first + rows])
        for first in range(0, embedding.shape[0], rows)
    )
    if not same:
        raise UserError(
            f"{head.path}: tensor {_HEAD} differs from {_EMBEDDING}, though the configuration ties "
            "the two; set tie_word_embeddings to false, or remove the tensor."
        )
