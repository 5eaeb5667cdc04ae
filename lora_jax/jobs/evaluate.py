"""Measure the base with and without what was trained; nothing is trained."""

from __future__ import annotations

import pathlib

import jax
import ml_collections

from lora_jax import evaluation
from lora_jax.console import print_facts
from lora_jax.jobs.align import load_base
from lora_jax.jobs.measuring import Measurer
from lora_jax.jobs.preparation import Preparation, environment, prepare
from lora_jax.jobs.trained import Trained, find_trained
from lora_jax.models.parameters import Tree


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Evaluate a run's latest checkpoint, or an adapter from elsewhere, and report.

    Args:
        config: The run's config, validated.
        workdir: Of a run, finished or interrupted; a new one where `config.lora.adapter` says what to
            evaluate.
    """
    prepared = prepare(config)
    trained = find_trained(config, prepared.base, workdir)
    measure = Measurer(prepared, prepared.sets["sets"])
    facts = prepared.facts(workdir) | {"evaluated": trained.origin}
    del facts["optimizer"], facts["steps"]
    print_facts("Plan", facts)

    weights = load_base(prepared)
    # Where the run itself starts from an adapter, what it measured before training is not the base.
    stage = "base" if config.lora.adapter else "before"
    before = measure(weights, _no_update(prepared), workdir / "evaluation" / stage, "evaluate base")
    name = "adapter" if trained.steps is None else f"step-{trained.steps}"
    directory = workdir / "evaluation" / name
    after = measure(*_applied(weights, trained), directory, "evaluate trained")
    rows = evaluation.write_report(
        directory,
        before,
        after,
        label=prepared.label,
        facts=facts,
        environment=environment(),
    )
    evaluation.terminal_table(rows)
    print(f"Report: {directory / 'report.md'}")


def _no_update(prepared: Preparation) -> Tree:
    """Return factors whose product is zero."""
    if prepared.spec is None:
        return {}
    return prepared.spec.initialise(prepared.base.declarations, jax.random.key(0))


def _applied(weights: Tree, trained: Trained) -> tuple[Tree, Tree]:
    """Return weights and factors of the trained model."""
    return (trained.values, {}) if trained.spec is None else (weights, trained.values)
