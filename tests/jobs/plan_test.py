"""Plan: the step compiled without weights or data, told in a table, and the workdir left free."""

import contextlib
import io
import json
import re
import shutil

import pytest

import main
from lora_jax.jobs import plan
from lora_jax.planning import compiling
from lora_jax.planning.batch_search import PRECISION
from lora_jax.planning.chips import Chip

SMALL = Chip(4 * 2**20, None)


@pytest.fixture
def planned(site, monkeypatch):
    """A site without weights and data, on a chip with room for a few sequences."""
    (site.model / "model.safetensors").unlink()
    shutil.rmtree(site.root / "data")
    site.fields |= {"data.max_length": 32, "data.batch_size": 4}
    monkeypatch.setattr(compiling, "find_chip", lambda device: SMALL)
    return site


def run(site, *extra: str, code: int = 0) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main.main([*site.arguments, "--job=plan", *extra]) == code
    return " ".join(out.getvalue().replace("│", " ").split())


def test_it_tells_what_the_step_needs_without_weights_and_data(planned):
    said = run(planned)
    shape = json.loads((planned.model / "config.json").read_text())
    assert f"qwen2, {shape['num_hidden_layers']} layers" in said
    assert f"LoRA rank 2 on up_proj: {2 * 2 * (16 + 24)} parameters" in said
    assert "4 x 32 tokens" in said and "of 4.00 MiB: fits" in said
    assert "times the least" in said and "collectives none" in said
    written = (planned.workdir / "plan" / "plan.md").read_text()
    assert "| weights |" in written and "| largest batch |" in written
    largest = int(written.partition("| largest batch | ")[2].partition(",")[0])
    assert largest >= 4
    assert f"batch {largest} fits" in said
    refused = [int(word) for word in re.findall(r"batch (\d+) does not fit", said)]
    assert largest < min(refused) <= largest + max(1, largest * PRECISION)


def test_the_config_may_change_after_it(planned, monkeypatch):
    monkeypatch.setattr(plan, "largest_batch", lambda *_, **__: None)
    assert "sequences none fits" in run(planned)
    assert "2 x 32 tokens" in run(planned, "--config.data.batch_size=2")


def test_a_batch_that_does_not_fit_is_refused_with_what_would(planned, capsys):
    said = run(planned, "--config.data.batch_size=256", code=2)
    assert "of 4.00 MiB: does not fit" in said
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    largest = said.partition("sequences ")[2].partition(",")[0]
    for way in (f"batch_size={largest}", "train.remat=full", "bfloat16", "chips"):
        assert way in error


def test_a_model_that_does_not_fit_is_refused_before_anything_is_compiled(
    planned, capsys, monkeypatch
):
    monkeypatch.setattr(compiling, "find_chip", lambda device: Chip(10_000, None))
    monkeypatch.setattr(plan, "_compile", None)
    run(planned, code=2)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "weights and optimizer need" in error
    assert "batch_size" not in error


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--config.mesh.fsdp=3", "does not fill the 1 devices"),
        ("--config.data.max_length=1", "config.data.max_length is 1"),
    ],
)
def test_bad_input_is_one_sentence(planned, capsys, argument, expected):
    run(planned, argument, code=2)
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1
