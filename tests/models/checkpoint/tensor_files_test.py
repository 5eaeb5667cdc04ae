"""Safetensors files against the safetensors library, byte range by byte range; damage is refused."""

import io
import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lora_jax.errors import UserError
from lora_jax.models.checkpoint import (
    DTYPES,
    INDEX,
    WEIGHTS,
    TensorFiles,
    stored_dtype,
    tensor_files,
)

TENSORS = {
    "matrix": np.arange(35, dtype=np.float32).reshape(5, 7),
    "vector": np.arange(4, dtype=np.float16),
    "cube": np.arange(24, dtype=ml_dtypes.bfloat16).reshape(2, 3, 4),
    "scalar": np.array(3.0, np.float64),
    "empty": np.zeros((0, 3), np.float32),
}


@pytest.fixture
def directory(tmp_path):
    save_file(TENSORS, tmp_path / WEIGHTS)
    return tmp_path


@pytest.fixture
def read_bytes(monkeypatch):
    """Count the bytes that are read."""
    counted = []

    class Counting(io.FileIO):
        def readinto(self, content):
            counted.append(super().readinto(content))
            return counted[-1]

    monkeypatch.setattr(tensor_files.io, "FileIO", Counting)
    return counted


def write_raw(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def entry(start, stop, dtype="F32", shape=None):
    shape = [(stop - start) // 4] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_are_those_of_the_library(directory, name):
    with TensorFiles(directory) as files:
        tensor = files.tensor(name)
        expected = TENSORS[name]
        assert (tensor.shape, tensor.dtype) == (expected.shape, expected.dtype)
        assert tensor.nbytes == expected.nbytes
        np.testing.assert_array_equal(tensor[:] if tensor.shape else tensor[()], expected)
        assert files.names == set(TENSORS)
        assert files.origin(name) == str(directory / WEIGHTS)


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("matrix", (slice(1, 4),)),
        ("matrix", (slice(None), slice(2, 5))),
        ("matrix", (slice(1, 4), slice(0, 6))),
        ("matrix", (slice(2, 2), slice(None))),
        ("vector", (slice(1, 3),)),
        ("cube", (slice(0, 2), slice(1, 3))),
        ("cube", (slice(1, 2), slice(None), slice(3, 4))),
        ("cube", (slice(None), slice(0, 1), slice(None))),
    ],
)
def test_a_block_costs_its_own_bytes_and_no_others(directory, read_bytes, name, index):
    expected = TENSORS[name][index]
    with TensorFiles(directory) as files:
        np.testing.assert_array_equal(files.tensor(name)[index], expected)
    assert sum(read_bytes) == expected.nbytes


def write(tensors, path) -> None:
    """Write arrays of one type, as `stream_tensors` is used."""
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    [dtype] = {tensor.dtype for tensor in tensors.values()}
    tensor_files.stream_tensors(path, shapes, dtype, lambda name: [tensors[name]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_written_is_read_by_the_library(tmp_path, dtype):
    drawn = np.random.default_rng(0).standard_normal((5, 3))
    tensors = {"b": drawn.astype(DTYPES[dtype]), "a": drawn[0].astype(DTYPES[dtype])}
    write(tensors | {"c": tensors["b"].T}, tmp_path / WEIGHTS)
    read = load_file(tmp_path / WEIGHTS)
    for name, tensor in (tensors | {"c": tensors["b"].T}).items():
        np.testing.assert_array_equal(read[name], tensor, strict=True)
    assert stored_dtype(tmp_path) == dtype
    content = (tmp_path / WEIGHTS).read_bytes()
    assert json.loads(content[8:].split(b"}}")[0] + b"}}")["__metadata__"] == {"format": "pt"}
    assert int.from_bytes(content[:8], "little") % 8 == 0


def test_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "adapter.safetensors"
    write({"a": np.ones(3, np.float32)}, path)

    def interrupt(name):
        yield np.zeros(1, np.float32)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tensor_files.stream_tensors(path, {"a": (3,)}, np.dtype(np.float32), interrupt)
    np.testing.assert_array_equal(load_file(path)["a"], np.ones(3))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        (["bfloat16", "bfloat16", "float32"], "bfloat16"),
        (["float16"], "float16"),
        (["float64", "float64"], "float32"),
    ],
)
def test_stored_type_is_that_of_most_tensors(tmp_path, types, expected):
    save_file({f"t{i}": np.zeros(2, t) for i, t in enumerate(types)}, tmp_path / WEIGHTS)
    assert stored_dtype(tmp_path) == expected


def test_stored_type_that_is_no_floating_type_is_refused(tmp_path):
    save_file({"a": np.zeros(2, np.int8)}, tmp_path / WEIGHTS)
    with pytest.raises(UserError, match=r"tensor a is of type I8; choose .* not quantised"):
        stored_dtype(tmp_path)


@pytest.mark.parametrize("left", [0, 4, 100, 0.5, 0.999])
def test_truncated_file_is_refused(directory, left):
    path = directory / WEIGHTS
    content = path.read_bytes()
    path.write_bytes(content[: left if isinstance(left, int) else int(left * len(content))])
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read \(.*bytes"):
        TensorFiles(directory)


@pytest.mark.parametrize(
    ("header", "data", "reason"),
    [
        (b"{", b"", "Expecting"),
        (b"\xff\xfe", b"", "cannot be read"),
        (b"[1]", b"", "cannot be read"),
        ({"a": 3}, b"", "cannot be read"),
        ({"a": entry(0, 8)}, b"1234567", "bytes, its header describes"),
        ({"a": entry(0, 8)}, b"123456789", "bytes, its header describes"),
        ({"a": entry(4, 8)}, b"12345678", "entry of tensor a is not consistent"),
        ({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12), "entry of tensor b is not consistent"),
        ({"a": entry(0, 8, shape=[3])}, bytes(8), "entry of tensor a is not consistent"),
        (
            b'{"a": %s, "a": %s}' % (2 * (json.dumps(entry(0, 4)).encode(),)),
            bytes(4),
            "'a' occurs twice",
        ),
    ],
)
def test_broken_header_is_refused(tmp_path, header, data, reason):
    write_raw(tmp_path / WEIGHTS, header, data)
    with pytest.raises(UserError, match=reason) as refusal:
        TensorFiles(tmp_path)
    assert str(refusal.value).startswith(f"{tmp_path / WEIGHTS} cannot be read (")


def test_file_that_shrinks_while_it_is_read_is_refused(directory):
    with TensorFiles(directory) as files:
        (directory / WEIGHTS).write_bytes(b"")
        with pytest.raises(UserError, match="became shorter while tensor matrix was read"):
            files.tensor("matrix")[:]


def test_directory_without_weights_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"has neither model\.safetensors nor"):
        TensorFiles(tmp_path)


class TestShards:
    """Several files and the index that says where what is."""

    @pytest.fixture
    def directory(self, tmp_path):
        """Give two shards and their index."""
        save_file({"a": np.zeros(1, np.float32)}, tmp_path / "one.safetensors")
        save_file({"b": np.ones(2, np.float32)}, tmp_path / "two.safetensors")
        self.index(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"})
        return tmp_path

    @staticmethod
    def index(directory, weight_map):
        (directory / INDEX).write_text(json.dumps({"weight_map": weight_map}))

    def test_tensors_are_found(self, directory):
        with TensorFiles(directory) as files:
            assert files.names == {"a", "b"}
            np.testing.assert_array_equal(files.tensor("b")[:], [1, 1])
            assert files.origin("b") == str(directory / "two.safetensors")

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "{",
            "[]",
            "{}",
            '{"weight_map": {}}',
            '{"weight_map": [1]}',
            '{"weight_map": {"a": 3}}',
            '{"weight_map": {"a": "one.safetensors", "a": "two.safetensors"}}',
        ],
    )
    def test_broken_index_is_refused(self, directory, content):
        (directory / INDEX).write_text(content)
        with pytest.raises(UserError, match=r"index\.json is broken"):
            TensorFiles(directory)

    @pytest.mark.parametrize("file", ["../one.safetensors", "/etc/passwd", "sub/one.safetensors"])
    def test_index_that_leaves_the_directory_is_refused(self, directory, file):
        self.index(directory, {"a": file})
        with pytest.raises(UserError, match=f"{file}.*the file of a, is not a file of this direc"):
            TensorFiles(directory)

    def test_index_that_names_an_absent_file_is_refused(self, directory):
        self.index(directory, {"a": "one.safetensors", "b": "three.safetensors"})
        with pytest.raises(UserError, match=r"three\.safetensors cannot be read .*No such file"):
            TensorFiles(directory)

    @pytest.mark.parametrize("weight_map", [{"c": "two"}, {"a": "two", "b": "two"}])
    def test_index_that_names_the_wrong_file_is_refused(self, directory, weight_map):
        files = {name: f"{file}.safetensors" for name, file in weight_map.items()}
        self.index(directory, {"b": "two.safetensors"} | files)
        name = min(set(files) - {"b"})
        with pytest.raises(UserError, match=rf"two\.safetensors: tensor {name} is not in it"):
            TensorFiles(directory)

    def test_tensor_in_two_files_is_refused(self, directory):
        save_file({"a": np.zeros(1, np.float32)}, directory / "two.safetensors")
        with pytest.raises(UserError, match=r"two\.safetensors: tensor a is also in .*one\.safe"):
            TensorFiles(directory)

    def test_both_a_single_file_and_shards_are_refused(self, directory):
        save_file({"a": np.zeros(1, np.float32)}, directory / WEIGHTS)
        with pytest.raises(UserError, match=r"has both model\.safetensors and .*out of date"):
            TensorFiles(directory)
