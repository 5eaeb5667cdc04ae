"""Rows that do not fit: refused, left out or cut as asked, and always counted."""

import dataclasses
from collections.abc import Sequence

from lora_jax.data.chat_format import EncodedConversation
from lora_jax.errors import UserError

OVERLONG = ("error", "drop", "truncate")


@dataclasses.dataclass(frozen=True)
class OverlongCounts:
    """Count the rows that were too long, by what became of them.

    Attributes:
      prompt_too_long: Left out, because the prompt alone leaves no room for a target.
      target_too_long: Left out, because the target would have lost its end.
      truncated: Kept without the end of the target, the end of the turn included.
    """

    prompt_too_long: int = 0
    target_too_long: int = 0
    truncated: int = 0

    @property
    def dropped(self) -> int:
        """Return how many rows were left out."""
        return self.prompt_too_long + self.target_too_long


def fit(
    encoded: Sequence[EncodedConversation], max_length: int, overlong: str
) -> tuple[list[EncodedConversation], OverlongCounts]:
    """Make all rows at most `max_length` tokens long.

    A model that never sees the end of a turn never learns to stop, so rows are cut only if that is
    asked for by name.

    Args:
      encoded: All rows.
      max_length: The most tokens a row may have, prompt, target and special tokens together.
      overlong: "error" to refuse data with longer rows, "drop" to leave such rows out, "truncate" to
        cut their targets; a row whose prompt alone does not fit is then left out.

    Returns:
      The rows that fit, in order, and how many did not.

    Raises:
      UserError: A row is too long under "error", or no row is left.
    """
    if overlong not in OVERLONG:
        raise UserError(f"overlong is {overlong!r}; choose one of {', '.join(OVERLONG)}")
    longer = [row for row in encoded if len(row.tokens) > max_length]
    if longer and overlong == "error":
        longest = max(len(row.tokens) for row in longer)
        raise UserError(
            f"{longer[0].origin} has {len(longer[0].tokens)} tokens and would lose its end at "
            f"max_length {max_length}, as would {len(longer)} of {len(encoded)} rows; set "
            f"max_length to {longest}, or overlong to 'drop' or 'truncate'"
        )
    hopeless = sum(row.prompt_length >= max_length for row in longer)
    rest = len(longer) - hopeless
    if overlong == "truncate":
        counts = OverlongCounts(prompt_too_long=hopeless, truncated=rest)
        kept = [_cut(row, max_length) for row in encoded if row.prompt_length < max_length]
    else:
        counts = OverlongCounts(prompt_too_long=hopeless, target_too_long=rest)
        kept = [row for row in encoded if len(row.tokens) <= max_length]
    if not kept:
        raise UserError(
            f"no row fits into max_length {max_length} ({hopeless} have too long a prompt, "
            f"{rest} too long a target); set a larger one"
        )
    return kept, counts


def _cut(row: EncodedConversation, max_length: int) -> EncodedConversation:
    if len(row.tokens) <= max_length:
        return row
    return dataclasses.replace(
        row, tokens=row.tokens[:max_length], supervised=row.supervised[:max_length]
    )
