"""Weights in memory: every type, sharding and layout gives the same arrays; damage is refused."""

import json
import math
import pathlib
import shutil
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from lora_jax.errors import UserError
from lora_jax.models import checkpoint, decoder
from lora_jax.models.checkpoint import loading, tensor_files
from lora_jax.models.config import read_config
from lora_jax.models.parameters import flatten
from lora_jax.sharding import make_mesh, parameter_shardings

UP = "model.layers.1.mlp.up_proj.weight"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
MESHES = [
    {"data": 8},
    {"fsdp": 8},
    {"data": 2, "fsdp": 2, "tensor": 2},
    {"fsdp": 4, "tensor": 2},
]
eight_devices = pytest.mark.skipif(len(jax.devices()) < 8, reason="needs eight devices")


def load(directory, dtype="float32", on_tensor=None, **mesh):
    devices = jax.devices() if mesh else jax.devices()[:1]
    declarations = decoder.declare(read_config(directory))
    shardings = parameter_shardings(declarations, make_mesh(**mesh, devices=devices))
    return checkpoint.load(directory, declarations, shardings, dtype, on_tensor=on_tensor)


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture
def directory(hf_model, tmp_path):
    """Give a copy to damage."""
    return shutil.copytree(hf_model("qwen2 untied"), tmp_path / "copy")


@pytest.fixture
def damage(directory):
    """Give a function that changes the tensors of the copy."""

    def change(changes):
        tensors = load_file(directory / checkpoint.WEIGHTS) | changes
        kept = {name: value for name, value in tensors.items() if value is not None}
        save_file(kept, directory / checkpoint.WEIGHTS)

    return change


@pytest.mark.parametrize("family", ["qwen3", "llama with gelu and all biases"])
def test_arrays_are_the_files_tensors(hf_model, family):
    directory = hf_model(family)
    tensors = load_file(directory / checkpoint.WEIGHTS)
    params = flatten(load(directory))
    for path, leaf in flatten(decoder.declare(read_config(directory))).items():
        rows = params[path] if leaf.stacked else params[path][None]
        for name, row in zip(leaf.hf_names, rows, strict=True):
            expected = tensors.pop(name)
            np.testing.assert_array_equal(row, expected.T if leaf.transposed else expected, name)
    assert not tensors


@eight_devices
@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("family", ["qwen2 tied", "llama"])
def test_sharded_loading_equals_loading_on_one_device(hf_model, family, mesh):
    one, many = load(hf_model(family)), load(hf_model(family), **mesh)
    assert_same(one, many)
    up = many["layers"]["mlp"]["up_proj"]["kernel"]
    ways = mesh.get("fsdp", 1) * mesh.get("tensor", 1)
    assert up.addressable_shards[0].data.size == up.size // ways


@eight_devices
@pytest.mark.parametrize("mesh", [{}, *MESHES])
@pytest.mark.parametrize("piece_bytes", [1, 1000])
def test_pieces_of_any_size_give_the_same(hf_model, monkeypatch, mesh, piece_bytes):
    directory = hf_model("llama without biases")
    whole = load(directory, **mesh)
    monkeypatch.setattr(loading, "PIECE_BYTES", piece_bytes)
    assert_same(whole, load(directory, **mesh))


@eight_devices
@pytest.mark.parametrize("mesh", [{}, *MESHES])
def test_every_byte_is_read_once_whatever_devices_share_it(hf_model, monkeypatch, mesh):
    read = []
    plain = tensor_files.StoredTensor._read_into

    def counting(self, content, position):
        read.append(len(content))
        plain(self, content, position)

    monkeypatch.setattr(tensor_files.StoredTensor, "_read_into", counting)
    told = []
    params = load(hf_model("qwen3"), on_tensor=lambda *counts: told.append(counts), **mesh)
    size = sum(x.nbytes for x in jax.tree.leaves(params))
    assert sum(read) == size
    assert told[-1] == (size, size)
    assert told == sorted(told) and {total for _, total in told} == {size}


@pytest.mark.parametrize("on_disk", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("in_memory", ["bfloat16", "float16", "float32"])
def test_types_on_disk_and_in_memory_are_independent(hf_model, tmp_path, on_disk, in_memory):
    model = transformers.AutoModelForCausalLM.from_pretrained(hf_model("qwen2 tied"), dtype=on_disk)
    model.save_pretrained(tmp_path)
    params = load(tmp_path, in_memory)
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype(in_memory)}
    for ours, theirs in [
        (params["embed_tokens"]["embedding"], model.model.embed_tokens.weight),
        (params["layers"]["mlp"]["up_proj"]["kernel"][1].T, model.model.layers[1].mlp.up_proj.weight),
    ]:  # fmt: skip
        expected = theirs.to(getattr(torch, in_memory)).float().detach().numpy()
        np.testing.assert_array_equal(np.asarray(ours, np.float32), expected)


def test_double_precision_is_rounded(hf_model, directory, damage):
    tensors = load_file(directory / checkpoint.WEIGHTS)
    damage({name: tensor.astype(np.float64) for name, tensor in tensors.items()})
    assert_same(load(directory), load(hf_model("qwen2 untied")))


def test_smallest_numbers_survive(directory, damage):
    damage({"model.norm.weight": np.full(32, 2.0**-24, np.float16)})
    for dtype in ("float16", "float32", "bfloat16"):
        assert (np.asarray(load(directory, dtype)["norm"]["weight"]) == 2.0**-24).all()


def test_missing_tensors_are_named_and_counted(directory, damage):
    damage({UP: None, "model.norm.weight": None})
    with pytest.raises(UserError, match=rf"tensor {UP} is missing \(and 1 more\)"):
        load(directory)


def test_surplus_tensor_is_named(directory, damage):
    damage({"model.layers.3.mlp.up_proj.weight": np.zeros((48, 32), np.float32)})
    with pytest.raises(UserError, match=r"tensor model\.layers\.3.* is not part of"):
        load(directory)


class TestTiedHead:
    """What a checkpoint with tied embeddings may carry besides."""

    @pytest.fixture
    def directory(self, hf_model, tmp_path):
        return shutil.copytree(hf_model("qwen2 tied"), tmp_path / "copy")

    def test_repeated_embedding_and_frequencies_are_ignored(self, hf_model, directory, damage):
        embedding = load_file(directory / checkpoint.WEIGHTS)[EMBEDDING]
        frequencies = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32)}
        damage({HEAD: embedding.copy(), **frequencies})
        assert_same(load(directory), load(hf_model("qwen2 tied")))

    @pytest.mark.parametrize("piece_bytes", [100, 2**20])
    def test_head_that_is_not_the_embedding_is_refused(
        self, directory, damage, monkeypatch, piece_bytes
    ):
        monkeypatch.setattr(loading, "PIECE_BYTES", piece_bytes)
        head = load_file(directory / checkpoint.WEIGHTS)[EMBEDDING].copy()
        head[-1, -1] += 1
        damage({HEAD: head})
        with pytest.raises(UserError, match=f"tensor {HEAD} differs from {EMBEDDING}"):
            load(directory)

    def test_head_of_another_shape_is_refused(self, directory, damage):
        damage({HEAD: np.zeros((95, 32), np.float32)})
        with pytest.raises(UserError, match=f"tensor {HEAD} differs from {EMBEDDING}"):
            load(directory)


def test_misshapen_tensor_is_named_with_both_shapes(directory, damage):
    damage({UP: np.zeros((32, 48), np.float32)})
    with pytest.raises(UserError, match=rf"{UP} has shape \(32, 48\).*asks for \(48, 32\)"):
        load(directory)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_non_finite_tensor_is_named(directory, damage, value, dtype):
    weight = np.zeros((48, 32), np.float16)
    weight[47, 31] = value
    damage({UP: weight})
    with pytest.raises(UserError, match=f"{UP} holds values that are not finite") as refusal:
        load(directory, dtype)
    assert str(refusal.value).startswith(str(directory / checkpoint.WEIGHTS))


@pytest.mark.parametrize(("dtype", "value"), [("float16", 7e4), ("bfloat16", 3.4e38)])
def test_values_beyond_the_type_in_memory_are_refused(directory, damage, dtype, value):
    damage({UP: np.full((48, 32), value, np.float32)})
    with pytest.raises(UserError, match=f"{UP} holds values beyond the range of {dtype}"):
        load(directory, dtype)
    assert load(directory)["layers"]["mlp"]["up_proj"]["kernel"][1, 0, 0] == np.float32(value)


def test_tensor_of_no_floating_type_is_refused(directory, damage):
    damage({UP: np.zeros((48, 32), np.int8)})
    with pytest.raises(UserError, match=f"{UP} is of type I8"):
        load(directory)


def test_shards_written_by_transformers_are_read(hf_model, tmp_path):
    source = hf_model("qwen3")
    model = transformers.AutoModelForCausalLM.from_pretrained(source)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert (
        len(set(json.loads((tmp_path / checkpoint.INDEX).read_text())["weight_map"].values())) > 2
    )
    assert_same(load(tmp_path), load(source))


MEASURE = """
    import pathlib, resource, sys
    import jax
    from lora_jax.models import checkpoint, decoder
    from lora_jax.models.config import read_config
    from lora_jax.sharding import make_mesh, parameter_shardings

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    directory = pathlib.Path(sys.argv[1])
    declarations = decoder.declare(read_config(directory))
    shardings = parameter_shardings(declarations, make_mesh())
    jax.numpy.zeros(3).block_until_ready()
    before = peak()
    params = checkpoint.load(directory, declarations, shardings, "bfloat16")
    print(peak() - before - sum(x.nbytes for x in jax.tree.leaves(params)))
"""


@pytest.mark.slow
def test_host_holds_less_than_one_tensor_beside_the_arrays(tmp_path):
    sizes = {"vocab_size": 64_000, "hidden_size": 1024, "intermediate_size": 4096}
    fields = {"model_type": "llama", "num_hidden_layers": 8, "num_attention_heads": 8, **sizes}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    leaves = flatten(decoder.declare(read_config(tmp_path))).values()
    bfloat16 = checkpoint.DTYPES["bfloat16"]
    shapes = {name: leaf.hf_shape for leaf in leaves for name in leaf.hf_names}
    tensor_files.stream_tensors(
        tmp_path / checkpoint.WEIGHTS,
        shapes,
        bfloat16,
        lambda name: [np.ones(shapes[name], bfloat16)],
    )
    root = pathlib.Path(decoder.__file__).parents[2]
    said = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEASURE), tmp_path],
        cwd=root, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert int(said) < max(map(math.prod, shapes.values())) * bfloat16.itemsize
