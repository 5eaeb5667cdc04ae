"""The decoder against Hugging Face's own code, and its invariants."""

import dataclasses
import functools
import pathlib

import jax
import numpy as np
import pytest
import torch
import transformers

from lora_jax.generation.sampler import Sampler, SamplingSettings
from lora_jax.models import checkpoint, config, decoder
from lora_jax.organism import MODEL_DIRECTORY
from lora_jax.sharding import make_mesh, parameter_shardings

STORIES = pathlib.Path(__file__).parents[3] / "shared/data/models/stories260k"
MESH = make_mesh(devices=jax.devices()[:1])
FAMILIES = (
    "qwen2 tied",
    "qwen2 untied",
    "qwen2 yarn",
    "qwen3",
    "qwen3 tied yarn",
    "llama",
    "llama without biases",
    "llama with gelu and all biases",
    "llama linear",
    "llama 3",
    "mistral",
)
PROMPT_TOKENS, NEW_TOKENS = 48, 200


def load(directory, dtype="float32"):
    """Load a model directory on one device."""
    cfg = config.read_config(directory)
    declarations = decoder.declare(cfg)
    shardings = parameter_shardings(declarations, MESH)
    return cfg, checkpoint.load(directory, declarations, shardings, dtype)


@functools.partial(jax.jit, static_argnums=0)
def packed_logits(cfg, params, tokens, positions, segment_ids):
    mask = decoder.causal_mask(segment_ids)
    hidden, _ = decoder.hidden_states(cfg, params, tokens, positions, mask)
    return decoder.logits(params, hidden)


def our_logits(cfg, params, tokens):
    positions = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    return np.asarray(packed_logits(cfg, params, tokens, positions, np.ones(tokens.shape, int)))


def torch_model(directory, dtype=torch.float32):
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval()
    model.generation_config.eos_token_id = None
    return model


@torch.no_grad()
def torch_logits(model, tokens):
    return model(torch.tensor(np.asarray(tokens))).logits.float().numpy()


@dataclasses.dataclass
class Compared:
    """What both sides make of one model.

    Attributes:
        directory: The model's.
        tokens: Two random prompts, and what transformers' greedy search makes of each.
        ours: Our logits of them.
        theirs: transformers' logits of them.
    """

    directory: pathlib.Path
    tokens: np.ndarray
    ours: np.ndarray
    theirs: np.ndarray


def compare(directory):
    cfg, params = load(directory)
    model = torch_model(directory)
    prompts = torch.tensor(np.random.default_rng(0).integers(5, cfg.vocabulary, (2, PROMPT_TOKENS)))
    tokens = model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        pad_token_id=0,
    ).numpy()
    return Compared(directory, tokens, our_logits(cfg, params, tokens), torch_logits(model, tokens))


def assert_greedy(sides):
    """After every token, our most likely one is the one that transformers went on with."""
    new = sides.tokens[:, PROMPT_TOKENS:]
    assert new.shape[1] == NEW_TOKENS
    np.testing.assert_array_equal(sides.ours[:, PROMPT_TOKENS - 1 : -1].argmax(-1), new)


@pytest.fixture(scope="session")
def compared(hf_model):
    """Give a function from a family's name to what both sides make of it."""
    return functools.cache(lambda family: compare(hf_model(family)))


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_transformers(compared, family):
    sides = compared(family)
    np.testing.assert_allclose(sides.ours, sides.theirs, atol=2e-5)
    assert np.abs(sides.theirs).max() > 0.5, "the oracle's logits are too small to tell anything"


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_continuation_equals_transformers_for_200_tokens(compared, family):
    sides = compared(family)
    assert_greedy(sides)


@pytest.mark.parametrize("directory", [MODEL_DIRECTORY, STORIES], ids=["embedded", "stories260k"])
def test_trained_model_equals_transformers(directory):
    if not directory.is_dir():
        pytest.skip(f"{directory} is not at hand")
    sides = compare(directory)
    # Trained logits reach 20, where the rounding of fp32 alone comes near to 1e-4.
    np.testing.assert_allclose(sides.ours, sides.theirs, atol=1e-4, rtol=1e-5)
    assert_greedy(sides)


@pytest.mark.parametrize("family", ["qwen2 tied", "qwen3 tied yarn", "llama 3", "mistral"])
def test_bfloat16_departs_from_float32_no_more_than_it_does_in_transformers(compared, family):
    sides = compared(family)
    ours = our_logits(*load(sides.directory, "bfloat16"), sides.tokens)
    theirs = torch_logits(torch_model(sides.directory, torch.bfloat16), sides.tokens)
    spread = np.std(theirs - sides.theirs)
    assert np.std(ours - sides.ours) < 1.2 * spread
    assert np.std(ours - theirs) < 1.5 * spread


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_sampler_continues_as_transformers_does_for_200_tokens(compared, family):
    sides = compared(family)
    cfg, params = load(sides.directory)
    sampler = Sampler(cfg, SamplingSettings(NEW_TOKENS, stop_tokens=()), MESH, batch_size=2)
    prompts, new = np.split(sides.tokens, [PROMPT_TOKENS], axis=1)
    assert sampler(params, {}, prompts.tolist()) == new.tolist()


def test_packed_segments_do_not_see_each_other(hf_model):
    cfg, params = load(hf_model("qwen3"))
    first, second = np.arange(7)[None], np.arange(20, 29)[None]
    packed = np.concatenate([first, second], axis=1)
    segment_ids = np.array([[1] * 7 + [2] * 9])
    positions = np.array([[*range(7), *range(9)]])
    together = np.asarray(packed_logits(cfg, params, packed, positions, segment_ids))
    np.testing.assert_allclose(together[:, :7], our_logits(cfg, params, first), atol=1e-5)
    np.testing.assert_allclose(together[:, 7:], our_logits(cfg, params, second), atol=1e-5)
