"""Weights on disk: every type, sharding and layout gives the same arrays; damage is refused."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from lora_jax.errors import UserError
from lora_jax.models import checkpoint, decoder
from lora_jax.models.config import read_config
from lora_jax.models.parameters import flatten
from lora_jax.sharding import make_mesh, parameter_shardings

UP = "model.layers.1.mlp.up_proj.weight"


def load(directory, dtype="float32", **mesh):
    devices = jax.devices() if mesh else jax.devices()[:1]
    declarations = decoder.declare(read_config(directory))
    shardings = parameter_shardings(declarations, make_mesh(**mesh, devices=devices))
    return checkpoint.load(directory, declarations, shardings, dtype)


@pytest.fixture
def directory(hf_model, tmp_path):
    """Give a copy to damage."""
    return shutil.copytree(hf_model("qwen2 untied"), tmp_path / "copy")


@pytest.fixture
def damage(directory):
    """Give a function that changes the tensors of the copy."""

    def change(**changes):
        tensors = load_file(directory / checkpoint.WEIGHTS)
        changed = tensors | {name.replace("__", "."): value for name, value in changes.items()}
        kept = {name: value for name, value in changed.items() if value is not None}
        save_file(kept, directory / checkpoint.WEIGHTS)

    return change


def test_arrays_are_the_files_tensors(hf_model):
    directory = hf_model("qwen3")
    tensors = load_file(directory / checkpoint.WEIGHTS)
    params = load(directory)
    for path, leaf in flatten(decoder.declare(read_config(directory))).items():
        rows = flatten(params)[path] if leaf.stacked else flatten(params)[path][None]
        for name, row in zip(leaf.hf_names, rows, strict=True):
            expected = tensors[name].T if leaf.transposed else tensors[name]
            np.testing.assert_array_equal(row, expected, name)


@pytest.mark.skipif(len(jax.devices()) < 8, reason="needs eight devices")
@pytest.mark.parametrize(
    "mesh",
    [{"data": 8}, {"fsdp": 8}, {"data": 2, "fsdp": 2, "tensor": 2}, {"fsdp": 4, "tensor": 2}],
)
@pytest.mark.parametrize("family", ["qwen2 tied", "llama"])
def test_sharded_loading_equals_loading_on_one_device(hf_model, family, mesh):
    one, many = load(hf_model(family)), load(hf_model(family), **mesh)
    jax.tree.map(np.testing.assert_array_equal, one, many)
    up = many["layers"]["mlp"]["up_proj"]["kernel"]
    ways = mesh.get("fsdp", 1) * mesh.get("tensor", 1)
    assert up.addressable_shards[0].data.size == up.size // ways


@pytest.mark.parametrize("on_disk", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("in_memory", ["bfloat16", "float32"])
def test_types_on_disk_and_in_memory_are_independent(hf_model, tmp_path, on_disk, in_memory):
    source = hf_model("qwen2 tied")
    model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=on_disk)
    model.save_pretrained(tmp_path)
    params = load(tmp_path, in_memory)
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype(in_memory)}
    theirs = model.model.embed_tokens.weight.to(getattr(torch, in_memory)).float()
    ours = params["embed_tokens"]["embedding"].astype("float32")
    np.testing.assert_array_equal(ours, theirs.detach().numpy())


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_saved_directory_states_its_type_and_is_read_by_transformers(hf_model, tmp_path, dtype):
    source = hf_model("llama")
    params = load(source)
    checkpoint.save(tmp_path, decoder.declare(read_config(source)), params, source, dtype)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    assert model.dtype == getattr(torch, dtype)
    ours = params["lm_head"]["kernel"].T.astype(dtype).astype("float32")
    np.testing.assert_array_equal(ours, model.lm_head.weight.detach().float().numpy())
    assert not list(tmp_path.glob("*.partial"))


def test_missing_tensors_are_named_and_counted(directory, damage):
    damage(**{UP: None, "model.norm.weight": None})
    with pytest.raises(UserError, match=rf"tensor {UP} is missing \(and 1 more\)"):
        load(directory)


def test_surplus_tensor_is_named(directory, damage):
    damage(**{"model.layers.3.mlp.up_proj.weight": np.zeros((48, 32), np.float32)})
    with pytest.raises(UserError, match=r"tensor model\.layers\.3.* is not part of"):
        load(directory)


def test_surplus_that_is_known_to_be_harmless_is_ignored(hf_model, tmp_path):
    directory = shutil.copytree(hf_model("qwen2 tied"), tmp_path / "copy")
    tensors = load_file(directory / checkpoint.WEIGHTS)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)
    save_file(tensors, directory / checkpoint.WEIGHTS)
    jax.tree.map(np.testing.assert_array_equal, load(directory), load(hf_model("qwen2 tied")))


def test_misshapen_tensor_is_named_with_both_shapes(directory, damage):
    damage(**{UP: np.zeros((32, 48), np.float32)})
    with pytest.raises(UserError, match=rf"{UP} has shape \(32, 48\).*asks for \(48, 32\)"):
        load(directory)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_tensor_is_named(directory, damage, value):
    weight = np.zeros((48, 32), np.float32)
    weight[47, 31] = value
    damage(**{UP: weight})
    with pytest.raises(UserError, match=f"{UP} holds values that are not finite"):
        load(directory)


def test_tensor_of_no_floating_type_is_refused(directory, damage):
    damage(**{UP: np.zeros((48, 32), np.int8)})
    with pytest.raises(UserError, match=f"{UP} is of type I8"):
        load(directory)


@pytest.mark.parametrize("left", [0, 4, 100, 0.5, 0.999])
def test_truncated_file_is_refused(directory, left):
    path = directory / checkpoint.WEIGHTS
    content = path.read_bytes()
    path.write_bytes(content[: left if isinstance(left, int) else int(left * len(content))])
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        load(directory)


def test_directory_without_weights_is_refused(directory):
    (directory / checkpoint.WEIGHTS).unlink()
    with pytest.raises(UserError, match="has neither model.safetensors nor"):
        load(directory)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"weight_map": [1]}', '{"weight_map": {"model.norm.weight": 3}}'],
)
def test_broken_index_is_refused(directory, content):
    (directory / checkpoint.INDEX).write_text(content)
    with pytest.raises(UserError, match=r"index\.json is broken"):
        load(directory)


@pytest.mark.parametrize(
    ("shard", "message"),
    [("model-00009-of-00009.safetensors", "cannot be read"), ("other.safetensors", "not in it")],
)
def test_index_that_points_nowhere_is_refused(directory, shard, message):
    save_file({"other": np.zeros(1, np.float32)}, directory / "other.safetensors")
    weight_map = dict.fromkeys(load_file(directory / checkpoint.WEIGHTS), checkpoint.WEIGHTS)
    index = {"weight_map": weight_map | {UP: shard}}
    (directory / checkpoint.INDEX).write_text(json.dumps(index))
    with pytest.raises(UserError, match=message) as refusal:
        load(directory)
    assert shard in str(refusal.value)


def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "adapter.safetensors"
    checkpoint.write_tensors({"a": np.ones(3, np.float32)}, path)

    def fail(tensors, partial, metadata):
        partial.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.write_tensors({"a": np.zeros(3, np.float32)}, path)
    np.testing.assert_array_equal(load_file(path)["a"], np.ones(3))
