"""What is read from `config.json`, and what is refused rather than computed wrongly."""

import json
import pathlib

import pytest
import transformers

from lora_jax.errors import UserError
from lora_jax.models.config import FAMILIES, DecoderConfig, parse_config, read_config
from lora_jax.models.rope import Llama3Scaling, Rope

REAL = pathlib.Path(__file__).parents[3] / "shared/data/models"
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
        "hidden_act": "relu",
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
        rope=Rope(5e5),
        norm_eps=1e-5,
        qkv_bias=True,
        activation="relu",
        tied_embeddings=True,
        max_positions=64,
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model_type": "qwen2"}, (8, True, False, False, False)),
        ({"model_type": "qwen3"}, (128, False, False, False, True)),
        ({"model_type": "qwen3", "head_dim": 16, "attention_bias": True}, (16, True, True, False, True)),
        ({"model_type": "llama"}, (8, False, False, False, False)),
        ({"model_type": "llama", "attention_bias": True}, (8, True, True, False, False)),
        ({"model_type": "llama", "mlp_bias": True}, (8, False, False, True, False)),
        ({"model_type": "mistral", "sliding_window": None}, (8, False, False, False, False)),
    ],
)  # fmt: skip
def test_families_differ_in_head_width_biases_and_head_norms(fields, expected):
    config = parse_config(QWEN2 | fields, "config.json")
    found = (config.head_width, config.qkv_bias, config.o_bias, config.mlp_bias, config.qk_norm)
    assert found == expected


@pytest.mark.parametrize(
    "cls",
    [
        transformers.Qwen2Config,
        transformers.Qwen3Config,
        transformers.LlamaConfig,
        transformers.MistralConfig,
    ],
)
def test_files_of_transformers_are_read(cls, tmp_path):
    rope = {"rope_type": "default", "rope_theta": 1e6}
    theirs = cls(
        num_attention_heads=4, num_key_value_heads=2, rope_parameters=rope, sliding_window=None
    )
    theirs.save_pretrained(tmp_path)
    ours = read_config(tmp_path)
    assert (ours.family, ours.width, ours.layers) == (
        theirs.model_type,
        theirs.hidden_size,
        theirs.num_hidden_layers,
    )
    assert (ours.rope, ours.norm_eps) == (Rope(1e6), theirs.rms_norm_eps)
    assert (ours.kv_heads, ours.groups) == (2, 2)
    assert ours.tied_embeddings == theirs.tie_word_embeddings


# transformers refuses a null in Mistral's files.
@pytest.mark.parametrize(
    ("family", "null"),
    [*((family, ()) for family in FAMILIES)]
    + [(family, ("num_key_value_heads",)) for family in ("qwen2", "qwen3", "llama")],
)
def test_absent_fields_mean_what_they_mean_to_transformers(family, null, tmp_path):
    fields = QWEN2 | {"model_type": family, "hidden_size": 512, "num_attention_heads": 32}
    del fields["num_key_value_heads"]
    fields |= dict.fromkeys(null)
    # The one default that is refused: a Mistral without this field has a window of 4096.
    fields |= {"sliding_window": None} if family == "mistral" else {}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    ours = read_config(tmp_path)
    assert ours.norm_eps == theirs.rms_norm_eps
    assert ours.rope == Rope(theirs.rope_parameters["rope_theta"])
    assert ours.tied_embeddings == theirs.tie_word_embeddings
    assert ours.max_positions == theirs.max_position_embeddings
    assert ours.activation == theirs.hidden_act
    assert ours.kv_heads == theirs.num_key_value_heads
    assert ours.head_width == getattr(theirs, "head_dim", theirs.hidden_size // 32)
    model = transformers.AutoModelForCausalLM.from_config(theirs)
    attention, mlp = model.model.layers[0].self_attn, model.model.layers[0].mlp
    assert ours.qkv_bias == (attention.q_proj.bias is not None)
    assert ours.o_bias == (attention.o_proj.bias is not None)
    assert ours.mlp_bias == (mlp.up_proj.bias is not None)


def test_a_mistral_that_does_not_state_its_window_has_one():
    assert transformers.MistralConfig().sliding_window == 4096
    with pytest.raises(UserError, match="sliding_window 4096 is not supported"):
        parse_config(QWEN2 | {"model_type": "mistral"}, "config.json")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "deepseek-r1-distill-qwen-1.5b",
            DecoderConfig(
                "qwen2", 151_936, 1536, 8960, 28, 12, 2, 128, qkv_bias=True, max_positions=131_072
            ),
        ),
        (
            "qwen3-8b",
            DecoderConfig(
                "qwen3", 151_936, 4096, 12_288, 36, 32, 8, 128, Rope(1e6), qk_norm=True,
                max_positions=40_960,
            ),
        ),
        (
            "llama-3.1-8b",
            DecoderConfig(
                "llama", 128_256, 4096, 14_336, 32, 32, 8, 128,
                Rope(5e5, Llama3Scaling(8.0, 1.0, 4.0, 8192)), norm_eps=1e-5, max_positions=131_072,
            ),
        ),
        (
            "stories260k",
            DecoderConfig(
                "llama", 512, 64, 172, 5, 8, 4, 8, norm_eps=1e-5, tied_embeddings=True,
                max_positions=512,
            ),
        ),
    ],
)  # fmt: skip
def test_real_files_are_read(name, expected):
    if not (REAL / name / "config.json").is_file():
        pytest.skip(f"{REAL / name / 'config.json'} is not at hand")
    assert read_config(REAL / name) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"sliding_window": 4096, "use_sliding_window": False},
        {"sliding_window": 4096, "use_sliding_window": True, "max_window_layers": 3},
        {"sliding_window": None, "use_sliding_window": True, "max_window_layers": 0},
        {"layer_types": ["full_attention"] * 3},
        {"num_experts": 0, "logit_scale": 1.0, "use_mrope": False, "alibi": None},
        {"quantization_config": None, "partial_rotary_factor": 1.0, "no_rope_layers": []},
        {"auto_map": {"AutoTokenizer": "tokenization.Tokenizer"}},
        {"pretraining_tp": 2, "attention_dropout": 0.1, "torch_dtype": "bfloat16", "lab": "ours"},
    ],
)
def test_fields_that_change_nothing_are_accepted(fields):
    assert parse_config(QWEN2 | fields, "config.json") == parse_config(QWEN2, "config.json")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "mamba"}, "'mamba' is not supported; use one of qwen2, qwen3, llama, mistral"),
        ({"model_type": None}, "None is not supported"),
        ({"model_type": ["qwen2"]}, "is not supported; use one of"),
        ({"rope_scaling": {"rope_type": "dynamic"}}, "rope_scaling: rope type 'dynamic'"),
        ({"hidden_act": "quick_gelu"}, "hidden_act 'quick_gelu' is not supported.* silu, swish, gelu"),
        ({"hidden_act": None}, "hidden_act None is not supported"),
        (
            {"use_sliding_window": True, "max_window_layers": 2},
            "sliding_window 4096 is not supported",
        ),
        ({"use_sliding_window": "yes", "max_window_layers": 0}, "use_sliding_window must be true or"),
        ({"max_window_layers": None}, "max_window_layers must be a whole number, found None"),
        ({"model_type": "mistral", "sliding_window": 8192}, "sliding_window 8192 is not supported"),
        ({"model_type": "llama", "sliding_window": 8192}, "sliding_window 8192 is not supported"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types 'sliding_attention'"),
        ({"layer_types": "full_attention"}, "layer_types must be a list"),
        ({"mlp_bias": True}, "mlp_bias True is not supported"),
        ({"model_type": "mistral", "attention_bias": True}, "attention_bias True is not supported"),
        ({"model_type": "llama", "attention_bias": 1}, "attention_bias must be true or false, found 1"),
        ({"num_experts": 64}, "num_experts 64 is not supported"),
        ({"num_local_experts": 8}, "num_local_experts 8"),
        ({"n_routed_experts": 256}, "n_routed_experts 256"),
        ({"quantization_config": {"bits": 4}}, "quantization_config {'bits': 4}"),
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping 50.0"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping 30.0"),
        ({"logit_scale": 0.0625}, "logit_scale 0.0625"),
        ({"embedding_multiplier": 12}, "embedding_multiplier 12"),
        ({"residual_multiplier": 0.22}, "residual_multiplier 0.22"),
        ({"attention_multiplier": 0.0078}, "attention_multiplier 0.0078"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
        ({"use_mrope": True}, "use_mrope True"),
        ({"clip_qkv": 8.0}, "clip_qkv 8.0"),
        ({"no_rope_layers": [1, 1, 0]}, r"no_rope_layers \[1, 1, 0\]"),
        ({"alibi": True}, "alibi True"),
        ({"is_causal": False}, "is_causal False"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder True"),
        ({"add_cross_attention": True}, "add_cross_attention True"),
        ({"auto_map": {"AutoModelForCausalLM": "m.Model"}}, "auto_map names a model class"),
        ({"auto_map": "m.Model"}, "auto_map must be an object"),
        ({"hidden_size": None}, "hidden_size must be a positive integer, found None"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be a positive integer, found 0"),
        ({"vocab_size": "97"}, "vocab_size must be a positive integer, found '97'"),
        ({"intermediate_size": True}, "intermediate_size must be a positive integer"),
        ({"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple"),
        ({"head_dim": "wide"}, "head_dim must be a positive integer, found 'wide'"),
        ({"head_dim": 0}, "head_dim must be a positive integer, found 0"),
        ({"model_type": "qwen3", "head_dim": None}, "head_dim must be a positive integer, found None"),
        ({"head_dim": 7}, "head_dim 7 is odd"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps must be a positive number, found 'small'"),
        ({"rms_norm_eps": None}, "rms_norm_eps must be a positive number, found None"),
        ({"rope_theta": -1}, "rope_theta must be a positive number, found -1"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings must be true or false, found 'no'"),
        ({"max_position_embeddings": None}, "max_position_embeddings must be a positive integer"),
    ],
)  # fmt: skip
def test_what_would_be_computed_wrongly_is_refused(fields, message):
    with pytest.raises(UserError, match=message) as refusal:
        parse_config(QWEN2 | fields, "here/config.json")
    assert str(refusal.value).startswith("here/config.json: ")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", sorted(set(QWEN2) - {"model_type", "num_key_value_heads"}))
def test_sizes_are_never_assumed(name):
    fields = {key: value for key, value in QWEN2.items() if key != name}
    with pytest.raises(UserError, match=f"{name} must be a positive integer, found None"):
        parse_config(fields, "config.json")


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
