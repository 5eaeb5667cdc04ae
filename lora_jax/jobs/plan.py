"""Compile the training step for devices that need not be there, and say what it will need."""

from __future__ import annotations

import dataclasses
import math
import pathlib

import jax
import ml_collections
from jax.sharding import Mesh

from lora_jax import sharding
from lora_jax.console import print_facts
from lora_jax.errors import UserError
from lora_jax.evaluation.markdown import table
from lora_jax.jobs.base import Base, locate
from lora_jax.jobs.preparation import check_batch, describe_adapter, label
from lora_jax.lora.adapter import AdapterSpec
from lora_jax.models import decoder
from lora_jax.models.config import read_config
from lora_jax.models.parameters import count
from lora_jax.planning.batch_search import largest_batch
from lora_jax.planning.compiling import PlannedStep, Trial
from lora_jax.planning.summary import memory_facts, size, work_facts
from lora_jax.planning.topology import find_devices
from lora_jax.planning.work import least_flops
from lora_jax.workdir import PLAN, write_atomically


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Print and write what the step needs, and the largest batch that fits.

    Args:
        config: The run's config, validated.
        workdir: A directory of this run's own; its config may still change afterwards.

    Raises:
        UserError: The topology, the mesh, the model or the batch are wrong, or the step does not fit.
    """
    mesh = sharding.make_mesh(**config.mesh, devices=find_devices(config.plan.topology))
    base, spec = _describe(config, mesh)
    check_batch(config.data, mesh)
    # What is compiled here is measured, and may be for other machines than this.
    jax.config.update("jax_enable_compilation_cache", False)
    step = PlannedStep(config, base.model, base.declarations, spec, mesh)
    if step.state.total > step.chip.memory:
        raise UserError(_refusal(config, step, step.state.total, mesh, None))

    trial = _compile(step, config.data.batch_size)
    facts = _facts(config, base, spec) | memory_facts(trial, step.chip)
    if trial.program:
        tokens = trial.batch_size * config.data.max_length
        least = least_flops(base.model, base.declarations, spec, config.data.max_length)
        facts |= work_facts(trial.program, least, tokens, mesh.size, step.chip)
    facts["compiled in"] = f"{trial.seconds:.0f} s"
    print_facts("Plan", facts)

    found = largest_batch(
        trial,
        lambda batch_size: _compile(step, batch_size),
        ways=mesh.shape["data"] * mesh.shape["fsdp"] * config.data.batch_parts,
        fixed=step.state.total,
        limit=step.chip.memory,
    )
    largest = f"{found.batch_size}, with {size(found.used)} a chip" if found else "none fits"
    print_facts("Largest batch", {"sequences": largest})
    path = _write(workdir, facts | {"largest batch": largest})
    print(f"Plan: {path}")
    if not trial.fits:
        raise UserError(_refusal(config, step, trial.used, mesh, found))


def _describe(config: ml_collections.ConfigDict, mesh: Mesh) -> tuple[Base, AdapterSpec | None]:
    """Describe the model and the adapter on the devices to compile for; needs no weights."""
    directory = locate(config, weights=False)
    model = read_config(directory)
    sharding.check_heads(model.heads, model.kv_heads, mesh)
    base = Base(config.model.path, directory, model, decoder.declare(model), mesh)
    # An adapter to start from is read, so that goes onto a device that is there.
    here = sharding.make_mesh(1, 1, 1, devices=jax.local_devices()[:1])
    return base, describe_adapter(config, dataclasses.replace(base, mesh=here))


def _compile(step: PlannedStep, batch_size: int) -> Trial:
    """Compile the step, and say so, because it takes a while."""
    print(f"compile: batch {batch_size} ...", flush=True)
    trial = step.compile(batch_size)
    verdict = "fits" if trial.fits else "does not fit"
    print(
        f"compile: batch {batch_size} {verdict}, {size(trial.used)} of {size(step.chip.memory)} "
        f"a chip, {trial.seconds:.0f} s",
        flush=True,
    )
    return trial


def _facts(
    config: ml_collections.ConfigDict, base: Base, spec: AdapterSpec | None
) -> dict[str, str]:
    """Say what is planned."""
    model, mesh = base.model, base.mesh
    total = trained = count(base.declarations)
    if spec is not None:
        trained = spec.count(base.declarations)
    axes = " x ".join(f"{name} {ways}" for name, ways in mesh.shape.items())
    return {
        "model": f"{base.path} ({model.family}, {model.layers} layers, {config.model.dtype})",
        "parameters": f"{total:,}",
        "trained": f"{label(config, spec)}: {trained:,} parameters ({trained / total:.3%})",
        "devices": f"{config.plan.topology or 'this machine'}: {axes}, on {mesh.size} x "
        f"{mesh.devices.flat[0].device_kind}",
        "batch": f"{config.data.batch_size} x {config.data.max_length} tokens, remat "
        f"{config.train.remat}",
    }


def _refusal(
    config: ml_collections.ConfigDict,
    step: PlannedStep,
    used: int,
    mesh: Mesh,
    largest: Trial | None,
) -> str:
    """Say that a step does not fit, and what would make it."""
    chip, ways = step.chip, []
    if largest is not None:
        ways.append(f"config.data.batch_size={largest.batch_size}, which does")
    if used > step.state.total and config.train.remat != "full":
        ways.append("config.train.remat=full")
    if mesh.shape["data"] > 1:
        ways.append(f"config.mesh.fsdp={mesh.shape['data'] * mesh.shape['fsdp']}")
    if config.model.dtype != "bfloat16":
        ways.append("config.model.dtype=bfloat16")
    chips = 2 ** math.ceil(math.log2(mesh.size * used / chip.memory))
    ways.append(f"about {max(chips, 2 * mesh.size)} chips with config.mesh.fsdp as large")
    what = "weights and optimizer need" if used == step.state.total else "the step needs"
    return (
        f"{config.model.path} does not fit: {what} {size(used)} on a chip of {size(chip.memory)} "
        f"({mesh.devices.flat[0].device_kind}); try {', or '.join(ways)}."
    )


def _write(workdir: pathlib.Path, facts: dict[str, str]) -> pathlib.Path:
    directory = workdir / PLAN
    directory.mkdir(exist_ok=True)
    path = directory / "plan.md"
    write_atomically(path, "# What the training step needs\n\n" + table(("", ""), facts.items()))
    return path
