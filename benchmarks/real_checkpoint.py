"""Take a model of real size through every job, and write down what memory that takes.

    python benchmarks/real_checkpoint.py --model DIR --rows FILE

DIR is a Hugging Face directory with configuration, index and tokenizer; its weights are not needed, random
ones of the same names and shapes are written to two shards. FILE holds training rows, such as STAR-1's.
Every job runs in a process of its own, whose peak resident memory and time go into
`results/real_checkpoint.md`, beside the size of the weights.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import ml_dtypes
import numpy as np

from lora_jax.evaluation.markdown import table
from lora_jax.models import decoder
from lora_jax.models.checkpoint import COMPANIONS, INDEX
from lora_jax.models.checkpoint.tensor_files import stream_tensors
from lora_jax.models.config import read_config
from lora_jax.models.parameters import flatten

ROOT = pathlib.Path(__file__).parents[1]
JOBS = ("inspect", "align", "export", "merge")
GIB = 2**30
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def main() -> None:
    """Write the weights, run the jobs, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--rows", type=pathlib.Path, required=True)
    parser.add_argument("--dtype", default="bfloat16", help="of the base in memory")
    parser.add_argument("--length", type=int, default=512, help="tokens in a row")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        size = write_model(flags.model, scratch / "model")
        rows = [(job, *run(job, scratch, flags.rows, flags.dtype, flags.length)) for job in JOBS]
    text = report(flags, size, rows)
    (ROOT / "benchmarks" / "results" / "real_checkpoint.md").write_text(text)
    print(text)


def write_model(source: pathlib.Path, directory: pathlib.Path) -> int:
    """Write random bf16 weights of a model's names and shapes in two shards; return their bytes."""
    directory.mkdir()
    for name in COMPANIONS:
        if (source / name).is_file():
            shutil.copyfile(source / name, directory / name)
    shapes = {
        name: leaf.hf_shape
        for leaf in flatten(decoder.declare(read_config(directory))).values()
        for name in leaf.hf_names
    }
    if (source / INDEX).is_file():
        real = json.loads((source / INDEX).read_text())["weight_map"]
        assert real.keys() == shapes.keys(), "the index names other tensors"
    names = sorted(shapes)
    rng = np.random.default_rng(0)

    def draw(name: str):
        if name.endswith(("norm.weight", "bias")):
            yield np.ones(shapes[name], BFLOAT16)
            return
        for row in range(0, shapes[name][0], 1024):
            rows = min(1024, shapes[name][0] - row)
            block = rng.standard_normal((rows, shapes[name][1]), np.float32)
            yield (0.02 * block).astype(BFLOAT16)

    weight_map, total = {}, 0
    for number, half in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), 1):
        file = f"model-{number:05}-of-00002.safetensors"
        stream_tensors(directory / file, {name: shapes[name] for name in half}, BFLOAT16, draw)
        weight_map |= dict.fromkeys(half, file)
        total += (directory / file).stat().st_size
    (directory / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return total


def run(
    job: str, scratch: pathlib.Path, rows: pathlib.Path, dtype: str, length: int
) -> tuple[float, float]:
    """Run a job in a process of its own; return its peak resident GiB and its seconds."""
    fields = {
        "model.path": scratch / "model",
        "model.dtype": dtype,
        "data.sources.refusals.path": rows,
        "data.sources.refusals.take": "all",
        "data.sources.answered.take": "0",
        "data.max_length": length,
        "data.overlong": "drop",
        "train.max_steps": 1,
        "train.remat": "full",
        "evaluation.max_prompts": 1,
        "evaluation.batch_size": 4,
        "evaluation.max_new_tokens": 4,
    }
    command = [sys.executable, "main.py", "--config=configs/r1_upproj.py", f"--job={job}"]
    command += [f"--workdir={scratch / 'run'}"]
    command += [f"--config.{name}={value}" for name, value in fields.items()]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{job} failed")
    return usage.ru_maxrss * 1024 / GIB, time.perf_counter() - start


def report(flags: argparse.Namespace, size: int, rows: list[tuple[str, float, float]]) -> str:
    """Word the table."""
    command = f"python benchmarks/real_checkpoint.py --model {flags.model.name} "
    command += f"--rows {flags.rows.name} --dtype {flags.dtype} --length {flags.length}"
    body = [(job, f"{peak:.2f}", f"{seconds:.0f}") for job, peak, seconds in rows]
    return (
        f"# {flags.model.name}, through every job\n\n"
        f"`{command}`: random bfloat16 weights of {size / GIB:.2f} GiB in two shards, held in "
        f"{flags.dtype}; one training step of batch 2 on rows of at most {flags.length} tokens.\n\n"
        + table(("job", "peak resident memory (GiB)", "seconds"), body)
    )


if __name__ == "__main__":
    main()
