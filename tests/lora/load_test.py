"""Adapters that PEFT made are read exactly, go on as ours, and go back; damaged ones are refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import peft
import pytest
import torch
from safetensors.numpy import load_file, save_file

from lora_jax.errors import UserError
from lora_jax.lora.export import export_adapter
from lora_jax.lora.load import PICKLE, load_adapter
from lora_jax.lora.merging import updates
from lora_jax.lora.peft_config import CONFIG, WEIGHTS
from lora_jax.models.parameters import flatten
from lora_jax.sharding import make_mesh

MESH = make_mesh(devices=jax.devices()[:1])
ADAPTERS = {
    "suffixes": ("qwen2 tied", {"target_modules": ["q_proj", "v_proj"]}),
    "regex": ("qwen2 untied", {"target_modules": r".*\.[02]\.(mlp\.(up|down)|self_attn\.o)_proj"}),
    "all linear": ("llama", {"target_modules": "all-linear"}),
    "layers and a whole path": (
        "qwen3",
        {"target_modules": ["k_proj", "model.layers.0.mlp.down_proj"], "layers_to_transform": 1},
    ),
    "layers with a pattern": (
        "qwen2 tied",
        {
            "target_modules": ["up_proj", "o_proj"],
            "layers_to_transform": [0, 2],
            "layers_pattern": "layers",
        },
    ),
    "patterns": (
        "llama",
        {
            "target_modules": ["q_proj", "up_proj", "down_proj"],
            "rank_pattern": {"up_proj": 6, "^model.layers.1.mlp.down_proj": 2},
            "alpha_pattern": {"layers.0.self_attn.q_proj": 3, "mlp.up_proj": 32.5},
        },
    ),
    "rank-stabilised": (
        "qwen3",
        {
            "target_modules": ["gate_proj"],
            "use_rslora": True,
            "rank_pattern": {"layers.2.mlp.gate_proj": 9},
        },
    ),
    "exclusions": (
        "qwen2 untied",
        {"target_modules": ["q_proj", "up_proj"], "exclude_modules": r".*\.1\.mlp\.up_proj"},
    ),
    "gaussian": ("llama", {"target_modules": ["v_proj"], "init_lora_weights": "gaussian"}),
    "bfloat16": ("qwen2 tied", {"target_modules": ["up_proj"]}),
    "float16": ("qwen3", {"target_modules": ["up_proj"], "exclude_modules": ["0.mlp.up_proj"]}),
}


def make_adapter(model, directory, dtype=torch.float32, **fields):
    """Save an adapter as PEFT does, with drawn factors."""
    settings = {"r": 4, "lora_alpha": 10, "lora_dropout": 0.05, "task_type": "CAUSAL_LM"}
    adapted = peft.get_peft_model(model.theirs(), peft.LoraConfig(**(settings | fields)))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.2 * torch.randn_like(parameter))
    adapted.to(dtype).save_pretrained(directory)


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapter_that_peft_made_is_read_merged_and_exported_again(small, tmp_path, name):
    family, fields = ADAPTERS[name]
    model = small(family)
    dtype = getattr(torch, name, torch.float32)
    make_adapter(model, tmp_path / "theirs", dtype, **fields)
    spec, factors = load_adapter(tmp_path / "theirs", model.declarations, MESH)
    theirs = peft.PeftModel.from_pretrained(model.theirs(), tmp_path / "theirs")
    expected = model.their_logits(theirs)
    np.testing.assert_allclose(model.logits(spec, factors), expected, atol=1e-4)
    assert np.abs(expected - model.base_logits).max() > 0.05, "the adapter is too small to tell"
    assert spec.dropout == 0.05

    export_adapter(tmp_path / "ours", spec, model.declarations, factors, "base")
    again = peft.PeftModel.from_pretrained(model.theirs(), tmp_path / "ours")
    np.testing.assert_allclose(model.their_logits(again), expected, atol=1e-4)

    update = updates(spec, factors)
    merged = flatten(model.take(theirs.merge_and_unload().state_dict()))
    changed = set()
    for path, base in flatten(model.params).items():
        for layer in range(len(base)) if path.startswith("layers.") else ():
            added = update(path, layer)
            mine = base[layer] if added is None else base[layer] + added
            np.testing.assert_allclose(mine, merged[path][layer], atol=1e-5, err_msg=path)
            changed |= set() if added is None else {path}
    assert len(changed) == len(spec.placements)


def test_factors_follow_their_kernels_over_the_mesh(small, tmp_path):
    model = small("qwen2 tied")
    make_adapter(model, tmp_path, target_modules=["up_proj"])
    mesh = make_mesh(tensor=2, devices=jax.devices()[:2])
    _, factors = load_adapter(tmp_path, model.declarations, mesh)
    b = factors["mlp.up_proj"]["b"]
    assert b.dtype == jnp.float32 and b.shape == (3, 4, 48)
    assert b.addressable_shards[0].data.shape == (3, 4, 24)


@pytest.fixture
def adapter(small, tmp_path):
    """Write one of ours, and give what changes its files and reads them."""
    return Adapter(small("qwen2 untied"), tmp_path)


class Adapter:
    """An adapter of rank 4 on q and up, in layers 0 and 1."""

    def __init__(self, model, directory):
        self.model, self.directory = model, directory
        spec = model.spec(["q", "up"], "0-1")
        export_adapter(directory, spec, model.declarations, model.draw(spec), "base")

    def configure(self, **fields):
        path = self.directory / CONFIG
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    def change(self, tensors):
        """Let a function change the tensors by name."""
        path = self.directory / WEIGHTS
        held = load_file(path)
        tensors(held)
        save_file({name: np.ascontiguousarray(value) for name, value in held.items()}, path)

    def refusal(self):
        with pytest.raises(UserError) as caught:
            load_adapter(self.directory, self.model.declarations, MESH)
        message = str(caught.value)
        assert "\n" not in message and message.startswith(str(self.directory))
        return message


UP = "base_model.model.model.layers.1.mlp.up_proj"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"use_dora": True}, "use_dora True is not supported"),
        ({"target_modules": ["up_proj", "lm_head"], "layers_to_transform": None,
          "layers_pattern": None}, "target_modules selects lm_head"),
        ({"target_modules": ".*", "layers_to_transform": None, "layers_pattern": None},
         "target_modules selects model.embed_tokens"),
        ({"target_modules": ["c_attn"]}, "select no module of this model, which has model.layers.0"),
        ({"layers_to_transform": [7]}, "select no module of this model"),
        ({"target_modules": ["up_proj", "q_proj", "v_proj"]},
         "v_proj.lora_A.weight, which adapter_config.json implies, is missing (and 3 more)"),
        ({"layers_to_transform": [0, 1, 2]}, "layers.2.mlp.up_proj.lora_A.weight, which adapter_"),
        ({"target_modules": ["up_proj"]}, "q_proj.lora_A.weight is not implied by adapter_config"),
        ({"layers_to_transform": [0]}, "layers.1.mlp.up_proj.lora_A.weight is not implied"),
        ({"r": 2}, "lora_A.weight has shape (4, 32), adapter_config.json and the model ask for (2, 32)"),
        ({"r": 10**12}, "ask for (1000000000000, 32)"),
        ({"rank_pattern": {"layers.1.mlp.up_proj": 6}}, f"{UP}.lora_A.weight has shape (4, 32)"),
    ],
)  # fmt: skip
def test_configuration_that_does_not_fit_is_refused(adapter, fields, words):
    adapter.configure(**fields)
    assert words in adapter.refusal()


def rename(old, new):
    return lambda held: [held.update({n.replace(old, new): held.pop(n)}) for n in list(held)]


def replace(value):
    return lambda held: held.update({f"{UP}.lora_B.weight": value})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (rename("base_model.model.", ""), "with the prefix base_model.model. before the module's path"),
        (rename("base_model.model.model.", "base_model.model."), "should be named base_model.model.model"),
        (rename("base_model.", "module.base_model."), "tensor module.base_model.model.model.layers.0"),
        (rename(".weight", ".default.weight"), "and no adapter's name"),
        (lambda held: held.pop(f"{UP}.lora_B.weight"), f"{UP}.lora_A.weight is there without {UP}.lora_B"),
        (lambda held: held.pop(f"{UP}.lora_A.weight"), f"{UP}.lora_B.weight is there without {UP}.lora_A"),
        (lambda held: [held.pop(n) for n in list(held) if n.startswith(UP)],
         f"{UP}.lora_A.weight, which adapter_config.json implies, is missing (and 1 more)"),
        (lambda held: held.update({"base_model.model.lm_head.weight": np.zeros((96, 32), np.float32)}),
         "base_model.model.lm_head.weight is not implied by"),
        (lambda held: held.update({f"{UP}.lora_magnitude_vector": np.zeros(48, np.float32)}),
         "lora_magnitude_vector is not implied by"),
        (replace(np.zeros((4, 48), np.float32)), f"{UP}.lora_B.weight has shape (4, 48)"),
        (replace(np.zeros(192, np.float32)), f"{UP}.lora_B.weight has shape (192,)"),
        (replace(np.zeros((48, 4), np.int8)), f"{UP}.lora_B.weight is of type I8"),
        (replace(np.full((48, 4), np.nan, np.float32)), f"{UP}.lora_B.weight holds values that are not"),
        (replace(np.full((48, 4), np.inf, np.float16)), f"{UP}.lora_B.weight holds values that are not"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused(adapter, change, words):
    adapter.change(change)
    message = adapter.refusal()
    assert words in message and WEIGHTS in message


def test_damaged_and_missing_weights_are_refused(adapter):
    path = adapter.directory / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])
    assert "cannot be read" in adapter.refusal()
    path.write_bytes(b"half")
    assert "cannot be read" in adapter.refusal()
    path.unlink()
    assert f"has no {WEIGHTS}" in adapter.refusal()
    (adapter.directory / PICKLE).write_bytes(b"pickle")
    assert f"{PICKLE} is a pickle" in adapter.refusal()


def test_directory_that_is_none_is_refused(small, tmp_path):
    with pytest.raises(UserError, match=r"nowhere has no adapter_config\.json"):
        load_adapter(tmp_path / "nowhere", small("qwen2 untied").declarations, MESH)
