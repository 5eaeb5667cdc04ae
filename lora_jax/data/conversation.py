"""One turn of a user and the whole answer to it, before any tokeniser has seen it."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Conversation:
    """Hold a prompt and the answer a model is to learn for it.

    Attributes:
      prompt: The user's turn, exactly as written.
      thinking: The reasoning that comes before the answer, without its tags; None for no reasoning.
      answer: What follows the reasoning.
      origin: Where the row came from, for messages: "refusals.jsonl row 7".
    """

    prompt: str
    thinking: str | None
    answer: str
    origin: str
