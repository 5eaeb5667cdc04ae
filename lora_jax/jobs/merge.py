"""Merge an adapter into its base: a whole model, for programs that know no adapters."""

from __future__ import annotations

import pathlib

import ml_collections

from lora_jax.errors import UserError
from lora_jax.jobs import handover
from lora_jax.jobs.base import open_base
from lora_jax.jobs.trained import find_trained
from lora_jax.models import checkpoint


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Write `merged`, read it back, and compare it with base and adapter.

    Args:
        config: The run's config, validated.
        workdir: Of a run, finished or interrupted; a new one where `config.lora.adapter` says what to
            merge.

    Raises:
        UserError: The run is one of full fine-tuning, which has no adapter.
    """
    if config.train.mode == "full":
        raise UserError(
            "a run of full fine-tuning has no adapter to merge; --job=export writes its model."
        )
    base = open_base(config)
    trained = find_trained(config, base, workdir)
    # In the type that it is stored in, so that nothing is rounded before the update is added.
    weights = base.load(checkpoint.stored_dtype(base.directory))
    path = workdir / "merged"
    adapter = (trained.spec, trained.values)
    difference = handover.write_model(config, base, weights, path, adapter)
    handover.write_card(config, base, None, path, workdir, trained.steps)
    print(f"Merged {trained.origin}; logits read back differ by {difference:.1e}.")
    print(f"Model: {path}")
