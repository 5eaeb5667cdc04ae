"""The curve of a run: one row a logged step, in JSON lines and for TensorBoard."""

import json
import os
import pathlib
import shutil
import struct
import time
from collections.abc import Mapping
from typing import Any

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from lora_jax.errors import UserError
from lora_jax.workdir import write_atomically

_JSONL = "metrics.jsonl"
_TENSORBOARD = "tensorboard"


class MetricsWriter:
    """Append rows to `metrics.jsonl` and to TensorBoard's file under `tensorboard/`.

    A row is in the operating system's hands when `write` returns, so a killed process keeps it. Write
    the row of a step before saving that step, and a resumed run lacks none. TensorBoard's own writers
    hand rows to a thread, which a full disk ends, and the run then waits for it without end.
    """

    def __init__(self, workdir: str | os.PathLike[str]):
        """Continue the workdir's curve, or start it; see `truncate_after` for resuming."""
        self._path = pathlib.Path(workdir) / _JSONL
        self._events = pathlib.Path(workdir) / _TENSORBOARD
        self._board: pathlib.Path | None = None

    def truncate_after(self, step: int) -> None:
        """Forget rows later than the restored step, and a last row that was cut short.

        TensorBoard's file cannot be cut, so it is made again from the rows that stay.

        Args:
          step: the last step that is in the restored state; 0 for a run from the beginning.

        Raises:
          OSError: if a file cannot be written; carries the path.
        """
        kept = [row for row in read_metrics(self._path) if row["step"] <= step]
        write_atomically(self._path, "".join(_line(row) for row in kept))
        shutil.rmtree(self._events, ignore_errors=True)
        self._board = None
        if kept:
            self._show(*kept)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row.

        Args:
          row: `step` and any other numbers; scalars of NumPy or JAX are taken as well.

        Raises:
          OSError: if a file cannot be written; carries the path.
        """
        plain = {name: _number(value) for name, value in row.items()}
        _append(self._path, _line(plain).encode())
        self._show(plain)

    def _show(self, *rows: Mapping[str, Any]) -> None:
        if self._board is None:
            self._events.mkdir(exist_ok=True)
            # A running TensorBoard takes a new name for a new file, and reads it from its start.
            self._board = self._events / f"events.out.tfevents.{time.time_ns()}"
            _append(self._board, _record(Event(file_version="brain.Event:2")))
        _append(self._board, b"".join(_record(_event(row)) for row in rows))


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read the rows of a `metrics.jsonl`.

    Args:
      path: of the file; a missing one has no rows.

    Returns:
      The rows in order. A last line without its end, left by a killed process, is not one.

    Raises:
      UserError: if another line is not a row.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text().splitlines(keepends=True), start=1):
        if not line.endswith("\n"):
            break
        try:
            row = json.loads(line)
            row["step"]
        except (ValueError, TypeError, KeyError):
            raise UserError(
                f"'{path}' line {number} is not a row of metrics; delete that line, or the file."
            ) from None
        rows.append(row)
    return rows


def _number(value: Any) -> int | float:
    # Arrays of NumPy and JAX have item(); Python's numbers do not.
    return value.item() if hasattr(value, "item") else value


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row) + "\n"


def _append(path: pathlib.Path, content: bytes) -> None:
    try:
        with open(path, "ab") as file:
            file.write(content)
    except OSError as error:
        # Failing writes, unlike failing opens, do not say of which file.
        error.filename = str(path)
        raise


def _event(row: Mapping[str, Any]) -> Event:
    values = [
        Summary.Value(tag=name, simple_value=value) for name, value in row.items() if name != "step"
    ]
    return Event(step=row["step"], wall_time=time.time(), summary=Summary(value=values))


def _record(event: Event) -> bytes:
    """Frame an event as TensorBoard's files do: its length, a checksum, itself, a checksum."""
    content = event.SerializeToString()
    length = struct.pack("<Q", len(content))
    return length + _checksum(length) + content + _checksum(content)


def _checksum(data: bytes) -> bytes:
    return struct.pack("<I", masked_crc32c(data))
