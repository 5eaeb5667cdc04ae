"""Checkpoints, their configurations and their tokenizers."""

import json
import os

import numpy as np
from safetensors.numpy import load_file

from tests.jobs.bad_input.cases import case, edit_json, edit_tensors

UP = "model.layers.1.mlp.up_proj.weight"


@case("config.model.path", "nowhere", "does not exist")
def model_path_does_not_exist(site):
    site.fields["model.path"] = site.root / "nowhere"


@case("config.model.path", "config.json", "is a file")
def model_path_is_a_file(site):
    site.fields["model.path"] = site.model / "config.json"


@case("organism:modle", "organism:model")
def model_path_is_not_in_the_package(site):
    site.fields["model.path"] = "organism:modle"


@case("model/config.json", "model_type 'gpt2'", "qwen2")
def architecture_is_another(site):
    edit_json(site.model / "config.json", model_type="gpt2")


@case("model/config.json", "sliding_window 32")
def attention_slides(site):
    edit_json(
        site.model / "config.json",
        use_sliding_window=True,
        sliding_window=32,
        max_window_layers=0,
    )


@case("model/config.json", "longrope")
def positions_are_scaled_in_an_unknown_way(site):
    edit_json(site.model / "config.json", rope_scaling={"rope_type": "longrope", "factor": 4.0})


@case("model/config.json", "attn_factor", "attention_factor")
def rope_scaling_has_an_unknown_field(site):
    scaling = {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 64,
        "attn_factor": 0.9,
    }
    edit_json(site.model / "config.json", rope_scaling=scaling)


@case("model/config.json", "num_experts")
def model_is_a_mixture_of_experts(site):
    edit_json(site.model / "config.json", num_experts=8)


@case("model/config.json", "hidden_act", "'swishy'")
def activation_is_unknown(site):
    edit_json(site.model / "config.json", hidden_act="swishy")


@case("model/config.json", "hidden_size", "'16'")
def size_is_text(site):
    edit_json(site.model / "config.json", hidden_size="16")


@case("model/config.json", "rms_norm_eps")
def norm_eps_is_text(site):
    edit_json(site.model / "config.json", rms_norm_eps="small")


@case("model/config.json", "head_dim")
def head_width_is_odd(site):
    edit_json(site.model / "config.json", head_dim=7)


@case("model/config.json", "rope_scaling")
def rope_scaling_is_text(site):
    edit_json(site.model / "config.json", rope_scaling="yarn")


@case("model/config.json", "not valid JSON")
def model_config_is_broken(site):
    (site.model / "config.json").write_text('{"model_type": ')


@case("has no config.json")
def model_config_is_missing(site):
    (site.model / "config.json").unlink()


@case("model.safetensors")
def weights_are_missing(site):
    (site.model / "model.safetensors").unlink()


@case("model/model.safetensors", "truncated")
def weights_are_truncated(site):
    path = site.model / "model.safetensors"
    os.truncate(path, path.stat().st_size // 2)


@case("model-00002-of-00002.safetensors", "missing")
def shard_is_missing(site):
    weights = site.model / "model.safetensors"
    weight_map = dict.fromkeys(load_file(weights), "model-00001-of-00002.safetensors")
    weight_map[UP] = "model-00002-of-00002.safetensors"
    weights.rename(site.model / "model-00001-of-00002.safetensors")
    index = site.model / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))


@case(UP, "missing")
def tensor_is_missing(site):
    edit_tensors(site.model / "model.safetensors", lambda tensors: tensors.pop(UP))


@case("model/model.safetensors", UP, "(24, 15)", "(24, 16)")
def tensor_is_misshapen(site):
    edit_tensors(
        site.model / "model.safetensors",
        lambda tensors: tensors.update({UP: np.zeros((24, 15), np.float32)}),
    )


@case("model/model.safetensors", UP, "not finite")
def tensor_is_not_finite(site):
    edit_tensors(site.model / "model.safetensors", lambda tensors: tensors[UP].put(3, np.nan))


@case("model", "tokenizer.json")
def tokenizer_is_missing(site):
    (site.model / "tokenizer.json").unlink()


@case("model", "cannot be read")
def tokenizer_is_broken(site):
    (site.model / "tokenizer.json").write_text("{}")


@case("model", "no chat template")
def chat_template_is_missing(site):
    (site.model / "chat_template.jinja").unlink()


@case("model", "chat template", "cannot be rendered")
def chat_template_is_broken(site):
    (site.model / "chat_template.jinja").write_text("{% for %}")


@case("tokenizer", "1024", "512")
def tokenizer_is_of_another_model(site):
    edit_json(site.model / "config.json", vocab_size=512)


@case("model.layers.9.mlp.up_proj.weight", "not part of")
def tensor_is_surplus(site):
    name = UP.replace("1", "9")
    edit_tensors(
        site.model / "model.safetensors", lambda tensors: tensors.update({name: tensors[UP]})
    )


@case("model/model.safetensors", UP, "I8")
def tensor_is_quantised(site):
    edit_tensors(
        site.model / "model.safetensors",
        lambda tensors: tensors.update({UP: tensors[UP].astype(np.int8)}),
    )


@case("model.embed_tokens.weight", "(1024, 16)")
def embedding_is_of_another_vocabulary(site):
    edit_tensors(
        site.model / "model.safetensors",
        lambda tensors: tensors.update(
            {"model.embed_tokens.weight": tensors["model.embed_tokens.weight"][:1000]}
        ),
    )


@case("model.safetensors.index.json", "broken")
def index_is_broken(site):
    (site.model / "model.safetensors.index.json").write_text('{"weight_map": ')


@case("model.safetensors.index.json", "'../elsewhere.safetensors'")
def index_points_elsewhere(site):
    weight_map = {UP: "../elsewhere.safetensors"}
    index = site.model / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))


@case("model/config.json", "num_attention_heads", "num_key_value_heads")
def heads_do_not_divide(site):
    edit_json(site.model / "config.json", num_attention_heads=3, num_key_value_heads=2)


@case("model/config.json", "quantization_config")
def model_is_quantised(site):
    edit_json(site.model / "config.json", quantization_config={"quant_method": "awq"})


@case("model", "eos")
def tokenizer_has_no_end(site):
    edit_json(site.model / "tokenizer_config.json", eos_token=None)


@case("model", "<|nothing|>")
def end_token_is_not_in_the_vocabulary(site):
    edit_json(site.model / "tokenizer_config.json", eos_token="<|nothing|>")


@case("model", "tokenizer_config.json")
def tokenizer_config_is_broken(site):
    (site.model / "tokenizer_config.json").write_text("{")


@case("generation_config.json", "eos_token_id")
def stop_token_is_text(site):
    (site.model / "generation_config.json").write_text('{"eos_token_id": "end"}')
