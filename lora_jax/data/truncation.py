"""Rows that do not fit: never cut, always counted."""

import dataclasses
from collections.abc import Sequence

from lora_jax.data.chat_format import EncodedConversation
from lora_jax.errors import UserError

OVERLONG = ("error", "drop")


@dataclasses.dataclass(frozen=True)
class OverlongCounts:
    """Count the rows that were dropped, by cause.

    Attributes:
      prompt: Rows whose prompt alone leaves no room for a target.
      target: Rows whose prompt fits and whose target would have lost its end.
    """

    prompt: int
    target: int

    @property
    def total(self) -> int:
        """Add up both causes."""
        return self.prompt + self.target


def fit(
    encoded: Sequence[EncodedConversation], max_length: int, overlong: str
) -> tuple[list[EncodedConversation], OverlongCounts]:
    """Keep the rows of at most `max_length` tokens.

    A longer row would lose the end of its target, and a model that never sees the end-of-sequence
    token never learns to stop; so a row is kept whole or not at all.

    Args:
      encoded: All rows.
      max_length: The most tokens a row may have, prompt, target and special tokens together.
      overlong: "error" to refuse data with longer rows, "drop" to leave such rows out.

    Returns:
      The rows that fit, in order, and how many were dropped.

    Raises:
      UserError: A row is too long under "error", or no row fits under "drop".
    """
    if overlong not in OVERLONG:
        raise UserError(f"overlong is {overlong!r}; choose one of {', '.join(OVERLONG)}")
    kept = [row for row in encoded if len(row.tokens) <= max_length]
    dropped = [row for row in encoded if len(row.tokens) > max_length]
    if dropped and overlong == "error":
        longest = max(len(row.tokens) for row in dropped)
        raise UserError(
            f"{dropped[0].origin} has {len(dropped[0].tokens)} tokens and would lose its end at "
            f"max_length {max_length}, as would {len(dropped)} of {len(encoded)} rows; set "
            f"max_length to {longest} or overlong to 'drop'"
        )
    if not kept:
        raise UserError(f"no row has at most max_length {max_length} tokens; set a larger one")
    prompt = sum(row.prompt_length >= max_length for row in dropped)
    return kept, OverlongCounts(prompt, len(dropped) - prompt)
