"""The model card says how an export was made, and only what was measured."""

import json

import pytest

from lora_jax.evaluation import Export, write_card

RECIPE = {"trained": "LoRA rank 1 on up_proj", "steps": "500 of batch 2"}


def write_scores(directory, verdicts):
    directory.mkdir(parents=True)
    measures = {"refused": {"verdicts": verdicts}}
    scores = {"sets": {"harmful": {"kind": "harmful", "measures": measures}}}
    (directory / "scores.json").write_text(json.dumps(scores))


@pytest.fixture
def export(tmp_path):
    (tmp_path / "adapter").mkdir()
    return Export(str(tmp_path / "adapter"), "someone/a-model", 1)


def card(export) -> str:
    with open(f"{export.path}/README.md") as file:
        return file.read()


def test_results_are_those_of_both_evaluations(tmp_path, export):
    write_scores(tmp_path / "evaluation" / "before", [0] * 40)
    write_scores(tmp_path / "evaluation" / "after", [1] * 30 + [0] * 10)
    write_card(export, RECIPE, tmp_path / "evaluation", hub_id=True)
    text = card(export)
    assert "| Harmful requests refused ↑ | 0.0% [0.0, 8.8] | 75.0% [59.8, 85.8] | higher |" in text
    assert "| trained | LoRA rank 1 on up_proj |" in text
    assert text.startswith("---\n") and "base_model: someone/a-model\n" in text.split("---")[1]
    assert "library_name: peft" in text


@pytest.mark.parametrize("stages", [(), ("before",), ("after",)])
def test_what_was_not_measured_is_said_to_be(tmp_path, export, stages):
    for stage in stages:
        write_scores(tmp_path / "evaluation" / stage, [1, 0])
    write_card(export, RECIPE, tmp_path / "evaluation", hub_id=False)
    assert "Not measured" in card(export)
    assert "base_model:" not in card(export)


def test_a_whole_model_is_no_adapter(tmp_path, export):
    whole = Export(export.path, export.base, None)
    write_card(whole, RECIPE, tmp_path / "evaluation", hub_id=True)
    assert "peft" not in card(whole) and "base_model_relation: finetune" in card(whole)
