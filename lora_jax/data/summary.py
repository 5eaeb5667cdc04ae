"""What the data amounts to, in numbers a reader can check before training starts."""

import dataclasses
from collections.abc import Sequence

from lora_jax.data.chat_format import EncodedConversation
from lora_jax.data.conversation import Conversation
from lora_jax.data.truncation import OverlongCounts


@dataclasses.dataclass(frozen=True)
class DataSummary:
    """Hold the counts of a training set.

    Attributes:
      rows: Rows that are trained on.
      supervised_tokens: Tokens of those rows that the loss sees in one epoch.
      total_tokens: All tokens of those rows.
      longest_row: Tokens of the longest of them.
      dropped_rows: Rows left out because they are too long.
      duplicate_prompts: Rows read whose prompt an earlier row has already had.
    """

    rows: int
    supervised_tokens: int
    total_tokens: int
    longest_row: int
    dropped_rows: int
    duplicate_prompts: int


def summarise(
    conversations: Sequence[Conversation],
    kept: Sequence[EncodedConversation],
    overlong: OverlongCounts,
) -> DataSummary:
    """Count rows and tokens.

    Args:
      conversations: All rows that were read.
      kept: The rows `fit` kept, at least one.
      overlong: The rows it dropped.

    Returns:
      The counts.
    """
    return DataSummary(
        rows=len(kept),
        # The first token of a row has nothing before it to be predicted from.
        supervised_tokens=sum(int(row.supervised[1:].sum()) for row in kept),
        total_tokens=sum(len(row.tokens) for row in kept),
        longest_row=max(len(row.tokens) for row in kept),
        dropped_rows=overlong.total,
        duplicate_prompts=len(conversations) - len({row.prompt for row in conversations}),
    )
