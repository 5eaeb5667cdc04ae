"""Rotary frequencies against transformers' own, for every type and both ages of file."""

import json

import numpy as np
import pytest
import torch
import transformers
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from lora_jax.errors import UserError
from lora_jax.models.config import read_config
from lora_jax.models.rope import Rope, parse_rope

BASE = {
    "model_type": "llama", "vocab_size": 96, "hidden_size": 512, "intermediate_size": 48,
    "num_hidden_layers": 1, "num_attention_heads": 4, "max_position_embeddings": 32_768,
}  # fmt: skip
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"factor": 4.0, "original_max_position_embeddings": 8192}
SETTINGS = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 2.5},
    "llama3": {"rope_type": "llama3", **LLAMA3, "original_max_position_embeddings": 8192},
    "llama3 other factors": {
        "rope_type": "llama3",
        "factor": 32,
        "low_freq_factor": 2.0,
        "high_freq_factor": 9.0,
        "original_max_position_embeddings": 4096,
    },
    "llama3 without the original length": {"rope_type": "llama3", **LLAMA3},
    "yarn": {"rope_type": "yarn", **YARN},
    "yarn without the original length": {"rope_type": "yarn", "factor": 4.0},
    "yarn without a factor": YARN | {"rope_type": "yarn", "factor": None},
    "yarn betas": {"rope_type": "yarn", **YARN, "beta_fast": 16, "beta_slow": 2.0},
    "yarn attention factor": {"rope_type": "yarn", **YARN, "attention_factor": 0.9},
    "yarn mscale": {"rope_type": "yarn", **YARN, "mscale": 1.0, "mscale_all_dim": 0.7},
    "yarn not truncated": {"rope_type": "yarn", **YARN, "truncate": False},
    "yarn nulls": {"rope_type": "yarn", **YARN, "attention_factor": None, "beta_fast": None},
    "yarn that shortens": YARN | {"rope_type": "yarn", "factor": 0.5},
    # Here the ramp ends beyond the last pair.
    "yarn small theta": {"rope_type": "yarn", **YARN, "rope_theta": 50.0},
    "yarn short": YARN | {"rope_type": "yarn", "original_max_position_embeddings": 16},
}


def oracle(directory):
    embedding = LlamaRotaryEmbedding(transformers.AutoConfig.from_pretrained(directory))
    return embedding.inv_freq.numpy(), embedding.attention_scaling


def both(fields, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(BASE | fields))
    ours = read_config(tmp_path)
    return (ours.rope.frequencies(ours.head_width), ours.rope.attention_factor), oracle(tmp_path)


def assert_same(fields, tmp_path):
    (ours, our_factor), (theirs, their_factor) = both(fields, tmp_path)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert our_factor == pytest.approx(their_factor, rel=1e-12)


@pytest.mark.parametrize("name", SETTINGS)
def test_files_of_transformers_5(name, tmp_path):
    assert_same({"rope_parameters": {"rope_theta": 5e5, **SETTINGS[name]}}, tmp_path)


@pytest.mark.parametrize("name", SETTINGS)
def test_files_of_transformers_4(name, tmp_path):
    assert_same({"rope_theta": 7e4, "rope_scaling": SETTINGS[name]}, tmp_path)


def test_type_by_its_old_name(tmp_path):
    assert_same({"rope_scaling": {"type": "linear", "factor": 2.0}}, tmp_path)
    assert_same({"rope_scaling": {"type": "yarn", "rope_type": "yarn", **YARN}}, tmp_path)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"rope_scaling": None},
        {"rope_theta": 3e4},
        {"rope_theta": 3e4, "rope_scaling": None},
        {"rope_theta": 3e4, "rope_parameters": {"rope_type": "default"}},
        {"rope_theta": 3e4, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
        {"rope_parameters": {"partial_rotary_factor": 1.0, "rope_theta": 3e4}},
        {"original_max_position_embeddings": 4096, "rope_scaling": SETTINGS["yarn"]},
    ],
)
def test_settings_outside_the_section(fields, tmp_path):
    assert_same(fields, tmp_path)


def test_scalings_are_told_apart(tmp_path):
    found = [
        (*both({"rope_scaling": settings}, tmp_path)[0][0], both({"rope_scaling": settings}, tmp_path)[0][1])
        for settings in SETTINGS.values()
    ]  # fmt: skip
    # Naming the default length, or null for a ratio, changes nothing; all else does.
    assert len(set(found)) == len(SETTINGS) - 2


def test_default_frequencies_fall_from_one_by_powers_of_theta():
    np.testing.assert_allclose(Rope(10_000.0).frequencies(8), [1, 0.1, 0.01, 0.001], rtol=1e-6)
    assert Rope().attention_factor == 1


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"rope_type": "dynamic", "factor": 2.0}, "rope type 'dynamic' is not supported"),
        ({"rope_type": "longrope"}, "rope type 'longrope' is not supported"),
        ({"type": "su"}, "rope type 'su' is not supported.*default, linear, llama3, yarn"),
        ({"rope_type": ["yarn"]}, r"rope type \['yarn'\] is not supported"),
        ({"rope_type": "yarn", "type": "linear"}, "'yarn' and type 'linear' contradict"),
        ({"rope_type": "linear"}, "factor must be a positive number, found None"),
        ({"rope_type": "linear", "factor": "2"}, "factor must be a positive number, found '2'"),
        ({"rope_type": "linear", "factor": 0}, "factor must be a positive number, found 0"),
        ({"rope_type": "default", "factor": 2.0}, "factor 2.0 is not known for rope type 'default'"),
        ({"mrope_section": [16, 24, 24]}, "mrope_section .* is not known"),
        ({"full_attention": {"rope_theta": 1e6}}, "full_attention .* is not known"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5 is not supported"),
        ({"rope_theta": 1}, "rope_theta 1.0 must be above 1"),
        ({"rope_theta": None}, "rope_theta must be a positive number, found None"),
        ({"rope_type": "llama3", "factor": 8.0}, "low_freq_factor must be a positive number"),
        (SETTINGS["llama3"] | {"high_freq_factor": 1.0}, "low_freq_factor 1.0 must be below"),
        ({"rope_type": "yarn"}, "factor must be a positive number, found None"),
        (SETTINGS["yarn"] | {"beta_fast": 0}, "beta_fast must be a positive number, found 0"),
        (SETTINGS["yarn"] | {"truncate": "yes"}, "truncate must be true or false, found 'yes'"),
        (SETTINGS["yarn"] | {"mscale": 0.7}, "mscale without its partner does nothing"),
        (SETTINGS["yarn"] | {"attn_factor": 0.88}, "attn_factor 0.88 is read by vLLM.* remove it, or"),
        (SETTINGS["yarn"] | {"original_max_position_embeddings": None}, "must be a positive integer"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["rope_scaling", "rope_parameters"])
def test_what_would_be_computed_wrongly_is_refused(name, section, message):
    with pytest.raises(UserError, match=message) as refusal:
        parse_rope({name: section}, 4096, "here/config.json")
    assert str(refusal.value).startswith(f"here/config.json: {name}: ")


def test_contradicting_sections_are_refused():
    sections = {"rope_scaling": SETTINGS["yarn"], "rope_parameters": SETTINGS["linear"]}
    with pytest.raises(UserError, match="rope_scaling and rope_parameters contradict"):
        parse_rope(sections, 4096, "config.json")
    assert parse_rope(dict.fromkeys(sections, SETTINGS["yarn"]), 4096, "config.json")


def test_section_that_is_no_object_is_refused():
    with pytest.raises(UserError, match="rope_scaling must be an object, found 'yarn'"):
        parse_rope({"rope_scaling": "yarn"}, 4096, "config.json")


def test_angles_far_out_are_those_of_transformers(tmp_path):
    (ours, _), (theirs, _) = both({"rope_scaling": SETTINGS["llama3"]}, tmp_path)
    far = torch.tensor(31_999.0)
    np.testing.assert_allclose(ours * np.float32(far), (torch.tensor(theirs) * far), atol=4e-3)
