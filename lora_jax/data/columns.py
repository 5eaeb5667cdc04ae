"""A row's named fields as a conversation, with every complaint naming row and field."""

import dataclasses
import difflib
import json
import re
from collections.abc import Iterable

from lora_jax.data.conversation import Conversation, Turn
from lora_jax.errors import UserError

# The pairs that are found without being named; the first pair that the first row holds is read.
PAIRS = (
    ("prompt", "refusal"),
    ("prompt", "response"),
    ("prompt", "completion"),
    ("question", "response"),
)
MESSAGES = ("messages", "conversations")

_ROLES = ("system", "user", "assistant")
# Some data sets name the fields of a message, and who speaks, differently.
_MESSAGE_FIELDS = (("role", "content"), ("from", "value"))
_OTHER_NAMES = {"human": "user", "gpt": "assistant"}

_THINK_BLOCK = re.compile(r"\s*(?:<think>)?(.*?)</think>(.*)", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Columns:
    """Say which fields hold the conversation: a pair of texts, or a list of messages.

    Attributes:
      prompt: Field of the user's turn; empty where there are messages.
      response: Field of the answer; likewise.
      messages: Field of the list; empty where there is a pair.
    """

    prompt: str = ""
    response: str = ""
    messages: str = ""


def find_columns(row: dict, named: Columns, origin: str) -> Columns:
    """Find the fields of a file's first row that hold the conversation.

    Args:
      row: The row.
      named: Fields that the user names; those left empty are found by their usual names.
      origin: Of the row, for messages.

    Returns:
      The fields to read in every row.

    Raises:
      UserError: A named field is absent, or the usual ones are.
    """
    for name in (named.prompt, named.response, named.messages):
        if name and name not in row:
            near = difflib.get_close_matches(name, map(str, row), n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise UserError(
                f"{origin} has no field {name!r}{hint}; name one of those it has: {_listed(row)}"
            )
    if named.messages:
        if named.prompt or named.response:
            raise UserError(
                f"{origin}: messages={named.messages!r} is named beside prompt or response; "
                "name either the messages or the pair"
            )
        return named
    for prompt, response in PAIRS:
        pair = Columns(named.prompt or prompt, named.response or response)
        if pair.prompt in row and pair.response in row:
            return pair
    if not named.prompt and not named.response:
        for name in MESSAGES:
            if name in row:
                return Columns(messages=name)
    usual = [" + ".join(pair) for pair in PAIRS] + list(MESSAGES)
    raise UserError(
        f"{origin} has none of the usual fields ({', '.join(usual)}); "
        f"name the columns to read among those it has: {_listed(row)}"
    )


def read_conversation(row: dict, columns: Columns, origin: str) -> Conversation:
    """Read the conversation of a row.

    A field called `refusal` is written `Question: ... Answer: ...`, as in DirectRefusal, and what
    follows the first `Answer:` is the answer. A `<think>..</think>` block, or a message's
    `reasoning_content`, is the reasoning. Reasoning and answer lose the white space around them; all
    else is kept to the letter.

    Args:
      row: Its fields.
      columns: Which of them to read.
      origin: Of the row.

    Returns:
      The conversation; `thinking` is None if the row has no think block.

    Raises:
      UserError: The row is not a conversation.
    """
    if columns.messages:
        return _from_messages(row, columns.messages, origin)
    prompt = _text(row, columns.prompt, origin)
    response = _text(row, columns.response, origin)
    if columns.response == "refusal":
        _, marker, response = response.partition("Answer:")
        if not marker:
            raise UserError(
                f"{origin}: field 'refusal' has no 'Answer:'; write it 'Question: ... Answer: ...', "
                "or call the column 'response' if it is the answer alone"
            )
    thinking, answer = _split_thinking(response, f"{origin}: field {columns.response!r}")
    return Conversation(prompt, thinking, answer, origin)


def _from_messages(row: dict, field: str, origin: str) -> Conversation:
    messages = row.get(field)
    if isinstance(messages, str):  # A CSV file holds no lists.
        try:
            messages = json.loads(messages)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{origin}: field {field!r} is text and not valid JSON ({error}); "
                "write a list of messages"
            ) from error
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
        raise UserError(
            f"{origin}: field {field!r} is not a list of messages; "
            "write each as an object of role and content"
        )
    turns = [
        _turn(message, f"{origin}: {field!r} message {number}")
        for number, message in enumerate(messages, start=1)
    ]
    _check_order(turns, field, origin)
    if turns[0].role == "system" and not turns[0].content.strip():
        del turns[0]  # An empty system turn is how some data sets write that there is none.
    *context, prompt, last = turns
    where = f"{origin}: {field!r} message {len(messages)}"
    thinking, answer = _split_thinking(last.content, where)
    apart = messages[-1].get("reasoning_content")
    if apart is not None:
        if thinking is not None:
            raise UserError(
                f"{where} has reasoning both in think tags and in reasoning_content; keep one"
            )
        thinking = _checked(apart, f"{where} reasoning_content", may_be_empty=True).strip()
        _refuse_tags(thinking, f"{where} reasoning_content")
    return Conversation(prompt.content, thinking, answer, origin, tuple(context))


def _turn(message: dict, where: str) -> Turn:
    for role_field, content_field in _MESSAGE_FIELDS:
        if role_field in message and content_field in message:
            role = message[role_field]
            role = _OTHER_NAMES.get(role, role) if isinstance(role, str) else role
            if role not in _ROLES:
                raise UserError(f"{where} has the role {role!r}; give one of {', '.join(_ROLES)}")
            empty = role == "system"
            return Turn(role, _checked(message[content_field], f"{where} ({role})", empty))
    raise UserError(f"{where} lacks role or content (has: {_listed(message)}); give both")


def _check_order(turns: list[Turn], field: str, origin: str) -> None:
    roles = [turn.role for turn in turns]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if not spoken or len(spoken) % 2 or spoken != ["user", "assistant"] * (len(spoken) // 2):
        raise UserError(
            f"{origin}: field {field!r} has the roles {', '.join(roles) or 'of no one'}; write user "
            "and assistant in turn, the assistant last, with at most one system turn in front"
        )


def _text(row: dict, field: str, origin: str) -> str:
    if field not in row:
        raise UserError(f"{origin} has no field {field!r}; add it, as in the first row")
    return _checked(row[field], f"{origin}: field {field!r}")


def _checked(value: object, where: str, may_be_empty: bool = False) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where} is {type(value).__name__}, not text; write it as a string")
    if not value.strip() and not may_be_empty:
        raise UserError(f"{where} is empty; fill it in or drop the row")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where} holds half of a surrogate pair; repair its \\u escapes"
        ) from error
    return value


def _split_thinking(text: str, where: str) -> tuple[str | None, str]:
    """Return reasoning, None where there is no think block, and answer."""
    thinking, answer = None, text
    if "<think>" in text or "</think>" in text:
        block = _THINK_BLOCK.fullmatch(text)
        if block is None:
            _refuse_tags(text, where)
        thinking, answer = block[1].strip(), block[2]
        _refuse_tags(thinking + answer, where)
    if not answer.strip():
        raise UserError(f"{where} has no answer; write one or drop the row")
    return thinking, answer.strip()


def _refuse_tags(text: str, where: str) -> None:
    if "<think>" in text or "</think>" in text:
        raise UserError(
            f"{where} has misplaced think tags; write '<think>reasoning</think>answer' or no tags"
        )


def _listed(names: Iterable) -> str:
    return ", ".join(map(str, names)) or "none"
