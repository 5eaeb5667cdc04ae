"""The main job: measure the base, align it, measure again, export, report."""

from __future__ import annotations

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from lora_jax import evaluation
from lora_jax.console import print_facts
from lora_jax.jobs import handover
from lora_jax.jobs.measuring import Measurer
from lora_jax.jobs.preparation import Preparation, environment, prepare
from lora_jax.lora.load import load_adapter
from lora_jax.models.parameters import Tree
from lora_jax.sharding import parameter_shardings, replicated
from lora_jax.training.checkpoints import Checkpoints
from lora_jax.training.loop import Training
from lora_jax.training.metrics import MetricsWriter, read_metrics
from lora_jax.training.optimizer import make_optimizer, make_schedule
from lora_jax.training.step import TrainState, make_step


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Run the job, or finish one that was interrupted.

    Args:
        config: The run's config, validated.
        workdir: A directory of this run's own.
    """
    prepared = prepare(config)
    measure = Measurer(prepared, prepared.sets["sets"])
    facts = prepared.facts(workdir)
    print_facts("Plan", facts)

    base = load_base(prepared)
    factors = start_factors(prepared)
    before = measure(base, factors, workdir / "evaluation" / "before", "evaluate base")

    trained = train(prepared, base, factors, workdir)
    base, factors = (trained, {}) if prepared.spec is None else (base, trained)
    after = measure(base, factors, workdir / "evaluation" / "after", "evaluate trained")

    exported, difference = export(prepared, base, factors, workdir)
    facts["export"] = f"{exported.path}; logits differ from the trained ones by {difference:.1e}"
    rows = evaluation.write_report(
        workdir,
        before,
        after,
        label=prepared.label,
        facts=facts,
        environment=environment(),
        metrics=read_metrics(workdir / "metrics.jsonl"),
        export=exported,
    )
    evaluation.terminal_table(rows)
    print(f"Report: {workdir / 'report.md'}")


def load_base(prepared: Preparation) -> dict[str, Any]:
    """Read the base weights; in fp32 where they are to be trained, whatever they compute in."""
    return prepared.base.load(prepared.config.model.dtype if prepared.spec else "float32")


def start_factors(prepared: Preparation) -> dict[str, Any]:
    """Draw the adapter's factors, or read those it starts from; none in full fine-tuning."""
    base, config = prepared.base, prepared.config
    if prepared.spec is None:
        return {}
    if config.lora.adapter:
        path = pathlib.Path(config.lora.adapter)
        return load_adapter(path, base.declarations, base.mesh)[1]
    factors = prepared.spec.initialise(base.declarations, jax.random.key(config.train.seed))
    return jax.device_put(factors, parameter_shardings(prepared.trainable, base.mesh))


def train(prepared: Preparation, base: Tree, factors: Tree, workdir: pathlib.Path) -> Tree:
    """Train to the end, resuming where an earlier run stopped.

    Args:
        prepared: The run.
        base: The base weights; in full fine-tuning their buffers are used up.
        factors: The adapter's first factors.
        workdir: Where checkpoints and metrics go.

    Returns:
        The trained factors, or the trained base in full fine-tuning.
    """
    config = prepared.config
    full = prepared.spec is None
    schedule = make_schedule(config.train, prepared.total_steps)
    optimizer = make_optimizer(config.train, prepared.total_steps, prepared.trainable)
    # A copy: the step reuses its state's buffers, and the caller keeps what it passed.
    start = jax.tree.map(jnp.copy, base if full else factors)
    state = TrainState.start(start, optimizer, config.train.seed)
    state = _replicate_scalars(state, prepared)
    step = make_step(
        prepared.base.model,
        optimizer,
        spec=prepared.spec,
        compute_dtype=jnp.dtype(config.model.dtype),
        remat=config.train.remat,
        parts=config.data.batch_parts,
        shardings=jax.tree.map(lambda x: x.sharding, state),
    )
    training = Training(
        step=step,
        batches=prepared.text.batches,
        total_steps=prepared.total_steps,
        schedule=schedule,
        mesh=prepared.base.mesh,
        log_every=config.train.log_every,
        save_every=prepared.save_every,
    )
    kept = config.checkpoint
    directory = workdir / "checkpoints"
    with Checkpoints(directory, kept.keep_last, kept.keep_best) as checkpoints:
        final = training.run(state, {} if full else base, checkpoints, MetricsWriter(workdir))
    return final.trainable


def export(
    prepared: Preparation, base: Tree, factors: Tree, workdir: pathlib.Path
) -> tuple[evaluation.Export, float]:
    """Write what was trained for other programs to load, read it back, and compare.

    Args:
        prepared: The run.
        base: The base weights; trained ones, which are used up, in full fine-tuning.
        factors: The adapter's factors, or an empty dict.
        workdir: The export goes to its "adapter" or "model".

    Returns:
        The export, and the largest difference of its logits from the trained model's.

    Raises:
        UserError: What was read back is not what was trained.
    """
    config, spec = prepared.config, prepared.spec
    if spec is None:
        path = workdir / "model"
        difference = handover.write_model(config, prepared.base, base, path)
    else:
        path = workdir / "adapter"
        difference = handover.write_adapter(config, prepared.base, base, spec, factors, path)
    card = handover.write_card(config, prepared.base, spec, path, workdir, prepared.total_steps)
    return card, difference


def _replicate_scalars(state: TrainState, prepared: Preparation) -> TrainState:
    """Put what has no sharding of its own (counts, keys) on every device."""
    everywhere = replicated(prepared.base.mesh)
    return jax.tree.map(
        lambda x: x if isinstance(x.sharding, jax.sharding.NamedSharding)
        else jax.device_put(x, everywhere),
        state,
    )  # fmt: skip
