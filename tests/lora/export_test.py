"""What is exported computes our logits in PEFT and in transformers, without a word of complaint."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import peft
import pytest
from safetensors.numpy import load_file

from lora_jax.lora import export as exporting
from lora_jax.lora.export import export_adapter
from lora_jax.lora.load import load_adapter
from lora_jax.lora.merging import updates
from lora_jax.lora.peft_config import CONFIG, WEIGHTS
from lora_jax.sharding import make_mesh
from tests.conftest import FAMILIES

MESH = make_mesh(devices=jax.devices()[:1])
RAGGED = [
    "q:4",
    r"re:.*\.[01]\.mlp\.up_proj:2",
    r"re:.*\.1\.mlp\.down_proj:6",
    r"re:.*\.[12]\.self_attn\.v_proj:1",
]


def peft_logits(model, directory):
    return model.their_logits(peft.PeftModel.from_pretrained(model.theirs(), directory))


def read_fields(directory):
    return json.loads((directory / CONFIG).read_text())


@pytest.mark.usefixtures("no_complaints")
@pytest.mark.parametrize(
    ("family", "targets", "rank", "layers"),
    [
        *((family, ["up"], 1, "all") for family in FAMILIES),
        *((family, ["all"], 8, "1-2") for family in FAMILIES),
        ("qwen2 untied", ["up"], 1, "1"),
        ("qwen2 tied", ["all"], 8, "all"),
    ],
)
def test_peft_and_transformers_compute_our_logits(small, tmp_path, family, targets, rank, layers):
    model = small(family)
    spec = model.spec(targets, layers, rank, alpha=16.0 if rank == 1 else 8.0)
    factors = model.draw(spec)
    export_adapter(tmp_path, spec, model.declarations, factors, str(model.directory))
    ours = model.logits(spec, factors)
    adapted = peft.PeftModel.from_pretrained(model.theirs(), tmp_path)
    np.testing.assert_allclose(ours, model.their_logits(adapted), atol=1e-4)
    assert peft.get_peft_model_state_dict(adapted).keys() == load_file(tmp_path / WEIGHTS).keys()
    theirs = model.theirs()
    theirs.load_adapter(str(tmp_path))
    np.testing.assert_allclose(ours, model.their_logits(theirs), atol=1e-4)
    assert np.abs(ours - model.base_logits).max() > 0.05, "the adapter is too small to tell"


@pytest.mark.usefixtures("no_complaints")
@pytest.mark.parametrize("rslora", [False, True])
def test_different_ranks_and_scales_are_written_in_canonical_form(small, tmp_path, rslora):
    model = small("qwen3")
    spec = model.spec(RAGGED, alpha=7.0, rslora=rslora, dropout=0.1)
    factors = model.draw(spec)
    export_adapter(tmp_path, spec, model.declarations, factors, "base", revision="abc")
    ours = model.logits(spec, factors)
    np.testing.assert_allclose(ours, peft_logits(model, tmp_path), atol=1e-4)
    assert np.abs(ours - model.base_logits).max() > 0.05
    fields = read_fields(tmp_path)
    # The commonest scale, that of q in three layers, is written as it is.
    assert fields.pop("lora_alpha") == pytest.approx(6 * 7 / (2 if rslora else 4), rel=1e-15)
    assert fields == {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "base",
        "revision": "abc",
        "r": 6,
        "lora_dropout": 0.1,
        "target_modules": ["down_proj", "up_proj", "q_proj", "v_proj"],
        "layers_to_transform": [0, 1, 2],
        "layers_pattern": "layers",
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_rslora": False,
        "use_dora": False,
        "bias": "none",
        "fan_in_fan_out": False,
        "modules_to_save": None,
        "init_lora_weights": True,
        "inference_mode": True,
    }
    q = load_file(tmp_path / WEIGHTS)[
        "base_model.model.model.layers.2.self_attn.q_proj.lora_B.weight"
    ]
    np.testing.assert_array_equal(q.T[:4], factors["self_attn.q_proj"]["b"][2])
    assert not q.T[4:].any()
    read_spec, read_factors = load_adapter(tmp_path, model.declarations, MESH)
    mine, read = updates(spec, factors), updates(read_spec, read_factors)
    for place in read_spec.placements:
        path = f"layers.{place.projection}.kernel"
        for layer in place.layers:
            expected = mine(path, layer)
            update = read(path, layer)
            np.testing.assert_allclose(update, 0 if expected is None else expected, atol=1e-6)


@pytest.mark.usefixtures("no_complaints")
def test_partners_are_of_zero_and_change_nothing(small, tmp_path):
    model = small("llama")
    spec = model.spec(["q:2", "up", "down"], "0-1", rank=4)
    factors = model.draw(spec)
    logits = []
    for partners in (False, True):
        directory = tmp_path / str(partners)
        export_adapter(directory, spec, model.declarations, factors, "base", partners=partners)
        logits.append(peft_logits(model, directory))
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-6)
    np.testing.assert_allclose(logits[0], model.logits(spec, factors), atol=1e-4)
    alone, together = (load_file(tmp_path / str(p) / WEIGHTS) for p in (False, True))
    assert {name.split(".")[-3] for name in alone} == {"q_proj", "up_proj", "down_proj"}
    added = together.keys() - alone.keys()
    assert {name.split(".")[-3] for name in added} == {"k_proj", "v_proj", "gate_proj"}
    assert len(added) == 2 * 2 * 3 and not any(together[name].any() for name in added)
    assert all(np.array_equal(together[name], alone[name]) for name in alone)


@pytest.mark.usefixtures("no_complaints")
def test_bfloat16_export_is_the_rounded_adapter(small, tmp_path):
    model = small("qwen2 tied")
    spec = model.spec(["up"])
    factors = model.draw(spec)
    rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), factors)
    export_adapter(tmp_path, spec, model.declarations, factors, "base", "bfloat16")
    jax.tree.map(
        np.testing.assert_array_equal, load_adapter(tmp_path, model.declarations, MESH)[1], rounded
    )
    ours = model.logits(spec, rounded)
    np.testing.assert_allclose(ours, peft_logits(model, tmp_path), atol=1e-4)


@pytest.mark.parametrize(
    ("rank", "alpha", "written"),
    [(1, 16.0, "16"), (7, 0.1, "0.1"), (49, 1.0, "1"), (3, 2.5, "2.5")],
)
def test_uniform_adapter_is_written_without_any_change(small, tmp_path, rank, alpha, written):
    model = small("qwen2 tied")
    spec = model.spec(["up", "o"], "0,2", rank, alpha, dropout=0.05)
    factors = model.draw(spec)
    export_adapter(tmp_path, spec, model.declarations, factors, "base")
    assert f'"lora_alpha": {written},' in (tmp_path / CONFIG).read_text()
    assert read_fields(tmp_path)["layers_to_transform"] == [0, 2]
    spec_read, factors_read = load_adapter(tmp_path, model.declarations, MESH)
    assert spec_read == spec
    jax.tree.map(np.testing.assert_array_equal, factors_read, factors)


@pytest.mark.parametrize("failing", [WEIGHTS, CONFIG])
def test_interrupted_export_is_no_adapter(small, tmp_path, monkeypatch, failing):
    model = small("qwen2 tied")
    spec = model.spec(["up"])
    export_adapter(tmp_path, spec, model.declarations, model.draw(spec, seed=1), "base")
    write = exporting.write_atomically

    def fail(path, content):
        if path.name == failing:
            raise OSError("disk full")
        write(path, content)

    monkeypatch.setattr(exporting, "write_atomically", fail)
    with pytest.raises(OSError, match="disk full"):
        export_adapter(tmp_path, spec, model.declarations, model.draw(spec, seed=2), "base")
    assert not (tmp_path / CONFIG).exists(), "old configuration, maybe with new weights"
