"""The curve of a run: one row a logged step, in JSON lines and for TensorBoard."""

import json
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import tensorboardX

from lora_jax.errors import UserError
from lora_jax.workdir import write_atomically

_JSONL = "metrics.jsonl"
_TENSORBOARD = "tensorboard"


class MetricsWriter:
    """Append rows to `metrics.jsonl` and to TensorBoard's files under `tensorboard/`.

    A row is in the operating system's hands when `write` returns, so a killed process keeps it. Write
    the row of a step before saving that step, and a resumed run lacks none.
    """

    def __init__(self, workdir: str | os.PathLike[str]):
        """Continue the workdir's curve, or start it; see `truncate_after` for resuming."""
        self._path = pathlib.Path(workdir) / _JSONL
        self._events = pathlib.Path(workdir) / _TENSORBOARD
        self._board: tensorboardX.SummaryWriter | None = None

    def truncate_after(self, step: int) -> None:
        """Forget rows later than the restored step, and a last row that was cut short.

        TensorBoard's files cannot be cut, so they are made again from the rows that stay.

        Args:
          step: the last step that is in the restored state; 0 for a run from the beginning.
        """
        self.close()
        kept = [row for row in read_metrics(self._path) if row["step"] <= step]
        write_atomically(self._path, "".join(_line(row) for row in kept))
        shutil.rmtree(self._events, ignore_errors=True)
        for row in kept:
            self._show(row)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row.

        Args:
          row: `step` and any other numbers; scalars of NumPy or JAX are taken as well.
        """
        plain = {name: _number(value) for name, value in row.items()}
        with open(self._path, "a") as file:
            file.write(_line(plain))
        self._show(plain)

    def close(self) -> None:
        """Finish TensorBoard's file; a later `write` starts another."""
        if self._board is not None:
            self._board.close()
            self._board = None

    def _show(self, row: Mapping[str, Any]) -> None:
        if self._board is None:
            self._board = tensorboardX.SummaryWriter(str(self._events))
        for name, value in row.items():
            if name != "step":
                self._board.add_scalar(name, value, row["step"])


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
