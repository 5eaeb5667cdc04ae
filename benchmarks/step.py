"""Compare our training step with that of PEFT and torch, on the same work.

    python benchmarks/step.py

Both train the same adapter on the same frozen weights and the same padded batches, in fp32, with
AdamW, clipping and dropout. Before anything is timed, their losses without dropout have to agree.
Each library lives in a process of its own, and the two take turns, so that whatever else the
machine does falls on both alike. Prints a table and writes `step.json` and `step.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lora_jax.organism import MODEL_DIRECTORY

# This process imports neither library: a child's peak memory would begin at its parent's.
HERE = pathlib.Path(__file__).parent
LIBRARIES = ("lora_jax", "torch")
BATCHES = 8  # Different ones, taken in turn.
CHECKED_STEPS = 5
LOSS_TOLERANCE = 1e-4  # Nats; both compute in fp32, in another order.
REST_SECONDS = 0.5  # Lets the other library's threads stop spinning before the clock starts.
SETTINGS = {
    "alpha": 16.0,
    "dropouts": (0.0, 0.05),
    "learning_rate": 1e-3,
    "weight_decay": 1e-4,
    "clip_norm": 1.0,
}


def main(argv: Sequence[str]) -> None:
    """Run the comparison and write its results."""
    flags = _parse(argv)
    adapter = {"rank": flags.rank, "targets": flags.targets.split(","), "layers": flags.layers}
    result = {
        "machine": _machine(),
        "settings": SETTINGS | adapter,
        "steps": flags.steps,
        "rounds": flags.rounds,
        "shapes": [_compare(flags, SETTINGS | adapter, *shape) for shape in flags.shapes],
    }
    text = _markdown(result)
    print(text)
    flags.output.mkdir(parents=True, exist_ok=True)
    (flags.output / "step.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (flags.output / "step.md").write_text(text, encoding="utf-8")


def make_batches(batch: int, length: int, vocabulary: int) -> dict[str, np.ndarray]:
    """Draw padded rows of random tokens, the first third of each a prompt.

    Args:
        batch: B.
        length: T.
        vocabulary: V.

    Returns:
        tokens int32, real bool (not padding) and supervised bool (a target in the loss), each
        [BATCHES, B, T].
    """
    generator = np.random.default_rng(0)
    shape = (BATCHES, batch, length)
    lengths = generator.integers(length // 2, length + 1, (BATCHES, batch, 1))
    position = np.arange(length)
    real = position < lengths
    tokens = np.where(real, generator.integers(8, vocabulary, shape), 0).astype(np.int32)
    return {"tokens": tokens, "real": real, "supervised": real & (position >= lengths // 3)}


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(MODEL_DIRECTORY), help="a Hugging Face directory")
    parser.add_argument(
        "--shapes",
        default="2x112,16x128",
        type=lambda text: [tuple(map(int, shape.split("x"))) for shape in text.split(",")],
        help="batch x length; the default has the main job's first (%(default)s)",
    )
    parser.add_argument("--rank", type=int, default=1)
    parser.add_argument("--targets", default="up_proj", help="projections, separated by commas")
    parser.add_argument("--layers", default="all", help="all, middle, or a range such as 2-3")
    parser.add_argument("--steps", type=int, default=100, help="of each library in a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "results")
    return parser.parse_args(argv)


def _compare(
    flags: argparse.Namespace, settings: dict[str, Any], batch: int, length: int
) -> dict[str, Any]:
    """Time both libraries on batches of one shape, in turns."""
    vocabulary = json.loads(pathlib.Path(flags.model, "config.json").read_text())["vocab_size"]
    batches = make_batches(batch, length, vocabulary)
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        np.savez(pathlib.Path(scratch, "batches.npz"), **batches)
        pathlib.Path(scratch, "settings.json").write_text(json.dumps(settings))
        workers = {
            library: stack.enter_context(_worker(library, flags.model, scratch))
            for library in LIBRARIES
        }
        # Ours loads first: it writes the adapters from which both start.
        about = {library: workers[library].ask("load") for library in LIBRARIES}
        losses = [workers[library].ask("losses", CHECKED_STEPS) for library in LIBRARIES]
        difference = float(np.abs(np.subtract(*losses)).max())
        if not difference <= LOSS_TOLERANCE:
            raise SystemExit(f"the two do different work: their first losses are {losses}")
        answers = _take_turns(workers, flags.steps, flags.rounds)
    seconds = {name: [one["seconds"] for one in answers[name]] for name in LIBRARIES}
    tokens = float(batches["real"].sum()) / BATCHES * flags.steps
    return {
        "batch": batch,
        "length": length,
        "about": about,
        "loss_difference": difference,
        "tokens_per_second": {name: [tokens / s for s in seconds[name]] for name in LIBRARIES},
        "milliseconds_a_step": {
            name: 1e3 * statistics.median(seconds[name]) / flags.steps for name in LIBRARIES
        },
        # Of the two turns of one round, which found the machine in the same state.
        "ratio": [torch / ours for ours, torch in zip(*seconds.values(), strict=True)],
        "peak_mib": {name: answers[name][-1]["peak_mib"] for name in LIBRARIES},
    }


def _take_turns(
    workers: dict[str, _Worker], steps: int, rounds: int
) -> dict[str, list[dict[str, float]]]:
    for worker in workers.values():
        worker.ask("time", 1)  # Compiles and warms up.
    answers: dict[str, list] = {library: [] for library in workers}
    for number in range(rounds):
        # Going first is taken in turns as well.
        for library in LIBRARIES if number % 2 == 0 else reversed(LIBRARIES):
            time.sleep(REST_SECONDS)
            answers[library].append(workers[library].ask("time", steps))
    return answers


class _Worker:
    """Talk to a process that runs `step_worker.py`."""

    def __init__(self, process: subprocess.Popen, log: pathlib.Path):
        self._process, self._log = process, log

    def ask(self, *question: Any) -> Any:
        with contextlib.suppress(BrokenPipeError):  # Told below, with the reason.
            print(json.dumps(question), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{question[0]!r} failed:\n{self._log.read_text()[-3000:]}")
        return json.loads(answer)


@contextlib.contextmanager
def _worker(library: str, model: str, scratch: str) -> Iterator[_Worker]:
    log = pathlib.Path(scratch, f"{library}.log")
    command = [sys.executable, str(HERE / "step_worker.py"), library, model, scratch]
    pipe = subprocess.PIPE
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True) as process,
    ):
        try:
            yield _Worker(process, log)
        finally:
            process.kill()


def _machine() -> dict[str, Any]:
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        name = next((line.split(":")[1].strip() for line in lines if "model name" in line), name)
    return {
        "processor": name,
        "cores": len(os.sched_getaffinity(0)),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


def _markdown(result: dict[str, Any]) -> str:
    settings, machine, shapes = result["settings"], result["machine"], result["shapes"]
    intro = (
        f"LoRA rank {settings['rank']} on {', '.join(settings['targets'])}, layers "
        f"{settings['layers']}; fp32, AdamW, clipping, dropout. Medians, with the slowest and the "
        f"fastest of {result['rounds']} rounds of {result['steps']} steps; tokens are those that "
        "are not padding. The ratio is of the two turns of a round, above 1 where lora_jax is "
        "faster."
    )
    check = (
        f"Without dropout, the losses of the first {CHECKED_STEPS} steps differ by at most "
        f"{max(shape['loss_difference'] for shape in shapes):.1e} nats."
    )
    where = (
        f"{machine['processor']}, {machine['cores']} cores, {machine['platform']}, "
        f"Python {machine['python']}. "
    ) + " ".join(
        f"{name}: {one['versions']}, on {one['device']}."
        for name, one in shapes[0]["about"].items()
    )
    header = "| batch | lora_jax, tokens/s | torch, tokens/s | ratio | ms a step | peak MiB |"
    table = "\n".join([header, "|" + " --- |" * 6, *map(_row, shapes)])
    title = "# Training step: lora_jax and PEFT with torch"
    return f"{title}\n\n{intro}\n\n{table}\n\n{check}\n\n{where}\n"


def _row(shape: dict[str, Any]) -> str:
    def both(values: dict[str, float], form: str) -> str:
        return " / ".join(f"{values[library]:{form}}" for library in LIBRARIES)

    cells = [
        f"{shape['batch']} x {shape['length']}",
        *(_spread(shape["tokens_per_second"][library], ",.0f") for library in LIBRARIES),
        _spread(shape["ratio"], ".2f"),
        both(shape["milliseconds_a_step"], ".1f"),
        both(shape["peak_mib"], ",.0f"),
    ]
    return f"| {' | '.join(cells)} |"


def _spread(values: Sequence[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


if __name__ == "__main__":
    main(sys.argv[1:])
