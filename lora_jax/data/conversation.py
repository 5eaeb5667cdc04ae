"""What is said in a training row, before any tokeniser has seen it."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Turn:
    """Hold one turn of a conversation.

    Attributes:
      role: "system", "user" or "assistant".
      content: What is said, exactly as written.
    """

    role: str
    content: str


@dataclasses.dataclass(frozen=True)
class Conversation:
    """Hold a prompt and the answer that a model is to learn for it.

    Attributes:
      prompt: The last user turn, exactly as written.
      thinking: The reasoning before the answer, without its tags; "" is an empty think block, None is
        no block at all.
      answer: What follows the reasoning.
      origin: Where the row came from, for messages: "refusals.jsonl row 7".
      context: The turns before the prompt.
    """

    prompt: str
    thinking: str | None
    answer: str
    origin: str
    context: tuple[Turn, ...] = ()
