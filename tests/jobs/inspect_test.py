"""Inspect: the data as the model will see it, without weights, and without claiming the workdir."""

import contextlib
import io
import json

import main
from lora_jax.data import load_tokenizer


def run(site, *extra: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main.main([*site.arguments, "--job=inspect", *extra]) == 0
    return out.getvalue()


def test_it_shows_rows_ids_and_counts_without_weights(site):
    (site.model / "model.safetensors").unlink()
    site.fields["inspect.rows"] = 2
    said = run(site)
    text = (site.workdir / "inspection" / "inspection.md").read_text()
    rows = [json.loads(line) for line in site.data("refusals").read_text().splitlines()]
    shown = [row for row in rows if row["prompt"] in text]
    assert len(shown) == 2
    tokenizer = load_tokenizer(site.model)
    for row in shown:
        answer = row["refusal"].split("Answer: ")[1]
        assert f"{answer}<|end|>⟧" in text
        ids = tokenizer.encode(row["prompt"], add_special_tokens=False)
        assert " ".join(map(str, ids)) in text
    assert text.count("prompt in sampling: the row starts with it") == 2
    assert "9 of refusals, 3 of answered" in " ".join(said.split())
    assert (site.workdir / "inspection" / "lengths.png").stat().st_size > 10_000


def test_the_config_may_change_after_it(site):
    run(site)
    assert "7 of refusals" in " ".join(run(site, "--config.data.sources.refusals.take=7").split())


def test_rows_that_do_not_fit_are_counted_by_cause(site):
    lengths = {"data.max_length": 45, "data.overlong": "drop"}
    site.fields |= lengths
    said = " ".join(run(site).replace("│", " ").split())
    dropped = said.partition("by their target left out")[0].split()[-1]
    assert int(dropped) > 0
