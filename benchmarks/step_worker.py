"""Run one library's training steps in a process of its own, as `step.py` asks for them.

A question is a line of JSON on standard input, an answer one on standard output:

    ["load"]         load the model; ours also writes the adapter that both start from
    ["losses", 5]    losses of the first steps, without dropout
    ["time", 100]    seconds that so many steps take, with dropout, and the process's peak memory
"""

from __future__ import annotations

import importlib
import json
import pathlib
import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

DROPOUT = 0.05
WARM_UP_STEPS = 5

Step = Callable[[Any], Any]  # Takes a batch; gives its loss, perhaps still being computed.


def main(argv: Sequence[str]) -> None:
    """Answer questions until there are no more.

    Args:
        argv: the library, the model's directory, and a directory with `batches.npz`.
    """
    library, model, scratch = argv
    answers, sys.stdout = sys.stdout, sys.stderr  # Libraries print what is no answer.
    worker = _Worker(library, model, pathlib.Path(scratch))
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(worker, name)(*arguments)), file=answers, flush=True)


class _Worker:
    def __init__(self, library: str, model: str, scratch: pathlib.Path):
        self._library, self._model, self._scratch = library, model, scratch
        self._step: Step | None = None

    def load(self) -> dict[str, str]:
        module = importlib.import_module(f"step_{self._library}")
        self._side = module.Side(self._model, self._scratch)
        arrays = dict(np.load(self._scratch / "batches.npz"))
        count = len(arrays["tokens"])
        rows = ({name: array[i] for name, array in arrays.items()} for i in range(count))
        self._batches = [self._side.batch(**row) for row in rows]
        return {"versions": self._side.versions, "device": self._side.device}

    def losses(self, steps: int) -> list[float]:
        step = self._side.start(0.0)
        return [float(step(batch)) for batch in self._batches[:steps]]

    def time(self, steps: int) -> dict[str, float]:
        if self._step is None:
            self._step = self._side.start(DROPOUT)
            self._run(WARM_UP_STEPS)
        seconds = self._run(steps)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux
        return {"seconds": seconds, "peak_mib": peak / 2**10}

    def _run(self, steps: int) -> float:
        start = time.perf_counter()
        losses = [self._step(self._batches[i % len(self._batches)]) for i in range(steps)]
        float(losses[-1])  # Waits for the device.
        return time.perf_counter() - start


if __name__ == "__main__":
    main(sys.argv[1:])
