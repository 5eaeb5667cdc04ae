"""Sampling against transformers' `generate`, and what a sample must not depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from lora_jax.generation.sampler import Sampler, SamplingSettings, _nucleus
from lora_jax.lora.adapter import AdapterSpec, Placement
from lora_jax.models import checkpoint, config, decoder
from lora_jax.organism import MODEL_DIRECTORY
from lora_jax.sharding import make_mesh, parameter_shardings

MESH = make_mesh(devices=jax.devices()[:1])
PROMPTS = [[3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1], [8] * 21]


def load(directory):
    cfg = config.read_config(directory)
    declarations = decoder.declare(cfg)
    return cfg, checkpoint.load(directory, declarations, parameter_shardings(declarations, MESH))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    torch.manual_seed(0)
    model = transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(
            vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
            initializer_range=0.3,
        )
    )  # fmt: skip
    directory = tmp_path_factory.mktemp("model")
    model.save_pretrained(directory)
    return directory


def greedy_oracle(directory, prompts, new_tokens):
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    out = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        settings = {"max_new_tokens": new_tokens, "do_sample": False, "eos_token_id": None}
        generated = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
        out.append(generated[0, len(prompt) :].tolist())
    return out


@pytest.mark.parametrize("which", ["random", "embedded"])
def test_greedy_equals_transformers_for_100_tokens(small, which):
    directory = small if which == "random" else MODEL_DIRECTORY
    cfg, params = load(directory)
    sampler = Sampler(cfg, SamplingSettings(100, stop_tokens=()), MESH, batch_size=4)
    assert sampler(params, {}, PROMPTS) == greedy_oracle(directory, PROMPTS, 100)


def test_sample_does_not_depend_on_its_neighbours(small):
    cfg, params = load(small)
    settings = SamplingSettings(20, stop_tokens=(), temperature=1.0, top_p=0.9)
    together = Sampler(cfg, settings, MESH, batch_size=4)(params, {}, PROMPTS, seed=3)
    alone = Sampler(cfg, settings, MESH, batch_size=1)
    assert together == [alone(params, {}, [prompt], seed=3)[0] for prompt in PROMPTS]
    assert together != Sampler(cfg, settings, MESH, batch_size=4)(params, {}, PROMPTS, seed=4)


def test_stop_token_ends_a_sample(small):
    cfg, params = load(small)
    free = Sampler(cfg, SamplingSettings(30, stop_tokens=()), MESH, 4)(params, {}, PROMPTS)
    stop = free[0][5]
    cut = Sampler(cfg, SamplingSettings(30, stop_tokens=(stop,)), MESH, 4)(params, {}, PROMPTS)
    for short, long in zip(cut, free, strict=True):
        end = long.index(stop) + 1 if stop in long else len(long)
        assert short == long[:end]


def test_adapter_is_applied(small):
    cfg, params = load(small)
    spec = AdapterSpec((Placement("mlp.up_proj", (1,), (2,), (16.0,)),))
    factors = spec.initialise(decoder.declare(cfg), jax.random.key(0))
    settings = SamplingSettings(30, stop_tokens=())
    base = Sampler(cfg, settings, MESH, 4)(params, {}, PROMPTS)
    adapted = Sampler(cfg, settings, MESH, 4, spec)
    assert adapted(params, factors, PROMPTS) == base, "B = 0 must change nothing"
    strong = jax.tree.map(lambda x: x + 1, factors)
    assert adapted(params, strong, PROMPTS) != base


def test_nucleus_keeps_the_smallest_set_with_enough_probability():
    probability = np.array([[0.1, 0.5, 0.15, 0.25], [0.97, 0.01, 0.01, 0.01]])
    kept = np.asarray(_nucleus(jnp.log(probability), 0.7)) > -1e29
    np.testing.assert_array_equal(kept, [[False, True, False, True], [True, False, False, False]])
