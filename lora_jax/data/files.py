"""Rows of a local file as dictionaries, with every complaint naming file and row."""

import csv
import json
import pathlib
from collections.abc import Iterator

from lora_jax.errors import UserError

# Spreadsheets put a byte order mark in front, which is no part of the first column's name.
_ENCODING = "utf-8-sig"


def read_file(path: pathlib.Path) -> Iterator[tuple[int, dict]]:
    """Read the rows of a JSON, JSONL, CSV or Parquet file.

    Args:
      path: The file; its ending says what it is.

    Yields:
      The row's number, from 1, and its fields by name. The number of a JSONL row is its line number;
      a CSV's header is not counted.

    Raises:
      UserError: The file cannot be read, or a row has no named fields.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(
            f"{path} does not end in {', '.join(_READERS)}; convert it to one of them or rename it"
        )
    try:
        yield from reader(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror or error}); check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text; save it as UTF-8") from error


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
            rows = csv.DictReader(lines, strict=True)
            names = rows.fieldnames or []
            for name in names:
                if names.count(name) > 1:
                    raise UserError(f"{path} has two columns {name!r}; rename one of them")
            for number, row in enumerate(rows, start=1):
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
        rows = pyarrow.parquet.ParquetFile(path).read().to_pylist()
    except pyarrow.ArrowException as error:
        raise UserError(f"{path} is not a readable Parquet file; write it again") from error
    yield from enumerate(rows, start=1)


_READERS = {
    ".json": _json_rows,
    ".jsonl": _jsonl_rows,
    ".csv": _csv_rows,
    ".parquet": _parquet_rows,
}

SUFFIXES = tuple(_READERS)
