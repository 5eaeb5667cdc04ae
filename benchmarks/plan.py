"""Plan the training step of large models on TPUs that are not there, and write down what it needs.

    python benchmarks/plan.py

Compiles the real step of the real recipe: rank-1 LoRA on every up projection, bf16 base, remat full. Only
shapes are needed, so the models below are their configurations alone. It takes a minute or two a row on two
cores, and needs the `tpu` extra. The last line compares the planned memory of the embedded model with what
its step is measured to take on this machine's CPU.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys

import jax

from lora_jax import sharding
from lora_jax.config import default_config
from lora_jax.evaluation.markdown import table
from lora_jax.lora import masks
from lora_jax.lora.adapter import AdapterSpec
from lora_jax.lora.targets import parse_layers
from lora_jax.models import decoder
from lora_jax.models.config import parse_config
from lora_jax.models.parameters import count
from lora_jax.planning.compiling import PlannedStep, Trial
from lora_jax.planning.summary import size
from lora_jax.planning.topology import find_devices
from lora_jax.planning.work import least_flops

HERE = pathlib.Path(__file__).parent
QWEN = {
    "model_type": "qwen2",
    "vocab_size": 152_064,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e6,
}
LLAMA = {
    "model_type": "llama",
    "vocab_size": 128_256,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 5e5,
}
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
SIZES += ("intermediate_size",)
MODELS = {
    "R1-Distill-Qwen-7B": QWEN | dict(zip(SIZES, (3584, 28, 28, 4, 18_944), strict=True)),
    "R1-Distill-Qwen-14B": QWEN | dict(zip(SIZES, (5120, 48, 40, 8, 13_824), strict=True)),
    "R1-Distill-Qwen-32B": QWEN | dict(zip(SIZES, (5120, 64, 40, 8, 27_648), strict=True)),
    "R1-Distill-Llama-70B": LLAMA | dict(zip(SIZES, (8192, 80, 64, 8, 28_672), strict=True)),
}
# Model, topology, ways of the tensor axis (the rest is fsdp), batch, length.
ROWS = (
    ("R1-Distill-Qwen-7B", "v5e:1x1", 1, 1, 1024),
    ("R1-Distill-Qwen-7B", "v5e:2x2", 1, 4, 1024),
    ("R1-Distill-Qwen-14B", "v5e:2x4", 1, 8, 1024),
    ("R1-Distill-Qwen-14B", "v5e:2x4", 1, 8, 4096),
    ("R1-Distill-Qwen-32B", "v5e:2x4", 1, 8, 1024),
    ("R1-Distill-Qwen-32B", "v5e:2x4", 1, 8, 4096),
    ("R1-Distill-Qwen-32B", "v5e:2x4", 4, 2, 4096),
    ("R1-Distill-Llama-70B", "v5e:4x4", 1, 16, 1024),
    ("R1-Distill-Llama-70B", "v5e:4x4", 1, 16, 4096),
    ("R1-Distill-Llama-70B", "v5e:4x4", 8, 2, 4096),
    ("R1-Distill-Llama-70B", "v5p:2x2x2", 1, 8, 4096),
)
HEADER = ("model", "chips", "batch", "state", "activations", "total a chip", "fits")
HEADER += ("G FLOPs a token", "times the least", "received by a chip in a step", "compiled in")


def main() -> None:
    """Compile row after row, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="", help="numbers of rows, from 0; by default all")
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "results" / "plan.md")
    flags = parser.parse_args()
    peak = measured_peak()
    chosen = [ROWS[int(number)] for number in flags.rows.split(",") if number] or ROWS
    rows: list[tuple[str, ...]] = []
    for row in chosen:
        rows.append(plan(*row))
        print(*rows[-1], sep=" | ", flush=True)
        flags.output.write_text(report(rows, peak), encoding="utf-8")


def plan(name: str, topology: str, tensor: int, batch: int, length: int) -> tuple[str, ...]:
    """Compile one row, and word it."""
    config = default_config()
    config.model.dtype, config.train.remat = "bfloat16", "full"
    config.data.max_length = length
    model = parse_config(MODELS[name], name)
    declarations = decoder.declare(model)
    mesh = sharding.make_mesh(1, -1, tensor, find_devices(topology))
    layers = parse_layers(config.lora.layers, model.layers)
    ranks = masks.select(declarations, config.lora.targets, layers, config.lora.rank)
    spec = AdapterSpec.from_ranks(ranks, config.lora.alpha, config.lora.dropout)
    trial = PlannedStep(config, model, declarations, spec, mesh).compile(batch)
    least = least_flops(model, declarations, spec, length)
    billions = count(declarations) / 1e9
    return (
        f"{name}, {billions:.1f} B",
        f"{topology}, fsdp {mesh.shape['fsdp']}" + (f" x tensor {tensor}" if tensor > 1 else ""),
        f"{batch} x {length}",
        size(trial.memory.state.total),
        size(trial.memory.activations),
        size(trial.used),
        "yes" if trial.fits else "no",
        *work(trial, least, mesh.size, batch * length),
        f"{trial.seconds:.0f} s",
    )


def work(trial: Trial, least: float, chips: int, tokens: int) -> tuple[str, str, str]:
    """Word what a compiled step computes and exchanges; nothing where the compiler refused."""
    if trial.program is None:
        return "", "", ""
    flops = trial.program.flops * chips / tokens
    exchanged = sum(one.size for one in trial.program.collectives.values())
    return f"{flops / 1e9:,.1f}", f"{flops / least:.2f}", size(exchanged)


def measured_peak() -> dict[str, int]:
    """Return planned and measured bytes of the embedded model's step."""
    script = [sys.executable, str(HERE / "plan_peak.py")]
    done = subprocess.run(script, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def report(rows: list[tuple[str, ...]], peak: dict[str, int]) -> str:
    """Write the file."""
    where = f"jax {jax.__version__}, libtpu {importlib.metadata.version('libtpu')}, "
    where += f"Python {platform.python_version()}, {os.cpu_count()} cores shared with other work."
    ratio = peak["planned"] / peak["measured"]
    return (
        "# What the training step needs, from its compiled program\n\n"
        "Rank-1 LoRA on every up projection, bf16 base, remat full, AdamW; compiled for TPUs that were "
        "not there. State is weights, adapter and optimizer on one chip; activations are what the "
        "program keeps besides, gathered weights included. Where the compiler refuses, total is what "
        "it says the step would use. FLOPs are those of the compiled matrix products, loops counted as "
        "often as they run; the least is one forward pass and the gradients of activations, without the "
        "second forward pass that remat full is.\n\n"
        "A v5e chip has 16 GiB, of which programs may use 15.75. Weights of 7B in bf16 leave too little of "
        "a single one; int8 weights, which are not supported, would take half. At 4096 tokens it is the "
        "attention scores [B, H, T, S] that fill a chip; the tensor axis splits them by heads.\n\n"
        f"{table(HEADER, rows)}\n"
        f"The embedded model, batch 64 x 128 in fp32 on this machine's CPU: {size(peak['planned'])} "
        f"planned, {size(peak['measured'])} measured, a ratio of {ratio:.2f}.\n\n"
        f"`python benchmarks/plan.py`, {where}\n"
    )


if __name__ == "__main__":
    main()
