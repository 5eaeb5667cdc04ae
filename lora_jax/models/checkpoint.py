"""Hugging Face model directories: read into sharded arrays, written from them."""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any, Self

import jax
import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lora_jax.errors import UserError
from lora_jax.models.parameters import Parameter, Tree, flatten, tree_map

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_BYTES = 4 * 2**30
# Files that make a directory a usable model besides its weights; copied as they are when saving.
COMPANIONS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
)
DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
FLOATS = ("F64", "F32", "F16", "BF16")  # As a safetensors header calls them.


class TensorFiles:
    """Give access to the tensors of a directory by name, one file or many shards.

    Args:
        directory: Hugging Face model (or adapter) directory.
        weights: Name of the file where there is only one.

    Raises:
        UserError: There are no weights, or a file cannot be read.
    """

    def __init__(self, directory: pathlib.Path, weights: str = WEIGHTS):
        self._directory = directory
        self._weights = weights
        self._open = contextlib.ExitStack()
        self._handles: dict[str, Any] = {}
        self._where = self._locate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception) -> None:
        self._open.close()

    @property
    def names(self) -> set[str]:
        """Return the names of all tensors present."""
        return set(self._where)

    def tensor(self, name: str):
        """Return a lazily read view of one tensor, to be sliced."""
        try:
            return self._handle(self._where[name]).get_slice(name)
        except SafetensorError as error:
            raise UserError(
                f"{self.origin(name)}: tensor {name} is not in it, though {INDEX} says so; "
                "download both again."
            ) from error

    def origin(self, name: str) -> str:
        """Return the file that holds a tensor, for messages."""
        return str(self._directory / self._where[name])

    def _locate(self) -> dict[str, str]:
        index = self._directory / INDEX
        if index.is_file():
            try:
                weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
                return {name: str(pathlib.PurePath(file)) for name, file in weight_map.items()}
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserError(f"{index} is broken ({error!r}): download it again.") from error
        if not (self._directory / self._weights).is_file():
            raise UserError(
                f"{self._directory} has neither {self._weights} nor {INDEX}: "
                "give a directory with safetensors weights."
            )
        return dict.fromkeys(self._handle(self._weights).keys(), self._weights)

    def _handle(self, file: str):
        if file not in self._handles:
            path = self._directory / file
            try:
                handle = safe_open(path, framework="np")
            except (SafetensorError, OSError) as error:
                raise UserError(
                    f"{path} cannot be read ({error}): it is missing or truncated, download it again."
                ) from error
            self._handles[file] = self._open.enter_context(handle)
        return self._handles[file]


def load(
    directory: pathlib.Path,
    declarations: Tree,
    shardings: Tree,
    dtype: str = "float32",
    weights: str = WEIGHTS,
) -> dict[str, Any]:
    """Read a model's weights straight into sharded arrays.

    Every process reads only the slices that its devices hold, tensor by tensor.

    Args:
        directory: Hugging Face model directory.
        declarations: Tree of `Parameter`.
        shardings: Tree of the same structure, the sharding of every array.
        dtype: Type in memory, a key of `DTYPES`, whatever it is on disk.
        weights: Name of the weights' file where there is only one.

    Returns:
        Tree of arrays.

    Raises:
        UserError: A tensor is missing, has another shape or type, or is not finite.
    """
    with TensorFiles(directory, weights) as files:
        _check_names(directory, declarations, files)

        def one(parameter: Parameter, sharding: jax.sharding.Sharding) -> jax.Array:
            read = _reader(parameter, files, DTYPES[dtype])
            return jax.make_array_from_callback(parameter.shape, sharding, read)

        return tree_map(one, declarations, shardings)


def save(
    directory: pathlib.Path,
    declarations: Tree,
    parameters: Tree,
    source: pathlib.Path,
    dtype: str = "float32",
) -> None:
    """Write a Hugging Face model directory.

    Args:
        directory: Where to; made if absent.
        declarations: Tree of `Parameter`.
        parameters: Tree of arrays.
        source: Model directory whose configuration and tokenizer go along.
        dtype: Type on disk, a key of `DTYPES`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name in COMPANIONS:
        if (source / name).is_file() and source.resolve() != directory.resolve():
            shutil.copyfile(source / name, directory / name)
    _set_dtype(directory / "config.json", dtype)
    shards = _shards(named_tensors(declarations, parameters, DTYPES[dtype]))
    if len(shards) == 1:
        write_tensors(shards[0], directory / WEIGHTS)
        return
    weight_map, total = {}, 0
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_tensors(shard, directory / file)
        weight_map.update(dict.fromkeys(shard, file))
        total += sum(tensor.nbytes for tensor in shard.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")


def _reader(
    parameter: Parameter, files: TensorFiles, dtype: np.dtype
) -> Callable[[tuple[slice, ...]], np.ndarray]:
    """Return a function from an index into the parameter to that block of it."""

    def matrix(name: str, index: tuple[slice, ...]) -> np.ndarray:
        tensor = files.tensor(name)
        if tuple(tensor.get_shape()) != parameter.hf_shape:
            raise UserError(
                f"{files.origin(name)}: tensor {name} has shape {tuple(tensor.get_shape())}, the "
                f"configuration asks for {parameter.hf_shape}; the two do not belong together."
            )
        if tensor.get_dtype() not in FLOATS:
            raise UserError(
                f"{files.origin(name)}: tensor {name} is of type {tensor.get_dtype()}; choose a "
                "checkpoint that is not quantised."
            )
        block = tensor[index[::-1] if parameter.transposed else index]
        if not np.isfinite(block.astype(np.float32)).all():
            raise UserError(
                f"{files.origin(name)}: tensor {name} holds values that are not finite; "
                "the checkpoint is damaged, download it again."
            )
        return (block.T if parameter.transposed else block).astype(dtype)

    def read(index: tuple[slice, ...]) -> np.ndarray:
        if not parameter.stacked:
            return matrix(parameter.hf_name, index)
        names = parameter.hf_names[index[0]]
        first = matrix(names[0], index[1:])
        block = np.empty((len(names), *first.shape), dtype)
        block[0] = first
        for row, name in enumerate(names[1:], 1):
            block[row] = matrix(name, index[1:])
        return block

    return read


def _check_names(directory: pathlib.Path, declarations: Tree, files: TensorFiles) -> None:
    expected = {name for leaf in flatten(declarations).values() for name in leaf.hf_names}
    missing = sorted(expected - files.names)
    # A tied checkpoint may carry its output projection twice; old Llamas carry their frequencies.
    extra = {name for name in files.names - expected if not name.endswith("rotary_emb.inv_freq")}
    extra.discard("lm_head.weight")
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


def named_tensors(declarations: Tree, parameters: Tree, dtype: np.dtype) -> dict[str, np.ndarray]:
    """Return a tree's arrays as Hugging Face names and lays them out, on the host."""
    tensors = {}
    values = flatten(parameters)
    for path, parameter in flatten(declarations).items():
        value = np.asarray(jax.device_get(values[path])).astype(dtype)
        rows = value if parameter.stacked else value[None]
        for name, row in zip(parameter.hf_names, rows, strict=True):
            tensors[name] = np.ascontiguousarray(row.T if parameter.transposed else row)
    return tensors


def _shards(tensors: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    shards: list[dict[str, np.ndarray]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if size and size + tensor.nbytes > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    return shards


def write_tensors(tensors: dict[str, np.ndarray], path: pathlib.Path) -> None:
    """Write one file under another name first, so that a kill leaves no half-written weights."""
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.replace(path)


def _set_dtype(path: pathlib.Path, dtype: str) -> None:
    fields = json.loads(path.read_text(encoding="utf-8"))
    fields.pop("torch_dtype", None)
    path.write_text(json.dumps(fields | {"dtype": dtype}, indent=2) + "\n", encoding="utf-8")
