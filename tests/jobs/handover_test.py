"""Export, merge and evaluate: on runs that ended or were interrupted, and on adapters from elsewhere."""

import contextlib
import io
import json

import numpy as np
import peft
import pytest
import torch
import transformers

import main

TOKENS = np.random.default_rng(0).integers(0, 1024, (2, 24))


def run(site, job: str, **fields: object) -> str:
    """Run a job in this process; return what it said."""
    extra = [f"--config.{name.replace('__', '.')}={value}" for name, value in fields.items()]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main.main([*site.arguments, f"--job={job}", *extra])
    assert code == 0
    return out.getvalue()


@pytest.fixture(scope="module")
def trained(make_site):
    """A run whose adapter was trained for a few steps, and which then was lost but for checkpoints."""
    site = make_site()
    site.fields |= {"lora.targets": "up:2,q:1", "train.max_steps": 4, "train.learning_rate": 0.05}
    run(site, "align")
    return site


def logits(directory, adapter=None) -> np.ndarray:
    """Return the logits of transformers, with PEFT where there is an adapter."""
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    if adapter is not None:
        model = peft.PeftModel.from_pretrained(model, adapter)
    with torch.no_grad():
        return model.eval()(torch.tensor(TOKENS)).logits.numpy()


def test_merged_model_is_base_and_adapter(trained):
    said = run(trained, "merge", export__model_dtype="float32")
    assert "step 4" in said
    merged = trained.workdir / "merged"
    expected = logits(trained.model, trained.workdir / "adapter")
    np.testing.assert_allclose(logits(merged), expected, atol=1e-4)
    assert np.abs(expected - logits(trained.model)).max() > 0.05, "the adapter does nothing"
    assert (merged / "README.md").read_text().startswith("---\npipeline_tag")
    before = (trained.model / "tokenizer.json").read_bytes()
    assert (merged / "tokenizer.json").read_bytes() == before


def test_export_of_an_interrupted_run_is_its_latest_checkpoint(trained):
    adapter = trained.workdir / "adapter"
    first = {path.name: path.read_bytes() for path in adapter.iterdir()}
    for path in [*adapter.iterdir(), trained.workdir / "report.md"]:
        path.unlink()
    assert "step 4" in run(trained, "export")
    assert {path.name: path.read_bytes() for path in adapter.iterdir()} == first


def test_export_without_a_recipe_takes_the_run_s_own(trained):
    arguments = [f"--workdir={trained.workdir}", "--job=export"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert main.main([*arguments, "--config.export.partners=true"]) == 0
        fields = json.loads((trained.workdir / "adapter" / "adapter_config.json").read_text())
        assert main.main([*arguments, "--config.export.partners=false"]) == 0
    assert set(fields["target_modules"]) == {
        "q_proj", "k_proj", "v_proj", "gate_proj", "up_proj",
    }  # fmt: skip


def test_evaluation_of_a_checkpoint_is_that_of_the_run(trained):
    said = run(trained, "evaluate")
    directory = trained.workdir / "evaluation"
    assert f"Report: {directory / 'step-4' / 'report.md'}" in said
    after, again = (
        (directory / stage / "generations.jsonl").read_bytes() for stage in ("after", "step-4")
    )
    assert after == again


def test_foreign_adapter_is_exported_evaluated_merged_and_trained_further(trained, make_site):
    """It was trained by PEFT as far as we can tell: with patterns, a regex and rank-stabilised."""
    torch.manual_seed(0)
    base = transformers.AutoModelForCausalLM.from_pretrained(trained.model, dtype=torch.float32)
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        use_rslora=True,
        target_modules=r".*\.(gate_proj|up_proj|v_proj)",
        rank_pattern={"v_proj": 2},
        alpha_pattern={"layers.1.mlp.up_proj": 3},
        init_lora_weights=False,
    )
    site = make_site()
    foreign = site.root / "foreign"
    peft.get_peft_model(base, config).save_pretrained(foreign)
    site.fields |= {"lora.adapter": foreign, "train.max_steps": 2}
    expected = logits(site.model, foreign)

    run(site, "export")
    np.testing.assert_allclose(logits(site.model, site.workdir / "adapter"), expected, atol=1e-4)
    run(site, "merge", export__model_dtype="float32")
    np.testing.assert_allclose(logits(site.workdir / "merged"), expected, atol=1e-4)
    run(site, "evaluate")
    run(site, "align")
    further = logits(site.model, site.workdir / "adapter")
    assert 1e-3 < np.abs(further - expected).max() < np.abs(expected - logits(site.model)).max()
    # What was trained in this run comes before the adapter that it started from.
    assert "step 2" in run(site, "export")
    np.testing.assert_array_equal(logits(site.model, site.workdir / "adapter"), further)


def test_whole_model_is_exported_from_its_checkpoint(make_site):
    site = make_site()
    site.fields |= {"train.mode": "full", "train.max_steps": 2, "export.model_dtype": "float32"}
    run(site, "align")
    before = logits(site.workdir / "model")
    (site.workdir / "model" / "model.safetensors").unlink()
    assert "step 2" in run(site, "export")
    np.testing.assert_array_equal(logits(site.workdir / "model"), before)
