"""Prompts that are both trained on and evaluated on."""

import dataclasses
from collections.abc import Mapping, Sequence

from lora_jax.data.conversation import Conversation
from lora_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Name a training row whose prompt an evaluation set has too.

    Attributes:
      origin: Where the training row came from.
      set_name: The evaluation set.
      prompt: The prompt, as the evaluation set has it.
    """

    origin: str
    set_name: str
    prompt: str


def normal_form(prompt: str) -> str:
    """Return a prompt without letter case and with single spaces, for comparison."""
    return " ".join(prompt.casefold().split())


def find_overlap(
    conversations: Sequence[Conversation], evaluation: Mapping[str, Sequence[str]]
) -> list[Overlap]:
    """Find the training rows whose prompt is evaluated on.

    Args:
      conversations: Training rows.
      evaluation: Prompts by the name of the set.

    Returns:
      One overlap for each row and set, in the order of the rows.
    """
    sets = {
        name: {normal_form(prompt): prompt for prompt in prompts}
        for name, prompts in evaluation.items()
    }
    return [
        Overlap(row.origin, name, prompts[normal])
        for row in conversations
        for normal in [normal_form(row.prompt)]
        for name, prompts in sets.items()
        if normal in prompts
    ]


def refuse_overlap(
    conversations: Sequence[Conversation], evaluation: Mapping[str, Sequence[str]]
) -> None:
    """Refuse training rows whose prompt is evaluated on.

    Args:
      conversations: Training rows.
      evaluation: Prompts by the name of the set.

    Raises:
      UserError: There is such a row.
    """
    found = find_overlap(conversations, evaluation)
    if found:
        rows, first = len({one.origin for one in found}), found[0]
        raise UserError(
            f"{rows} of {len(conversations)} training rows have a prompt that is also evaluated on, "
            f"the first {first.origin} in set {first.set_name!r} ({_short(first.prompt)!r}); remove "
            "them, or set config.data.allow_overlap to True"
        )


def _short(text: str, length: int = 60) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
