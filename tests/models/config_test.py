"""What is read from `config.json`, and what is refused rather than computed wrongly."""

import json

import pytest
import transformers

from lora_jax.errors import UserError
from lora_jax.models.config import DecoderConfig, parse_config, read_config

QWEN2 = {
    "model_type": "qwen2",
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def test_every_field_has_its_place():
    fields = {
        "rms_norm_eps": 1e-5,
        "rope_theta": 5e5,
        "tie_word_embeddings": True,
        "max_position_embeddings": 64,
    }
    assert parse_config(QWEN2 | fields, "config.json") == DecoderConfig(
        family="qwen2",
        vocabulary=97,
        width=32,
        mlp_width=48,
        layers=3,
        heads=4,
        kv_heads=2,
        head_width=8,
        rope_theta=5e5,
        norm_eps=1e-5,
        qkv_bias=True,
        tied_embeddings=True,
        max_positions=64,
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model_type": "qwen2"}, (8, True, False, False)),
        ({"model_type": "qwen3"}, (128, False, False, True)),
        ({"model_type": "qwen3", "head_dim": 16, "attention_bias": True}, (16, True, True, True)),
        ({"model_type": "llama"}, (8, False, False, False)),
        ({"model_type": "llama", "attention_bias": True}, (8, True, True, False)),
    ],
)
def test_families_differ_in_head_width_biases_and_head_norms(fields, expected):
    config = parse_config(QWEN2 | fields, "config.json")
    assert (config.head_width, config.qkv_bias, config.o_bias, config.qk_norm) == expected


@pytest.mark.parametrize(
    "cls", [transformers.Qwen2Config, transformers.Qwen3Config, transformers.LlamaConfig]
)
def test_files_of_transformers_are_read(cls, tmp_path):
    rope = {"rope_type": "default", "rope_theta": 1e6}
    theirs = cls(num_attention_heads=4, num_key_value_heads=2, rope_parameters=rope)
    theirs.save_pretrained(tmp_path)
    ours = read_config(tmp_path)
    assert (ours.family, ours.width, ours.layers) == (
        theirs.model_type,
        theirs.hidden_size,
        theirs.num_hidden_layers,
    )
    assert (ours.rope_theta, ours.norm_eps) == (1e6, theirs.rms_norm_eps)
    assert (ours.kv_heads, ours.groups) == (2, 2)
    assert ours.tied_embeddings == theirs.tie_word_embeddings


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_theta": 7e4},
        {"rope_theta": 7e4, "rope_scaling": None},
        {"rope_theta": 7e4, "rope_scaling": {"type": "default"}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 7e4}},
    ],
)
def test_rope_theta_is_found_in_files_of_every_age(fields):
    assert parse_config(QWEN2 | fields, "config.json").rope_theta == 7e4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "mamba"}, "'mamba' is not supported; use one of qwen2, qwen3, llama"),
        ({"model_type": None}, "None is not supported"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope type 'yarn'"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope type 'linear'"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5}}, "rope type 'llama3'"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"use_sliding_window": True}, "sliding-window"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding-window"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"hidden_size": None}, "hidden_size must be a positive integer, found None"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be a positive integer, found 0"),
        ({"vocab_size": "97"}, "vocab_size must be a positive integer, found '97'"),
        ({"intermediate_size": True}, "intermediate_size must be a positive integer"),
        ({"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple"),
        ({"head_dim": "wide"}, "head_dim must be a positive integer, found 'wide'"),
        ({"head_dim": 7}, "head_dim 7 is odd"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps must be a positive number, found 'small'"),
        ({"rope_theta": -1}, "rope_theta must be a positive number, found -1"),
        ({"rope_scaling": "yarn"}, "rope_scaling must be an object, found 'yarn'"),
        ({"max_position_embeddings": None}, "max_position_embeddings must be a positive integer"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(fields, message):
    with pytest.raises(UserError, match=message) as refusal:
        parse_config(QWEN2 | fields, "here/config.json")
    assert str(refusal.value).startswith("here/config.json: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no config.json"),
        (b"", "not valid JSON"),
        (b'{"model_type": "qwen2"', "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[1, 2]", "must hold a JSON object"),
    ],
)
def test_broken_files_are_refused(content, message, tmp_path):
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=message) as refusal:
        read_config(tmp_path)
    assert str(tmp_path) in str(refusal.value)


def test_absent_optional_fields_take_the_families_defaults(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(QWEN2))
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    ours = read_config(tmp_path)
    assert ours.norm_eps == theirs.rms_norm_eps
    assert ours.rope_theta == theirs.rope_parameters["rope_theta"]
    assert ours.tied_embeddings == theirs.tie_word_embeddings
