"""The decoder against Hugging Face's own code, and its invariants."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from lora_jax.models import checkpoint, config, decoder, parameters
from lora_jax.organism import MODEL_DIRECTORY
from lora_jax.sharding import make_mesh, parameter_shardings

STORIES = pathlib.Path(__file__).parents[3] / "shared/data/models/stories260k"
FAMILIES = ("qwen2 tied", "qwen2 untied", "qwen3", "llama", "llama without biases")


def load(directory, dtype="float32"):
    """Load a model directory on one device."""
    cfg = config.read_config(directory)
    declarations = decoder.declare(cfg)
    mesh = make_mesh(devices=jax.devices()[:1])
    shardings = parameter_shardings(declarations, mesh)
    return cfg, checkpoint.load(directory, declarations, shardings, dtype)


def our_logits(cfg, params, tokens):
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    mask = decoder.causal_mask(jnp.ones(tokens.shape, jnp.int32))
    hidden, _ = decoder.hidden_states(cfg, params, tokens, positions, mask)
    return np.asarray(decoder.logits(params, hidden))


def torch_logits(directory, tokens):
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    with torch.no_grad():
        return model.eval()(torch.tensor(np.asarray(tokens))).logits.numpy()


@pytest.fixture(params=FAMILIES)
def family_directory(request, hf_model):
    """Give a randomly initialised Hugging Face model of every family."""
    return hf_model(request.param)


def test_logits_equal_transformers(family_directory):
    cfg, params = load(family_directory)
    tokens = jax.random.randint(jax.random.key(0), (2, 21), 0, cfg.vocabulary)
    ours, theirs = our_logits(cfg, params, tokens), torch_logits(family_directory, tokens)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert np.abs(theirs).max() > 0.5, "the oracle's logits are too small to tell anything"


@pytest.mark.parametrize("directory", [MODEL_DIRECTORY, STORIES], ids=["embedded", "stories260k"])
def test_trained_model_equals_transformers(directory):
    if not directory.is_dir():
        pytest.skip(f"{directory.name} is not at hand")
    cfg, params = load(directory)
    tokens = jax.random.randint(jax.random.key(0), (2, 64), 0, cfg.vocabulary)
    ours, theirs = our_logits(cfg, params, tokens), torch_logits(directory, tokens)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_saved_model_is_the_loaded_one(family_directory, tmp_path):
    cfg, params = load(family_directory)
    checkpoint.save(tmp_path, decoder.declare(cfg), params, source=family_directory)
    tokens = jnp.arange(12)[None]
    np.testing.assert_allclose(
        torch_logits(tmp_path, tokens), torch_logits(family_directory, tokens), atol=1e-6
    )


def test_shards_are_written_with_an_index(family_directory, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SHARD_BYTES", 10_000)
    cfg, params = load(family_directory)
    checkpoint.save(tmp_path, decoder.declare(cfg), params, source=family_directory)
    assert (tmp_path / checkpoint.INDEX).is_file()
    _, again = load(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, params, again)


def test_packed_segments_do_not_see_each_other():
    cfg = config.DecoderConfig(
        "qwen2", vocabulary=97, width=32, mlp_width=48, layers=3, heads=4, kv_heads=2, head_width=8
    )
    params = parameters.initialise(decoder.declare(cfg), jax.random.key(0))
    params = jax.tree.map(lambda x: 5 * x, params)
    first, second = jnp.arange(7)[None], jnp.arange(20, 29)[None]
    packed = jnp.concatenate([first, second], axis=1)
    segment_ids = jnp.array([[1] * 7 + [2] * 9])
    positions = jnp.array([[*range(7), *range(9)]])
    hidden, _ = decoder.hidden_states(
        cfg, params, packed, positions, decoder.causal_mask(segment_ids)
    )
    together = np.asarray(decoder.logits(params, hidden))
    np.testing.assert_allclose(together[:, :7], our_logits(cfg, params, first), atol=5e-5)
    np.testing.assert_allclose(together[:, 7:], our_logits(cfg, params, second), atol=5e-5)
