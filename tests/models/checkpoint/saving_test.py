"""Model directories: transformers reads what is written, and nothing half-written is a model."""

import json

import jax
import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file

from lora_jax.errors import UserError
from lora_jax.models import checkpoint, decoder
from lora_jax.models.checkpoint import saving
from lora_jax.models.config import read_config
from lora_jax.models.parameters import flatten
from lora_jax.organism import MODEL_DIRECTORY
from lora_jax.sharding import make_mesh, parameter_shardings

FAMILIES = ("qwen2 tied", "qwen3", "llama with gelu and all biases", "mistral", "llama 3")


class Source:
    """A model directory, and its arrays."""

    def __init__(self, directory, dtype="float32", **mesh):
        self.directory = directory
        self.declarations = decoder.declare(read_config(directory))
        devices = jax.devices() if mesh else jax.devices()[:1]
        shardings = parameter_shardings(self.declarations, make_mesh(**mesh, devices=devices))
        self.parameters = checkpoint.load(directory, self.declarations, shardings, dtype)

    def save(self, to, dtype="float32", update=None):
        checkpoint.save(
            to, self.declarations, self.parameters, self.directory, dtype, update=update
        )


def torch_logits(directory):
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    with torch.no_grad():
        return model.eval()(torch.arange(12)[None]).logits.numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_model_is_the_loaded_one(hf_model, tmp_path, family):
    source = hf_model(family)
    Source(source).save(tmp_path)
    written, original = (load_file(d / checkpoint.WEIGHTS) for d in (tmp_path, source))
    assert written.keys() == original.keys()
    for name, tensor in original.items():
        np.testing.assert_array_equal(written[name], tensor, name)
    np.testing.assert_allclose(torch_logits(tmp_path), torch_logits(source), atol=1e-6)


@pytest.mark.parametrize("dtype", checkpoint.DTYPES)
def test_directory_states_its_type_and_is_read_by_transformers(hf_model, tmp_path, dtype):
    source = Source(hf_model("llama"))
    source.save(tmp_path, dtype)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    assert model.dtype == getattr(torch, dtype)
    ours = np.asarray(source.parameters["lm_head"]["kernel"]).T.astype(checkpoint.DTYPES[dtype])
    theirs = model.lm_head.weight.detach().float().numpy()
    np.testing.assert_array_equal(ours.astype(np.float32), theirs)
    assert checkpoint.stored_dtype(tmp_path) == dtype
    assert not list(tmp_path.glob("*.partial"))


def test_old_spelling_of_the_type_is_replaced(hf_model, tmp_path):
    source = Source(hf_model("qwen3"))
    config = json.loads((source.directory / "config.json").read_text())
    config |= {"torch_dtype": "float16", "dtype": "float16"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    source.directory = tmp_path
    source.save(tmp_path / "out", "bfloat16")
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["dtype"] == "bfloat16" and "torch_dtype" not in written


def test_tokenizer_and_generation_settings_go_along(tmp_path):
    Source(MODEL_DIRECTORY).save(tmp_path, "bfloat16")
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (tmp_path / name).read_bytes() == (MODEL_DIRECTORY / name).read_bytes()
    assert not (tmp_path / "README.md").exists()


@pytest.mark.parametrize("piece_bytes", [1, 1000])
@pytest.mark.parametrize("mesh", [{}, {"fsdp": 4, "tensor": 2}])
def test_shards_are_written_with_an_index(hf_model, tmp_path, monkeypatch, mesh, piece_bytes):
    if mesh and len(jax.devices()) < 8:
        pytest.skip("needs eight devices")
    monkeypatch.setattr(saving, "SHARD_BYTES", 10_000)
    monkeypatch.setattr(saving, "PIECE_BYTES", piece_bytes)
    source = Source(hf_model("qwen2 untied"), **mesh)
    source.save(tmp_path)
    index = json.loads((tmp_path / checkpoint.INDEX).read_text())
    files = set(index["weight_map"].values())
    assert files == {path.name for path in tmp_path.glob("*.safetensors")}
    assert len(files) > 3
    size = sum(x.nbytes for x in jax.tree.leaves(source.parameters))
    assert index["metadata"] == {"total_size": size}
    jax.tree.map(np.testing.assert_array_equal, source.parameters, Source(tmp_path).parameters)
    original = torch_logits(source.directory)
    np.testing.assert_allclose(torch_logits(tmp_path), original, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mesh", [{}, {"fsdp": 4, "tensor": 2}])
def test_update_is_added_in_fp32_and_then_cast(hf_model, tmp_path, mesh, dtype):
    if mesh and len(jax.devices()) < 8:
        pytest.skip("needs eight devices")
    source = Source(hf_model("llama"), "bfloat16", **mesh)
    drawn = np.random.default_rng(0).standard_normal((3, 32, 48)).astype(np.float32) / 100
    asked = []

    def update(path, layer):
        asked.append((path, layer))
        chosen = path == "layers.mlp.up_proj.kernel" and layer != 1
        return drawn[layer] if chosen else None

    source.save(tmp_path, dtype, update)
    written = load_file(tmp_path / checkpoint.WEIGHTS)
    base = np.asarray(source.parameters["layers"]["mlp"]["up_proj"]["kernel"], np.float32)
    for layer, added in enumerate([drawn[0], 0, drawn[2]]):
        expected = (base[layer] + added).astype(checkpoint.DTYPES[dtype])
        found = written[f"model.layers.{layer}.mlp.up_proj.weight"]
        np.testing.assert_array_equal(found, expected.T)
    gate = np.asarray(source.parameters["layers"]["mlp"]["gate_proj"]["kernel"][0])
    found = written["model.layers.0.mlp.gate_proj.weight"]
    np.testing.assert_array_equal(found, gate.astype(checkpoint.DTYPES[dtype]).T)
    paths = flatten(source.declarations["layers"])
    kernels = {f"layers.{path}" for path in paths if path.endswith(".kernel")}
    assert sorted(asked) == sorted((path, layer) for path in kernels for layer in range(3))


@pytest.mark.parametrize("value", [np.nan, np.inf, 7e4])
def test_update_that_does_not_fit_is_refused(hf_model, tmp_path, value):
    source = Source(hf_model("llama"))

    def update(path, layer):
        chosen = path == "layers.mlp.up_proj.kernel" and layer == 2
        return np.full((32, 48), value, np.float32) if chosen else None

    name = r"model\.layers\.2\.mlp\.up_proj\.weight"
    with pytest.raises(UserError, match=f"tensor {name} would hold values that are not finite"):
        source.save(tmp_path, "float16", update)
    with pytest.raises(UserError, match="has neither"):
        Source(tmp_path)


@pytest.mark.parametrize(
    "before", [None, 10_000, 2**30], ids=["new", "over shards", "over one file"]
)
@pytest.mark.parametrize("shard_bytes", [10_000, 2**30], ids=["shards", "one file"])
def test_interrupted_save_is_no_model_and_is_made_good(
    hf_model, tmp_path, monkeypatch, before, shard_bytes
):
    source = Source(hf_model("qwen3"))
    if before:
        monkeypatch.setattr(saving, "SHARD_BYTES", before)
        source.save(tmp_path)
    monkeypatch.setattr(saving, "SHARD_BYTES", shard_bytes)

    def interrupt(path, layer):
        if path == "layers.mlp.down_proj.kernel" and layer == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        source.save(tmp_path, update=interrupt)
    with pytest.raises(UserError, match="has neither"):
        Source(tmp_path)
    with pytest.raises(OSError, match="no file named"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    source.save(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, source.parameters, Source(tmp_path).parameters)
    assert not list(tmp_path.glob("*.partial"))


def test_saving_leaves_no_copy_of_the_weights_in_memory(hf_model, tmp_path):
    if len(jax.devices()) < 8:
        pytest.skip("needs eight devices")
    source = Source(hf_model("qwen3"), fsdp=8)
    source.save(tmp_path)
    # What JAX keeps with an array whose content was asked for.
    assert all(x._npy_value is None for x in jax.tree.leaves(source.parameters))
