"""A source of training rows: where it is, which columns hold what, and what its rows think."""

import dataclasses
import pathlib
from collections.abc import Iterator

from lora_jax.data.columns import Columns, find_columns, read_conversation
from lora_jax.data.conversation import Conversation
from lora_jax.data.dataset import is_hub_name, read_dataset
from lora_jax.data.files import SUFFIXES, read_file
from lora_jax.errors import UserError

# What goes into the think block of every row: the row's own reasoning, which each must have; the
# fixed text where a row has none; the fixed text always; nothing; or no block at all.
THINKING = ("own", "own_or_fixed", "fixed", "empty", "none")


@dataclasses.dataclass(frozen=True)
class Source:
    """Describe where rows come from and how they are read.

    Attributes:
      path: A .json, .jsonl, .csv or .parquet file, a directory of such files, or `owner/name` of a
        dataset on the Hugging Face hub.
      split: Part of a dataset or directory.
      subset: Configuration of a dataset or directory; "" is the default one.
      revision: Branch, tag or commit of a dataset on the hub; "" is the default one.
      prompt: Column of the user's turn; "", for this and the next two, finds the usual names.
      response: Column of the answer.
      messages: Column of a list of messages, instead of a pair of columns.
      thinking: What goes into the think block, one of `THINKING`.
      fixed_thinking: The text for "own_or_fixed" and "fixed".
    """

    path: str
    split: str = "train"
    subset: str = ""
    revision: str = ""
    prompt: str = ""
    response: str = ""
    messages: str = ""
    thinking: str = "own"
    fixed_thinking: str = ""


def read_source(source: Source) -> list[Conversation]:
    """Read the conversations of a source.

    Args:
      source: Where they are and how to read them.

    Returns:
      One conversation a row, in the source's order.

    Raises:
      UserError: The source cannot be read, or a row is not a conversation.
    """
    _check_thinking(source)
    name, rows = _open(source)
    columns, conversations = None, []
    for number, row in rows:
        origin = f"{name} row {number}"
        if columns is None:
            named = Columns(source.prompt, source.response, source.messages)
            columns = find_columns(row, named, origin)
        conversation = read_conversation(row, columns, origin)
        thinking = _thinking(conversation, source)
        conversations.append(dataclasses.replace(conversation, thinking=thinking))
    if not conversations:
        raise UserError(f"{source.path} has no rows; give a source with at least one")
    return conversations


def _open(source: Source) -> tuple[str, Iterator[tuple[int, dict]]]:
    """Return the name that the rows' origins start with, and the numbered rows."""
    path = pathlib.Path(source.path).expanduser()
    if path.is_dir():
        _refuse(source, path, "directory", "revision")
        rows = read_dataset(str(path.absolute()), split=source.split, subset=source.subset)
        return f"{path.name} {source.split}", rows
    if path.exists() or path.suffix.lower() in SUFFIXES:
        _refuse(source, path, "file", "split", "subset", "revision")
        return path.name, read_file(path)
    name = str(source.path)
    if not is_hub_name(name):
        raise UserError(
            f"{name} does not exist; give a {', '.join(SUFFIXES)} file, a directory of such files, "
            "or owner/name of a dataset on the hub"
        )
    rows = read_dataset(name, split=source.split, subset=source.subset, revision=source.revision)
    return f"{name} {source.split}", rows


def _refuse(source: Source, path: pathlib.Path, kind: str, *fields: str) -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(Source)}
    for field in fields:
        value = getattr(source, field)
        if value != defaults[field]:
            raise UserError(
                f"{path} is a {kind}, which has no {field} {value!r}; leave {field} out"
            )


def _check_thinking(source: Source) -> None:
    if source.thinking not in THINKING:
        raise UserError(f"thinking is {source.thinking!r}; choose one of {', '.join(THINKING)}")
    if source.thinking in ("own_or_fixed", "fixed"):
        text = source.fixed_thinking
        if not text.strip() or "<think>" in text or "</think>" in text:
            raise UserError(
                f"fixed_thinking is {text!r} and thinking {source.thinking!r}; give the text "
                "without its tags, or set thinking to 'empty' or 'none'"
            )


def _thinking(conversation: Conversation, source: Source) -> str | None:
    own = conversation.thinking
    match source.thinking:
        case "none":
            return None
        case "empty":
            return ""
        case "fixed":
            return source.fixed_thinking
        case "own_or_fixed":
            return source.fixed_thinking if own is None else own
    if own is None:
        raise UserError(
            f"{conversation.origin} has no reasoning of its own; write it in a <think> block, or set "
            "the source's thinking to own_or_fixed, fixed, empty or none"
        )
    return own
