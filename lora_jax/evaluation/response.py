"""Generated text, split into the think block and the answer."""

import dataclasses

_OPEN, _CLOSE = "<think>", "</think>"


@dataclasses.dataclass(frozen=True)
class Generation:
    """Hold what a model generated for one prompt.

    Attributes:
        text: the generated text, without the prompt and without the end-of-text token.
        finish_reason: "stop" if the model ended its turn, "length" if it was cut off.
        tokens: number of generated tokens.
    """

    text: str
    finish_reason: str
    tokens: int


@dataclasses.dataclass(frozen=True)
class Response:
    """Hold the two parts of a reasoning model's text.

    Attributes:
        thinking: text of the think block, complete or not.
        answer: text after the think block; None if the block was never closed.
        closed: whether the think block was closed.
        truncated: whether the text was cut off by the length limit.
    """

    thinking: str
    answer: str | None
    closed: bool
    truncated: bool

    @property
    def complete(self) -> bool:
        """Return whether there is an answer that the model itself ended."""
        return self.closed and not self.truncated


def split(generation: Generation) -> Response:
    """Split a generation into its think block and its answer.

    The think block is taken to be open already, since a reasoning model's generation prefix ends
    with the opening tag; a model that writes the tag itself is read alike. The first closing tag
    ends the block: whatever a model writes after it, further tags included, is what a user is shown.

    Args:
        generation: what the model generated.

    Returns:
        The parts, stripped of surrounding white space.
    """
    thinking, tag, answer = generation.text.partition(_CLOSE)
    closed = bool(tag)
    return Response(
        thinking=thinking.strip().removeprefix(_OPEN).strip(),
        answer=answer.strip() if closed else None,
        closed=closed,
        truncated=generation.finish_reason == "length",
    )
