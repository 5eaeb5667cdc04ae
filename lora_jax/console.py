"""What a run says on the terminal: its plan, and how far it is."""

import collections
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Self

from rich import progress as rich_progress
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Rates are those of the last seconds, so that compilation drops out of them.
_WINDOW_SECONDS = 20.0


def print_facts(title: str, facts: Mapping[str, str], console: Console | None = None) -> None:
    """Print names and values as a table.

    Args:
      title: above the table.
      facts: name -> value, printed in this order.
      console: standard output if None.
    """
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")  # paths stay whole, to be copied
    for name, value in facts.items():
        table.add_row(name, Text(value))  # as Text, brackets in a path are not taken for markup
    (console or Console()).print(table)


class Progress:
    """Show how far a stage is, how fast it goes, and how long it will still take.

    On a terminal this is a bar; elsewhere a plain line every few seconds, and one at the end.

        with Progress("train", total=1000, unit="steps") as progress:
            for batch in batches:
                ...
                progress.advance(1, tokens=512, loss="0.42")
    """

    def __init__(
        self,
        stage: str,
        total: int,
        unit: str,
        start: int = 0,
        plain_seconds: float = 10.0,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Start at `start` of `total`.

        Args:
          stage: what is being done, such as 'train'.
          total: steps or prompts in the whole stage.
          unit: 'steps' or 'prompts'.
          start: how many were done before, in a resumed run.
          plain_seconds: between two lines where there is no terminal.
          console: standard output if None.
          clock: seconds, for tests.
        """
        self._stage, self._total, self._unit, self._done = stage, total, unit, start
        self._console = console or Console()
        self._clock = clock
        self._plain_seconds = plain_seconds
        self._shown: dict[str, str] = {}
        self._tokens = 0
        self._marks = collections.deque([(clock(), start, 0)])  # (seconds, done, tokens)
        self._said_at = clock()
        self._said: str | None = None
        self._bar = rich_progress.Progress(
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(),
            rich_progress.TextColumn("{task.fields[status]}", markup=False),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(stage, total=total, completed=start, status=self.status())

    def __enter__(self) -> Self:
        try:
            self._bar.start()
        except BaseException:  # an interrupt in here would leave the terminal without its cursor
            self._bar.stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()
        if not self._console.is_terminal:
            self._say()

    def advance(self, count: int = 1, tokens: int = 0, **shown: str) -> None:
        """Count what was just done.

        Args:
          count: steps or prompts.
          tokens: trained on or generated in them.
          **shown: what to show beside the counts, such as loss='0.42'; kept until shown anew.
        """
        self._done += count
        self._tokens += tokens
        self._shown |= shown
        now = self._clock()
        self._marks.append((now, self._done, self._tokens))
        while len(self._marks) > 2 and now - self._marks[1][0] >= _WINDOW_SECONDS:
            self._marks.popleft()
        self._bar.update(self._task, completed=self._done, status=self.status())
        if not self._console.is_terminal and now - self._said_at >= self._plain_seconds:
            self._said_at = now
            self._say()

    @property
    def tokens_per_second(self) -> float:
        """Tokens a second over the last seconds; 0 before anything was counted."""
        (start, _, tokens_before), (end, _, tokens) = self._marks[0], self._marks[-1]
        return (tokens - tokens_before) / (end - start) if end > start else 0.0

    def status(self) -> str:
        """Word counts, shown values, rates and time left, such as '3/9 steps, loss 0.42, ...'."""
        (start, done_before, _), (end, done, _) = self._marks[0], self._marks[-1]
        parts = [f"{self._done}/{self._total} {self._unit}"]
        parts += [f"{name} {value}" for name, value in self._shown.items()]
        if self._tokens:
            parts.append(f"{self.tokens_per_second:,.0f} tokens/s")
        if end > start and done > done_before:
            rate = (done - done_before) / (end - start)
            parts.append(f"{rate:.1f} {self._unit}/s")
            if self._done < self._total:
                parts.append(f"{_duration((self._total - self._done) / rate)} left")
        return ", ".join(parts)

    def _say(self) -> None:
        line = f"{self._stage}: {self.status()}"
        if line != self._said:
            self._said = line
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class LateProgress:
    """Show the progress of work whose length is only known once it reports for the first time.

    with LateProgress("load", "MiB") as progress:
        load(..., on_tensor=progress.reach)
    """

    def __init__(self, stage: str, unit: str):
        """Start nothing yet; the arguments are those of `Progress`."""
        self._stage, self._unit = stage, unit
        self._stack = contextlib.ExitStack()
        self._progress: Progress | None = None
        self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def reach(self, done: int, total: int, tokens: int = 0) -> None:
        """Say how far the work is.

        Args:
          done: out of `total`; at the first call, what an earlier run had done.
          total: all of it.
          tokens: generated since the last call.
        """
        if self._progress is None:
            bar = Progress(self._stage, total, self._unit, start=done)
            self._progress = self._stack.enter_context(bar)
        else:
            self._progress.advance(done - self._done, tokens=tokens)
        self._done = done


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
