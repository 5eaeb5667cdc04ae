"""Show the training data exactly as the model will see it; no weights are needed."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import ml_collections
from rich.console import Console
from rich.text import Text

from lora_jax import data
from lora_jax.console import print_facts
from lora_jax.data.length_histogram import length_histogram
from lora_jax.evaluation.markdown import table
from lora_jax.jobs.base import locate
from lora_jax.jobs.text import load_sets, read_text
from lora_jax.workdir import INSPECTION, write_atomically


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Print rows, counts and warnings, and write them with a histogram to `inspection`.

    Args:
        config: The run's config, validated.
        workdir: A directory of this run's own; its config may still change afterwards.
    """
    text = read_text(config, locate(config, weights=False), load_sets(config))
    inspection = data.inspect(
        text.mixture.rows,
        text.encoded,
        text.kept,
        text.format,
        first=config.inspect.rows,
        batch_size=config.data.batch_size,
        max_length=config.data.max_length,
        seed=config.data.seed,
    )
    directory = workdir / INSPECTION
    directory.mkdir(exist_ok=True)
    length_histogram(
        inspection.prompt_lengths,
        inspection.row_lengths,
        config.data.max_length,
        directory / "lengths.png",
    )
    facts = text.facts() | _facts(inspection)
    write_atomically(directory / "inspection.md", _markdown(inspection, facts))

    console = Console()
    for row in inspection.rows:
        console.print(*_sections(row), sep="\n")
    print_facts("Data", facts, console)
    print(f"Inspection: {directory / 'inspection.md'}")


def _facts(inspection: data.Inspection) -> dict[str, str]:
    return {
        "padded": f"{inspection.padded_efficiency:.0%} of a batch's places hold tokens",
        "packed": f"{inspection.packed_efficiency:.0%} would, with data.packing",
    }


def _sections(row: data.InspectedRow) -> list[Text]:
    """Return a row's text, its ids and its prompt, each under a line that says what it is."""
    agreement = "the row starts with it" if row.prompt_agrees else "THE ROW STARTS DIFFERENTLY"
    supervised = sum(len(piece.tokens) for piece in row.pieces if piece.supervised)
    return [
        Text(f"{row.origin}: {row.length} tokens, {supervised} supervised, in ⟦ ⟧", "bold"),
        data.render_row(row),
        Text("ids", "bold"),
        data.render_tokens(row),
        Text(f"prompt in sampling: {agreement}", "bold"),
        Text(" ".join(map(str, row.sampling_prompt)) + "\n"),
    ]


def _markdown(inspection: data.Inspection, facts: Mapping[str, str]) -> str:
    parts = [
        "# The training data as the model will see it\n",
        table(("", ""), facts.items()),
        "![Length of the training rows](lengths.png)\n",
    ]
    for row in inspection.rows:
        title, *rest = _sections(row)
        parts.append(f"## {title.plain}\n")
        body = "\n".join(section.plain for section in rest)
        parts.append("".join(f"    {line}\n" for line in body.splitlines()))
    return "\n".join(parts)
