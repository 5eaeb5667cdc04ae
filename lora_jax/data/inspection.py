"""What the model will see: rows token by token, and how the data set fills its batches.

Nothing here needs weights.
"""

import dataclasses
import unicodedata
from collections.abc import Callable, Iterator, Sequence

from rich.text import Text

from lora_jax.data.batches import training_batches
from lora_jax.data.chat_format import ChatFormat, EncodedConversation
from lora_jax.data.conversation import Conversation

# Around the supervised parts, so that they can be told in plain text too.
OPEN, CLOSE = "⟦", "⟧"
_SUPERVISED_STYLE, _INVISIBLE_STYLE = "bold green", "dim"

# U+2400 and the following picture the control characters from U+0000.
_PICTURES = 0x2400


@dataclasses.dataclass(frozen=True)
class Piece:
    """Hold the smallest run of tokens that is text by itself.

    Attributes:
      tokens: Their ids: one, or several that share a character's bytes.
      text: What they decode to.
      supervised: Whether the model learns to produce them.
    """

    tokens: tuple[int, ...]
    text: str
    supervised: bool


@dataclasses.dataclass(frozen=True)
class InspectedRow:
    """Hold a row as training and sampling see it.

    Attributes:
      origin: Where the row came from.
      pieces: All its tokens; their texts joined are its exact text.
      sampling_prompt: The token ids from which the model would be sampled for the row's prompt.
      prompt_agrees: Whether the row starts with just these, up to its target.
    """

    origin: str
    pieces: tuple[Piece, ...]
    sampling_prompt: tuple[int, ...]
    prompt_agrees: bool

    @property
    def length(self) -> int:
        """Return the number of tokens."""
        return sum(len(piece.tokens) for piece in self.pieces)


@dataclasses.dataclass(frozen=True)
class Inspection:
    """Hold the first rows of a data set, and numbers on all of it.

    Attributes:
      rows: The first rows, whole.
      prompt_lengths: Tokens of every row's prompt, before any row is left out or cut.
      row_lengths: Tokens of every row, likewise.
      supervised_share: Share of the tokens trained on that the loss sees, from 0 to 1.
      padded_efficiency: Share of a batch's places that hold tokens, padded to the longest row.
      packed_efficiency: The same, rows packed into lines of `max_length`.
    """

    rows: tuple[InspectedRow, ...]
    prompt_lengths: tuple[int, ...]
    row_lengths: tuple[int, ...]
    supervised_share: float
    padded_efficiency: float
    packed_efficiency: float


def inspect(
    conversations: Sequence[Conversation],
    encoded: Sequence[EncodedConversation],
    kept: Sequence[EncodedConversation],
    chat_format: ChatFormat,
    *,
    first: int,
    batch_size: int,
    max_length: int,
    seed: int = 0,
) -> Inspection:
    """Look at a data set.

    Args:
      conversations: All rows.
      encoded: The same as tokens, one for one.
      kept: Those that `fit` kept, at least one.
      chat_format: What encoded them.
      first: How many rows to show.
      batch_size: Lines in a batch.
      max_length: Tokens in a packed line.
      seed: Decides the order of the rows, on which packing depends.

    Returns:
      Rows and numbers.
    """
    shown = zip(conversations[:first], encoded[:first], strict=True)
    options = {"max_length": max_length, "epochs": 1, "seed": seed}
    return Inspection(
        rows=tuple(inspect_row(conversation, row, chat_format) for conversation, row in shown),
        prompt_lengths=tuple(row.prompt_length for row in encoded),
        row_lengths=tuple(len(row.tokens) for row in encoded),
        supervised_share=sum(row.supervised_tokens for row in kept)
        / sum(len(row.tokens) for row in kept),
        # Padded lines are all of one length, so the batch size is of no account; one leaves no row out.
        padded_efficiency=_efficiency(kept, batch_size=1, packing=False, **options),
        packed_efficiency=_efficiency(kept, batch_size=batch_size, packing=True, **options),
    )


def inspect_row(
    conversation: Conversation, row: EncodedConversation, chat_format: ChatFormat
) -> InspectedRow:
    """Take a row apart.

    Args:
      conversation: The row.
      row: The same as tokens.
      chat_format: What encoded it.

    Returns:
      The row token by token, and how sampling would start.
    """
    prompt = chat_format.encode_prompt(conversation.prompt, conversation.context)
    border = row.prompt_length
    return InspectedRow(
        origin=row.origin,
        pieces=tuple(
            Piece(tuple(row.tokens[start:end].tolist()), text, bool(row.supervised[start]))
            for start, end, text in _runs(row.tokens.tolist(), border, chat_format)
        ),
        sampling_prompt=tuple(prompt),
        prompt_agrees=row.tokens[:border].tolist() == prompt,
    )


def _runs(
    tokens: Sequence[int], border: int, chat_format: ChatFormat
) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and text of the smallest runs of tokens that are text by themselves.

    A token may hold only some of a character's bytes; it is joined with those that hold the others.
    """
    # What a token decodes to may depend on the one before it (some tokenisers drop a space at the
    # start of a text), so a run is decoded together with the run before it.
    before, start = 0, 0
    for end in range(1, len(tokens) + 1):
        known = chat_format.decode(tokens[before:start])
        text = chat_format.decode(tokens[before:end])
        if text.endswith("\ufffd") and end not in (border, len(tokens)):
            continue
        yield start, end, text[len(known) :]
        before, start = start, end


def render_row(row: InspectedRow) -> Text:
    """Render a row's text with the supervised part marked.

    The marks are `⟦` and `⟧`, and a colour where there is one. Control and other invisible characters
    are shown: pictured (␊ before the line break itself, ␉), or as ⟨U+200B⟩, as are all characters that
    could be taken for these marks.

    Args:
      row: The row.

    Returns:
      Text for a rich console; `plain` is the same without colour.
    """
    return _marked(row, lambda piece: piece.text)


def render_tokens(row: InspectedRow) -> Text:
    """Render a row's token ids with the supervised part marked, as `render_row` does its text.

    Args:
      row: The row.

    Returns:
      Ids with spaces between them; those that share a character are joined by `+`.
    """
    return _marked(row, lambda piece: "+".join(map(str, piece.tokens)), separator=" ")


def _marked(row: InspectedRow, content: Callable[[Piece], str], separator: str = "") -> Text:
    rendered, inside = Text(), False
    for place, piece in enumerate(row.pieces):
        if inside and not piece.supervised:
            rendered.append(CLOSE, _SUPERVISED_STYLE)
        if place:
            rendered.append(separator)
        if piece.supervised and not inside:
            rendered.append(OPEN, _SUPERVISED_STYLE)
        inside = piece.supervised
        style = _SUPERVISED_STYLE if inside else ""
        for character in content(piece):
            shown = _visible(character)
            rendered.append(shown, style if shown == character else f"{style} {_INVISIBLE_STYLE}")
    return rendered.append(CLOSE, _SUPERVISED_STYLE) if inside else rendered


def _visible(character: str) -> str:
    code = ord(character)
    if character == "\n":
        return chr(_PICTURES + code) + "\n"
    if code < 0x20:
        return chr(_PICTURES + code)
    marks = character in f"{OPEN}{CLOSE}⟨⟩" or _PICTURES <= code < _PICTURES + 0x20
    invisible = unicodedata.category(character)[0] in "CZ" and character != " "
    return f"⟨U+{code:04X}⟩" if marks or invisible else character


def _efficiency(encoded: Sequence[EncodedConversation], **options) -> float:
    batches = training_batches(encoded, **options)
    filled = places = 0
    for batch in batches:
        filled += int((batch["segment_ids"] > 0).sum())
        places += batch["segment_ids"].size
    return filled / places
