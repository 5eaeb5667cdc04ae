"""Safetensors files: any byte range of any tensor read, and tensors written one after another.

A file is the length of its header in eight bytes (little-endian), the header as JSON, and the tensors'
elements, back to back. Reading it here rather than through a memory map keeps what is in memory to
what was asked for: the pages of a map stay resident until the whole file is closed.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import io
import itertools
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, Any, Self

import ml_dtypes
import numpy as np

from lora_jax.errors import UserError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
# As a header calls them.
_WRITTEN = {DTYPES["float32"]: "F32", DTYPES["float16"]: "F16", DTYPES["bfloat16"]: "BF16"}
_READ = {name: dtype for dtype, name in _WRITTEN.items()} | {"F64": np.dtype(np.float64)}


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file, whose blocks are read when they are asked for.

    Attributes:
        name: Its name.
        path: The file, for messages.
        shape: Its shape.
        kind: Its type as the header calls it.
        start: Where in the file its elements begin, in bytes.
        stop: Where they end.
        file: The open file.
    """

    name: str
    path: pathlib.Path
    shape: tuple[int, ...]
    kind: str
    start: int
    stop: int
    file: IO[bytes]

    @property
    def nbytes(self) -> int:
        """Return its size in the file."""
        return self.stop - self.start

    @property
    def dtype(self) -> np.dtype:
        """Return the type of its elements.

        Raises:
            UserError: They are no floating-point numbers.
        """
        self.check_type()
        return _READ[self.kind]

    def check_type(self) -> None:
        """Refuse elements that are no floating-point numbers.

        Raises:
            UserError: They are not.
        """
        if self.kind not in _READ:
            raise UserError(
                f"{self.path}: tensor {self.name} is of type {self.kind}; choose a checkpoint that is "
                "not quantised."
            )

    def __getitem__(self, index: slice | tuple[slice, ...]) -> np.ndarray:
        """Read a block, its byte ranges and no others."""
        index = index if isinstance(index, tuple) else (index,)
        index += (slice(None),) * (len(self.shape) - len(index))
        bounds = [part.indices(size)[:2] for part, size in zip(index, self.shape, strict=True)]
        shape = tuple(max(stop - start, 0) for start, stop in bounds)
        content = np.empty(math.prod(shape) * self.dtype.itemsize, np.uint8)
        filled = 0
        for start, length in _ranges(self.shape, bounds):
            start, length = start * self.dtype.itemsize, length * self.dtype.itemsize
            self._read_into(content[filled : filled + length], self.start + start)
            filled += length
        return content.view(self.dtype).reshape(shape)

    def _read_into(self, content: np.ndarray, position: int) -> None:
        self.file.seek(position)
        unread = memoryview(content)
        while len(unread):  # One call reads at most 2 GiB.
            count = self.file.readinto(unread)
            if not count:
                raise UserError(f"{self.path} became shorter while tensor {self.name} was read.")
            unread = unread[count:]


class TensorFiles:
    """Give access to the tensors of a directory by name, one file or many shards.

    Args:
        directory: Hugging Face model (or adapter) directory.
        weights: Name of the file where there is only one.

    Raises:
        UserError: There are no weights, a file cannot be read, or the index is not true.
    """

    def __init__(self, directory: pathlib.Path, weights: str = WEIGHTS):
        self._open = contextlib.ExitStack()
        self._tensors: dict[str, StoredTensor] = {}
        try:
            self._read_headers(directory, weights)
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception) -> None:
        self._open.close()

    @property
    def names(self) -> set[str]:
        """Return the names of all tensors present."""
        return set(self._tensors)

    def tensor(self, name: str) -> StoredTensor:
        """Return one tensor, not read yet."""
        return self._tensors[name]

    def origin(self, name: str) -> str:
        """Return the file that holds a tensor, for messages."""
        return str(self._tensors[name].path)

    def _read_headers(self, directory: pathlib.Path, weights: str) -> None:
        index = directory / INDEX
        if weights == WEIGHTS and index.is_file():
            weight_map = _read_index(index)
            if (directory / weights).is_file() and weights not in weight_map.values():
                raise UserError(
                    f"{directory} has both {weights} and {INDEX}, which names other files; "
                    "remove the one that is out of date."
                )
        elif (directory / weights).is_file():
            weight_map = {}
        else:
            raise UserError(
                f"{directory} has neither {weights} nor {INDEX}: "
                "give a directory with safetensors weights."
            )
        for file in sorted(set(weight_map.values()) or {weights}):
            self._read_header(directory / file)
        for name, file in weight_map.items():
            if name not in self._tensors or self._tensors[name].path.name != file:
                raise UserError(
                    f"{directory / file}: tensor {name} is not in it, though {INDEX} says so; "
                    "download both again."
                )

    def _read_header(self, path: pathlib.Path) -> None:
        try:
            file = self._open.enter_context(io.FileIO(path))
            tensors = list(_parse_header(file, path))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path} cannot be read ({error}): it is missing, truncated or broken, "
                "download it again."
            ) from error
        for tensor in tensors:
            if tensor.name in self._tensors:
                raise UserError(
                    f"{path}: tensor {tensor.name} is also in {self.origin(tensor.name)}; "
                    "remove the file that is out of date."
                )
            self._tensors[tensor.name] = tensor


def stored_dtype(directory: pathlib.Path) -> str:
    """Return the type that most tensors of a model directory have on disk, a key of `DTYPES`.

    Double precision counts as float32, the widest type written here.

    Raises:
        UserError: There are no weights, or they are not floating-point numbers.
    """
    with TensorFiles(directory) as files:
        counts = collections.Counter(files.tensor(name).dtype for name in sorted(files.names))
    [(dtype, _)] = counts.most_common(1)
    return next((name for name, known in DTYPES.items() if known == dtype), "float32")


def stream_tensors(
    path: pathlib.Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: np.dtype,
    read: Callable[[str], Iterable[np.ndarray]],
) -> None:
    """Write a file of tensors that need not be in memory together.

    Args:
        path: The file; a kill leaves the old one or the new one, whole.
        shapes: The tensors' shapes by name, in the order in which they are written.
        dtype: Their type, one of `DTYPES`.
        read: Gives a tensor's elements in one or several blocks.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    stop = 0
    for name, shape in shapes.items():
        start, stop = stop, stop + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _WRITTEN[dtype], "shape": shape, "data_offsets": [start, stop]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # Elements begin at a multiple of their size.
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in shapes:
            for block in read(name):
                file.write(np.ascontiguousarray(block, dtype).reshape(-1).view(np.uint8))


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of another when it is whole, and not before."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _ranges(shape: tuple[int, ...], bounds: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Return the contiguous runs of a block, as first element and count."""
    if any(stop <= start for start, stop in bounds):
        return
    cut = [axis for axis, bound in enumerate(bounds) if bound != (0, shape[axis])]
    # Everything after the last axis that is cut belongs together.
    last = cut[-1] if cut else 0
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    if not shape:
        yield 0, 1
        return
    start, stop = bounds[last]
    for outer in itertools.product(*(range(*bound) for bound in bounds[:last])):
        offset = sum(place * stride for place, stride in zip(outer, strides, strict=False))
        yield offset + start * strides[last], (stop - start) * strides[last]


def _read_index(path: pathlib.Path) -> dict[str, str]:
    """Return the file of every tensor, by its name."""
    try:
        text = path.read_text(encoding="utf-8")
        weight_map = json.loads(text, object_pairs_hook=_unique)["weight_map"]
        for name, file in weight_map.items():
            # Another directory is none of a checkpoint's business.
            if pathlib.PurePath(file).name != file:
                raise ValueError(f"{file!r}, the file of {name}, is not a file of this directory")
        if not weight_map:
            raise ValueError("it names no tensors")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is broken ({error}): download it again.") from error
    return weight_map


def _parse_header(file: IO[bytes], path: pathlib.Path) -> Iterator[StoredTensor]:
    """Read a file's header; any error is of a kind that `TensorFiles` words."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or 8 + length > size:
        raise ValueError(f"{size} bytes hold no whole header")
    header = json.loads(file.read(length), object_pairs_hook=_unique)
    header.pop("__metadata__", None)
    end = 8 + length
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = (8 + length + offset for offset in entry["data_offsets"])
        shape, kind = tuple(entry["shape"]), entry["dtype"]
        whole = kind not in _READ or stop - start == math.prod(shape) * _READ[kind].itemsize
        if start != end or not whole:
            raise ValueError(f"the header's entry of tensor {name} is not consistent")
        yield StoredTensor(name, path, shape, kind, start, stop, file)
        end = stop
    if end != size:
        raise ValueError(f"it has {size} bytes, its header describes {end}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object out of JSON, refusing a name that occurs twice."""
    entries = dict(pairs)
    if len(entries) < len(pairs):
        [(name, _), *_] = collections.Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{name!r} occurs twice")
    return entries
