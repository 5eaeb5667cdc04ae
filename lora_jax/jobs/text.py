"""The training text of a run: read, mixed, put into the model's format, tokenised and counted."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import ml_collections
from transformers import PreTrainedTokenizerBase

from lora_jax import data
from lora_jax.errors import UserError
from lora_jax.evaluation import KINDS, EvaluationSet, load_set
from lora_jax.organism import PREFIX, resolve


@dataclasses.dataclass(frozen=True)
class TrainingText:
    """Hold the rows of a run in every form they take.

    Attributes:
        format: How conversations become tokens.
        mixture: The rows, as conversations, and how many came from each source.
        encoded: The same as tokens, one for one.
        kept: Those that fit.
        summary: Counts.
        batches: What the step is given.
    """

    format: data.ChatFormat
    mixture: data.Mixture
    encoded: list[data.EncodedConversation]
    kept: list[data.EncodedConversation]
    summary: data.DataSummary
    batches: data.TrainingBatches

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the model's tokenizer."""
        return self.format.tokenizer

    def facts(self) -> dict[str, str]:
        """Say what the rows amount to, by name."""
        summary, overlong = self.summary, self.summary.overlong
        sources = (f"{count:,} of {name}" for name, count in summary.rows_by_source.items())
        return {
            "data": f"{summary.rows:,} rows, {summary.supervised_tokens:,} supervised of "
            f"{summary.total_tokens:,} tokens ({summary.supervised_share:.0%}), longest row "
            f"{summary.longest_row} tokens",
            "sources": ", ".join(sources),
            "too long": f"{overlong.prompt_too_long} rows by their prompt and "
            f"{overlong.target_too_long} by their target left out, {overlong.truncated} cut",
            "duplicates": f"{summary.duplicate_prompts} prompts and {summary.duplicate_rows} whole "
            "rows occur again",
        }


def read_text(
    config: ml_collections.ConfigDict, directory: pathlib.Path, sets: Sequence[EvaluationSet]
) -> TrainingText:
    """Read and encode the training rows.

    Args:
        config: The run's config.
        directory: Of the base model, for its tokenizer.
        sets: What the run is evaluated on, to be kept apart from its training.

    Raises:
        UserError: A file, a row or the tokenizer is broken, a row does not fit, or a prompt is both
            trained on and evaluated on.
    """
    section = config.data
    chat_format = data.ChatFormat(
        data.load_tokenizer(directory),
        style=section.format,
        enable_thinking=section.enable_thinking,
        date=section.template_date,
        supervise=section.supervise,
    )
    mixture = _mixture(section)
    if not section.allow_overlap:
        prompts = {one.name: [prompt.prompt for prompt in one.prompts] for one in sets}
        data.refuse_overlap(mixture.rows, prompts)
    encoded = [chat_format.encode(row) for row in mixture.rows]
    kept, overlong = data.fit(encoded, section.max_length, section.overlong)
    batches = data.training_batches(
        kept,
        batch_size=section.batch_size,
        max_length=section.max_length,
        epochs=section.epochs,
        seed=section.seed,
        packing=section.packing,
    )
    summary = data.summarise(mixture, kept, overlong)
    return TrainingText(chat_format, mixture, encoded, kept, summary, batches)


def load_sets(config: ml_collections.ConfigDict, split: str = "sets") -> list[EvaluationSet]:
    """Read the evaluation sets of a split, "sets" (test) or "validation".

    Raises:
        UserError: A set cannot be read, or all are left out.
    """
    named = {name: text for name, text in config.evaluation[split].items() if text}
    if not named:
        raise UserError(f"config.evaluation.{split} names no set; give at least one.")
    return [
        load_set(
            resolve(text) if text.startswith(PREFIX) else text,
            kind=name if name in KINDS else None,
            name=name,
            max_prompts=config.evaluation.max_prompts,
        )
        for name, text in named.items()
    ]


def _mixture(section: ml_collections.ConfigDict) -> data.Mixture:
    rows, take = {}, {}
    for name, fields in section.sources.items():
        take[name] = fields["take"]
        if take[name] != "0":
            fields = {field: value for field, value in fields.items() if field != "take"}
            fields["path"] = str(resolve(fields["path"]))
            rows[name] = data.read_source(data.Source(**fields))
    return data.mix(rows, take, section.seed)
