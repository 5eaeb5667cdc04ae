"""Configurations mean what PEFT says they mean; what is not supported is refused by name."""

import json
import re

import peft
import pytest
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key

from lora_jax.errors import UserError
from lora_jax.lora.peft_config import CONFIG, read_adapter_config

BLOCKS = {
    "self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}
MODULES = [
    "model.embed_tokens",
    *(
        f"model.layers.{layer}.{block}.{name}"
        for layer in range(12)
        for block, names in BLOCKS.items()
        for name in names
    ),
    "lm_head",
]
PLAIN = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["up_proj"]}


def read(directory, **fields):
    path = directory / CONFIG
    path.write_text(json.dumps(PLAIN | fields))
    return read_adapter_config(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"target_modules": ["q_proj", "mlp.up_proj", "proj", "p_proj"]},
        {"target_modules": ["model.layers.3.mlp.up_proj", "layers.1.mlp.up_proj", "lm_head"]},
        {"target_modules": r".*\.(q|up)_proj"},
        {"target_modules": r"model\.layers\.1.*proj"},
        {"target_modules": "up_proj"},
        {"layers_to_transform": 3},
        {"layers_to_transform": 0},
        {"layers_to_transform": []},
        {"layers_to_transform": [1, 11], "layers_pattern": "layers"},
        {"layers_to_transform": [1, 11], "layers_pattern": ["h", "layers"]},
        {"layers_to_transform": [1], "layers_pattern": ["h"]},
        {"layers_to_transform": [1], "layers_pattern": "ayers"},
        {"layers_to_transform": [1], "layers_pattern": "lay.rs"},
        {"layers_to_transform": [1], "layers_pattern": ""},
        {
            "target_modules": ["down_proj", "model.layers.0.mlp.up_proj", "lm_head"],
            "layers_to_transform": [2],
        },
        {"exclude_modules": ["layers.3.mlp.up_proj", "roj"]},
        {"exclude_modules": ["model.layers.3.mlp.up_proj"]},
        {"exclude_modules": r".*\.[13]\..*"},
        {"exclude_modules": "up_proj"},
        {"exclude_modules": []},
        {"target_modules": ["lm_head", "up_proj"], "exclude_modules": ["lm_head"]},
    ],
)
def test_pefts_own_choice_of_modules(tmp_path, fields):
    theirs = peft.LoraConfig(**(PLAIN | fields))
    ours = read(tmp_path, **fields)
    for module in MODULES:
        assert ours.adapts(module) == bool(check_target_module_exists(theirs, module)), module


def test_all_linear_is_everything_but_the_embeddings(tmp_path):
    for words in ("all-linear", "ALL-LINEAR"):
        ours = read(tmp_path, target_modules=words, exclude_modules=["o_proj"])
        chosen = [module for module in MODULES if ours.adapts(module)]
        assert chosen == [module for module in MODULES[1:-1] if not module.endswith("o_proj")]


@pytest.mark.parametrize(
    "patterns",
    [
        {},
        {"up_proj": 1},
        {"p_proj": 1, "roj": 2},
        {"layers.1.mlp.up_proj": 1, "up_proj": 2},
        {"up_proj": 2, "layers.1.mlp.up_proj": 1},
        {"^model.layers.1.mlp.up_proj": 1},
        {"^layers.1.mlp.up_proj": 1, "^mlp": 2},
        {r"layers\.1\d?\..*": 1},
        {"q_proj|up_proj": 1, "mlp": 2},
        {"model.layers.2.self_attn.q_proj$": 1},
    ],
)
def test_pefts_own_choice_of_rank_and_alpha(tmp_path, patterns):
    ours = read(
        tmp_path, rank_pattern=patterns, alpha_pattern={k: v / 2 for k, v in patterns.items()}
    )
    for module in MODULES:
        key = get_pattern_key(patterns.keys(), module)
        assert ours.rank_of(module) == patterns.get(key, 8), module
        assert ours.alpha_of(module) == (patterns[key] / 2 if key in patterns else 16), module


def test_every_field_that_peft_writes_by_default_is_understood(tmp_path):
    peft.LoraConfig(
        task_type="CAUSAL_LM", target_modules=["q_proj"], use_rslora=True
    ).save_pretrained(tmp_path)
    config = read_adapter_config(tmp_path / CONFIG)
    assert (config.rank, config.alpha, config.dropout, config.rslora) == (8, 8, 0.0, True)
    assert config.targets == ("q_proj",)


@pytest.mark.parametrize("init", [True, False, None, "gaussian", "eva", "orthogonal"])
def test_inits_that_leave_the_base_alone_are_read(tmp_path, init):
    eva = {"rho": 2.0, "tau": 0.99}
    assert read(tmp_path, init_lora_weights=init, eva_config=eva, loftq_config={"loftq_bits": 4})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("peft_type", "ADALORA"),
        ("peft_type", None),
        ("task_type", "SEQ_CLS"),
        ("use_dora", True),
        ("bias", "all"),
        ("bias", "lora_only"),
        ("lora_bias", True),
        ("modules_to_save", ["lm_head"]),
        ("fan_in_fan_out", True),
        *(
            ("init_lora_weights", init)
            for init in ("pissa", "pissa_niter_16", "olora", "loftq", "corda", "lora_ga", "mica")
        ),
        ("layer_replication", [[0, 2], [1, 3]]),
        ("target_parameters", ["experts.down_proj"]),
        ("trainable_token_indices", [1, 2]),
        ("alora_invocation_tokens", [1, 2]),
        ("use_qalora", True),
        ("megatron_config", {"tensor_model_parallel_size": 2}),
        ("velora_config", {"num_groups": 2}),
        ("monteclora_config", {"num_samples": 2}),
        ("use_bdlora", {"nblocks": 2}),
        ("arrow_config", {"top_k": 2}),
        ("kasa_config", {"beta": 1}),
        ("invented_tomorrow", 3),
    ],
)
def test_unsupported_features_are_refused_by_name(tmp_path, name, value):
    with pytest.raises(UserError, match=rf"{CONFIG}: {name} {re.escape(repr(value))} is not supp"):
        read(tmp_path, **{name: value})


@pytest.mark.parametrize("value", [None, False, "", [], {}])
def test_unknown_features_that_are_switched_off_are_let_pass(tmp_path, value):
    assert read(tmp_path, invented_tomorrow=value)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("r", (0, -1, 2.5, "8", None, True)),
        ("lora_alpha", (0, None, "16", float("nan"), float("inf"), True)),
        ("lora_dropout", (1.0, -0.1, "0")),
        ("use_rslora", (1, "true")),
        ("target_modules", (None, [], "", [1], {"up_proj": 1})),
        ("exclude_modules", (3, [3])),
        ("layers_to_transform", (-1, ["1"], [1.0], "all", True)),
        ("layers_pattern", (1, [1])),
        ("rank_pattern", (["up_proj"], {"up_proj": 0}, {"up_proj": 1.5})),
        ("alpha_pattern", ({"up_proj": "16"}, {"up_proj": 0})),
    ],
)
def test_values_of_the_wrong_kind_are_refused(tmp_path, name, values):
    for value in values:
        with pytest.raises(UserError, match=rf"{CONFIG}: {name} is .*; it must be "):
            read(tmp_path, **{name: value})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"target_modules": "(up"}, r"target_modules '\(up' is no regular expression"),
        ({"exclude_modules": "(up"}, r"exclude_modules '\(up' is no regular expression"),
        ({"rank_pattern": {"(up": 1}}, r"rank_pattern '\(up' is no regular expression"),
        ({"target_modules": "up", "layers_to_transform": [1]}, "cannot go with target_modules"),
        ({"layers_pattern": "layers"}, "means nothing without layers_to_transform"),
    ],
)
def test_fields_that_contradict_themselves_are_refused(tmp_path, fields, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, **fields)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no adapter_config.json"),
        ("", "cannot be read"),
        ('{"r": 1', "cannot be read"),
        ("[]", "must hold a JSON object"),
        ("{}", "peft_type None is not supported"),
        ('{"peft_type": "LORA"}', "r is None"),
    ],
)
def test_broken_files_are_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / CONFIG).write_text(content)
    with pytest.raises(UserError, match=message):
        read_adapter_config(tmp_path / CONFIG)
