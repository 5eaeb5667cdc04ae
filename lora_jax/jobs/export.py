"""Export what a run has trained so far, or an adapter from elsewhere, for other programs to load."""

from __future__ import annotations

import pathlib

import ml_collections

from lora_jax.jobs import handover
from lora_jax.jobs.base import open_base
from lora_jax.jobs.trained import find_trained


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Write `adapter`, or `model` after full fine-tuning, read it back, and compare.

    Args:
        config: The run's config, validated.
        workdir: Of a run, finished or interrupted; a new one where `config.lora.adapter` says what to
            export.
    """
    base = open_base(config)
    trained = find_trained(config, base, workdir)
    if trained.spec is None:
        path = workdir / "model"
        difference = handover.write_model(config, base, trained.values, path)
    else:
        path = workdir / "adapter"
        weights = base.load(config.model.dtype)
        difference = handover.write_adapter(
            config, base, weights, trained.spec, trained.values, path
        )
    handover.write_card(config, base, trained.spec, path, workdir, trained.steps)
    print(f"Exported {trained.origin}; logits read back differ by {difference:.1e}.")
    print(f"Export: {path}")
