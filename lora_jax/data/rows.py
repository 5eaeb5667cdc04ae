"""Rows of a local file as conversations, with every complaint naming file, row and field."""

import csv
import json
import pathlib
import re
from collections.abc import Iterator

from lora_jax.data.conversation import Conversation
from lora_jax.errors import UserError

# The pairs of columns a file may have; the first pair its first row holds is read in every row.
COLUMNS = (
    ("prompt", "refusal"),
    ("prompt", "response"),
    ("prompt", "completion"),
    ("question", "response"),
)

# Spreadsheets put a byte order mark in front, which is no part of the first column's name.
_ENCODING = "utf-8-sig"

_THINK_BLOCK = re.compile(r"\s*(?:<think>)?(.*?)</think>(.*)", re.DOTALL)


def read_conversations(path: str | pathlib.Path, *, thinking: str) -> list[Conversation]:
    """Read the conversations of a JSON, JSONL, CSV or Parquet file.

    A row has one of the pairs of columns in `COLUMNS`; others are ignored. `refusal` is written
    `Question: ... Answer: ...`, and what follows the first `Answer:` is kept. A completion that holds
    a `<think>..</think>` block is split into reasoning and answer, each without the white space
    around it; the prompt is kept to the letter.

    Args:
      path: The file; its ending says what it is.
      thinking: The reasoning of rows that have none of their own; empty for no reasoning.

    Returns:
      One conversation a row, in the file's order.

    Raises:
      UserError: The file cannot be read, or a row is not a conversation.
    """
    path = pathlib.Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(
            f"{path} does not end in {', '.join(_READERS)}; convert it to one of them or rename it"
        )
    conversations = []
    try:
        columns = None
        for number, row in reader(path):
            origin = f"{path.name} row {number}"
            columns = columns or _columns(row, origin)
            conversations.append(_conversation(row, columns, thinking, origin))
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror or error}); check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text; save it as UTF-8") from error
    if not conversations:
        raise UserError(f"{path} has no rows; give a file with at least one")
    return conversations


def _columns(row: dict, origin: str) -> tuple[str, str]:
    for prompt, completion in COLUMNS:
        if prompt in row and completion in row:
            return prompt, completion
    pairs = ", ".join(f"{prompt} + {completion}" for prompt, completion in COLUMNS)
    found = ", ".join(map(str, row)) or "none"
    raise UserError(f"{origin} lacks a pair of fields (has: {found}); give one of {pairs}")


def _conversation(
    row: dict, columns: tuple[str, str], default_thinking: str, origin: str
) -> Conversation:
    prompt, completion = (_text(row, field, origin) for field in columns)
    if columns[1] == "refusal":
        _, marker, completion = completion.partition("Answer:")
        if not marker:
            raise UserError(
                f"{origin}: field 'refusal' has no 'Answer:'; write it 'Question: ... Answer: ...'"
            )
    own_thinking, answer = _split_thinking(completion, columns[1], origin)
    if not answer:
        raise UserError(f"{origin}: field {columns[1]!r} has no answer; write one or drop the row")
    return Conversation(prompt, own_thinking or default_thinking or None, answer, origin)


def _text(row: dict, field: str, origin: str) -> str:
    if field not in row:
        raise UserError(f"{origin} has no field {field!r}; add it, as in the file's first row")
    value = row[field]
    if not isinstance(value, str):
        raise UserError(
            f"{origin}: field {field!r} is {type(value).__name__}, not text; write it as a string"
        )
    if not value.strip():
        raise UserError(f"{origin}: field {field!r} is empty; fill it in or drop the row")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{origin}: field {field!r} holds half of a surrogate pair; repair its \\u escapes"
        ) from error
    return value


def _split_thinking(completion: str, field: str, origin: str) -> tuple[str, str]:
    """Return reasoning and answer, the first empty where there is no think block."""
    opens, closes = completion.count("<think>"), completion.count("</think>")
    if opens == closes == 0:
        return "", completion.strip()
    block = _THINK_BLOCK.fullmatch(completion)
    if opens > 1 or closes != 1 or any("<think>" in part for part in block.groups()):
        raise UserError(
            f"{origin}: field {field!r} has misplaced think tags; write "
            "'<think>reasoning</think>answer' or no tags"
        )
    return block[1].strip(), block[2].strip()


def _json_rows(path: pathlib.Path) -> Iterator[tuple[int, dict]]:
    rows = _parsed(path.read_text(encoding=_ENCODING), str(path))
    if not isinstance(rows, list):
        raise UserError(f"{path} does not hold a list; write it as a list of objects, one a row")
    for number, row in enumerate(rows, start=1):
        yield number, _fields(row, f"{path.name} row {number}")


def _jsonl_rows(path: pathlib.Path) -> Iterator[tuple[int, dict]]:
    """Yield rows under their line numbers; blank lines are counted and skipped."""
    with path.open(encoding=_ENCODING) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                origin = f"{path.name} row {number}"
                yield number, _fields(_parsed(line, origin), origin)


def _parsed(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not valid JSON ({error}); repair it") from error


def _fields(row: object, origin: str) -> dict:
    if not isinstance(row, dict):
        raise UserError(
            f"{origin} is a JSON {type(row).__name__}; write it as an object of named fields"
        )
    return row


def _csv_rows(path: pathlib.Path) -> Iterator[tuple[int, dict]]:
    """Yield rows counted from the first one below the header."""
    number = 0
    with path.open(encoding=_ENCODING, newline="") as lines:
        try:
            for number, row in enumerate(csv.DictReader(lines, strict=True), start=1):
                if None in row or None in row.values():
                    raise UserError(
                        f"{path.name} row {number} has not as many fields as the header; "
                        "quote fields that hold commas"
                    )
                yield number, row
        except csv.Error as error:
            raise UserError(
                f"{path.name} row {number + 1} is not valid CSV ({error}); repair it"
            ) from error


def _parquet_rows(path: pathlib.Path) -> Iterator[tuple[int, dict]]:
    import pyarrow  # Here, because it is slow to import and few files are Parquet.
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise UserError(f"{path} is not a readable Parquet file; write it again") from error
    yield from enumerate(rows, start=1)


_READERS = {
    ".json": _json_rows,
    ".jsonl": _jsonl_rows,
    ".csv": _csv_rows,
    ".parquet": _parquet_rows,
}
