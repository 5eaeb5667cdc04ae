"""A process that compares mathematical expressions, and that can be stopped when it is stuck."""

import atexit
import json
import pathlib
import select
import subprocess
import sys
import threading

_PROGRAM = pathlib.Path(__file__).with_name("verify.py")
SECONDS = 5.0  # for a comparison, of the processor's time
_LAST_RESORT = 600  # of the clock's; the program gives up long before


class Verifier:
    """Ask math-verify whether two expressions are equal.

    An answer such as 9^9^9^9 keeps computer algebra busy for ever and fills the memory, and
    time-outs need signals, which only a main thread gets. So it runs in a process of its own, started
    at the first question and replaced when it ends.

    Args:
        seconds: of the processor's time, for one comparison.
    """

    def __init__(self, seconds: float = SECONDS):
        self._seconds = seconds
        self._process: subprocess.Popen | None = None
        self._lock = threading.Lock()
        atexit.register(self.close)

    def equal(self, text: str, expected: str) -> bool:
        """Return whether the expression in a text is shown to equal the expected one.

        Args:
            text: LaTeX between dollar signs, or prose with an answer in it.
            expected: LaTeX between dollar signs.

        Returns:
            Whether it is shown; False if that took too long or too much memory.

        Raises:
            RuntimeError: if math-verify cannot be started.
        """
        question = json.dumps([text, expected]).encode() + b"\n"
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self.close()
                self._start()
            try:
                self._process.stdin.write(question)
                answer = self._read()
            except BrokenPipeError:
                answer = b""
            if not answer:
                self.close()
            return answer == b"true\n"

    def close(self) -> None:
        """End the process, if there is one; the next question starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _start(self) -> None:
        # -P keeps the neighbours of the program, such as number.py, from hiding other modules.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_PROGRAM), str(self._seconds)],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        if self._read() != b"ready\n":
            self.close()
            raise RuntimeError("math-verify did not start; its message stands above")

    def _read(self) -> bytes:
        """Read a line; an empty one if none came in time, or the process ended."""
        ready, _, _ = select.select([self._process.stdout], [], [], _LAST_RESORT)
        return self._process.stdout.readline() if ready else b""
