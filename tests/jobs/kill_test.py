"""A run that is killed, at any moment, ends as if nothing had happened when it is run again."""

import dataclasses
import os
import pathlib
import random
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

import main
from lora_jax.training.metrics import read_metrics

ROOT = pathlib.Path(main.__file__).parent
EXACT = (
    "adapter/adapter_model.safetensors",
    "adapter/adapter_config.json",
    "evaluation/before/scores.json",
    "evaluation/before/generations.jsonl",
    "evaluation/after/scores.json",
    "evaluation/after/generations.jsonl",
)
PATIENCE = 600  # Seconds for a run of a few, where the processor is shared.
pytestmark = pytest.mark.slow


@dataclasses.dataclass
class Command:
    """The real command, in processes that share one compilation cache."""

    site: object
    environment: dict[str, str]

    @property
    def workdir(self) -> pathlib.Path:
        return self.site.workdir

    def start(self) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "main.py", *self.site.arguments],
            cwd=ROOT,
            env=os.environ | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self) -> None:
        process = self.start()
        try:
            said, _ = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
        assert process.returncode == 0, said

    def kill_when(self, reached: Callable[[], bool], delay: float) -> None:
        """Start, wait until a moment is reached and a little longer, and kill -9."""
        process = self.start()
        try:
            deadline = time.monotonic() + PATIENCE
            while not reached():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"never got there: {process.communicate()[0]}")
                time.sleep(0.0005)
            time.sleep(delay)
            assert process.poll() is None, "ended before it was killed"
        finally:
            process.kill()
            process.communicate()


def lines(path: pathlib.Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def outcome(workdir: pathlib.Path) -> dict[str, object]:
    """Return all that has to be the same: everything but timings."""
    rows = read_metrics(workdir / "metrics.jsonl")
    for row in rows:
        del row["tokens_per_second"]
    report = (workdir / "report.md").read_text()
    results = report.partition("## Results")[2].partition("## Environment")[0]
    assert len(results) > 1000
    files = {name: (workdir / name).read_bytes() for name in EXACT}
    steps = sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())
    return files | {"metrics": rows, "results": results, "checkpoints": steps}


def assert_same(workdir: pathlib.Path, expected: dict[str, object]) -> None:
    found = outcome(workdir)
    # How the report names the export depends on the workdir, which differs.
    for name, value in expected.items():
        if name != "results":
            assert found[name] == value, name
    assert found["results"].replace(str(workdir), "") == expected["results"]


@pytest.fixture(scope="module")
def start(make_site, tmp_path_factory):
    """Make runs of one config in workdirs of their own."""
    site = make_site()
    site.fields |= {"checkpoint.every_steps": 1, "train.log_every": 3, "data.epochs": 4}
    environment = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compilation_cache")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

    def make() -> Command:
        run = dataclasses.replace(site, runs=tmp_path_factory.mktemp("runs"))
        return Command(run, environment)

    return make


@pytest.fixture(scope="module")
def uninterrupted(start) -> dict[str, object]:
    command = start()
    command.finish()
    expected = outcome(command.workdir)
    return expected | {"results": expected["results"].replace(str(command.workdir), "")}


def trained(command: Command, rows: int) -> Callable[[], bool]:
    metrics = command.workdir / "metrics.jsonl"
    return lambda: lines(metrics) >= rows


def in_training(command: Command, rng: random.Random) -> tuple[Callable[[], bool], float]:
    return trained(command, rng.randint(1, 20)), rng.uniform(0, 0.03)


def in_a_save(command: Command, rng: random.Random) -> tuple[Callable[[], bool], float]:
    step = rng.randint(1, 20)
    directory = command.workdir / "checkpoints"

    def reached() -> bool:
        names = os.listdir(directory) if directory.exists() else []
        return any(name.startswith(f"{step}.") for name in names)

    return reached, rng.uniform(0, 0.01)


def in_evaluation(command: Command, rng: random.Random) -> tuple[Callable[[], bool], float]:
    which = rng.choice(["before", "after"])
    batches = rng.randint(0, 4)
    path = command.workdir / "evaluation" / which / "generations.jsonl"
    directory = path.parent
    return lambda: directory.exists() and lines(path) >= 4 * batches, rng.uniform(0, 0.01)


MOMENTS = {"training": in_training, "save": in_a_save, "evaluation": in_evaluation}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_run_again_is_uninterrupted(start, uninterrupted, moment, seed):
    command = start()
    command.kill_when(*MOMENTS[moment](command, random.Random(f"{moment} {seed}")))
    command.finish()
    assert_same(command.workdir, uninterrupted)


@pytest.mark.parametrize("seed", range(2))
def test_killed_twice_and_run_again_is_uninterrupted(start, uninterrupted, seed):
    command, rng = start(), random.Random(seed)
    command.kill_when(trained(command, 5), rng.uniform(0, 0.05))
    command.kill_when(trained(command, 12), rng.uniform(0, 0.05))
    command.finish()
    assert_same(command.workdir, uninterrupted)
