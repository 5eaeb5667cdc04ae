"""Refusals with a share of answered requests, so that refusing everything is not a solution."""

import numpy as np

from lora_jax.data.conversation import Conversation
from lora_jax.errors import UserError


def mix(
    refusals: list[Conversation],
    answered: list[Conversation],
    answered_share: float,
    seed: int,
) -> list[Conversation]:
    """Replace a share of the refusals by answered conversations.

    `round(answered_share * len(refusals))` places, drawn without replacement, are given to as many
    answered rows, drawn likewise; the other refusals keep their places. The length stays that of
    `refusals`, so a share changes what is learnt and not how long the training is. With one seed, a
    larger share keeps every replacement of a smaller one.

    Args:
      refusals: Conversations to refuse.
      answered: Conversations to answer; as many as are needed, or more.
      answered_share: The share of answered rows in the result, from 0 (refusals only) to 1.
      seed: Decides the places and the answered rows.

    Returns:
      `len(refusals)` conversations.

    Raises:
      UserError: The share is outside 0 to 1, or asks for more answered rows than there are.
    """
    if not 0 <= answered_share <= 1:
        raise UserError(f"the share of answered rows is {answered_share}; give one from 0 to 1")
    count = round(answered_share * len(refusals))
    if count > len(answered):
        raise UserError(
            f"a share of {answered_share} answered rows needs {count} of them and the file has "
            f"{len(answered)}; lower the share or add answered rows"
        )
    generator = np.random.default_rng(seed)
    places = generator.permutation(len(refusals))[:count]
    picks = generator.permutation(len(answered))[:count]
    mixed = list(refusals)
    for place, pick in zip(places, picks, strict=True):
        mixed[place] = answered[pick]
    return mixed
