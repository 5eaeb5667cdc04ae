"""What the data amounts to, in numbers a reader can check before training starts."""

import dataclasses
from collections.abc import Sequence

from lora_jax.data.chat_format import EncodedConversation
from lora_jax.data.mixture import Mixture
from lora_jax.data.overlap import normal_form
from lora_jax.data.truncation import OverlongCounts


@dataclasses.dataclass(frozen=True)
class DataSummary:
    """Hold the counts of a training set.

    Attributes:
      rows: Rows that are trained on.
      rows_by_source: Rows that each source gave, those that turned out too long included.
      supervised_tokens: Tokens of the rows trained on that the loss sees in one epoch.
      total_tokens: All tokens of those rows.
      longest_row: Tokens of the longest of them.
      overlong: Rows that were too long.
      duplicate_prompts: Rows given whose prompt, with the turns before it, an earlier row has already
        had, letter case and white space apart.
      duplicate_rows: Rows given that equal an earlier one to the letter, prompt and target.
    """

    rows: int
    rows_by_source: dict[str, int]
    supervised_tokens: int
    total_tokens: int
    longest_row: int
    overlong: OverlongCounts
    duplicate_prompts: int
    duplicate_rows: int

    @property
    def supervised_share(self) -> float:
        """Return the share of tokens that the loss sees, from 0 to 1."""
        return self.supervised_tokens / self.total_tokens


def summarise(
    mixture: Mixture, kept: Sequence[EncodedConversation], overlong: OverlongCounts
) -> DataSummary:
    """Count rows and tokens.

    Args:
      mixture: All rows.
      kept: The rows that `fit` kept, at least one.
      overlong: Those that were too long.

    Returns:
      The counts.
    """
    rows = mixture.rows
    prompts = {(row.context, normal_form(row.prompt)) for row in rows}
    texts = {(row.context, row.prompt, row.thinking, row.answer) for row in rows}
    return DataSummary(
        rows=len(kept),
        rows_by_source=mixture.counts,
        supervised_tokens=sum(row.supervised_tokens for row in kept),
        total_tokens=sum(len(row.tokens) for row in kept),
        longest_row=max(len(row.tokens) for row in kept),
        overlong=overlong,
        duplicate_prompts=len(rows) - len(prompts),
        duplicate_rows=len(rows) - len(texts),
    )
