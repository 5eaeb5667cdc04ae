"""Find what was trained: in a run's latest checkpoint, or in an adapter from elsewhere."""

from __future__ import annotations

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import ml_collections

from lora_jax.errors import UserError
from lora_jax.jobs.base import Base
from lora_jax.jobs.preparation import describe_adapter
from lora_jax.lora.adapter import AdapterSpec
from lora_jax.lora.load import load_adapter
from lora_jax.models.parameters import Tree, tree_map
from lora_jax.sharding import parameter_shardings
from lora_jax.training.checkpoints import Checkpoints


@dataclasses.dataclass(frozen=True)
class Trained:
    """Hold what was trained, without what it takes to go on training.

    Attributes:
        spec: The adapter; None if `values` are a whole model's weights.
        values: The adapter's factors, or the weights, in fp32.
        steps: Optimizer steps that the run has taken; None if the adapter is from elsewhere.
        origin: Where they were found, for people.
    """

    spec: AdapterSpec | None
    values: Tree
    steps: int | None
    origin: str


def find_trained(config: ml_collections.ConfigDict, base: Base, workdir: pathlib.Path) -> Trained:
    """Read a run's latest checkpoint; failing that, the adapter that its config starts from.

    Args:
        config: The run's config.
        base: The model.
        workdir: Of the run.

    Raises:
        UserError: There is neither.
    """
    spec = describe_adapter(config, base)
    declared = base.declarations if spec is None else spec.declare(base.declarations)
    directory = workdir / "checkpoints"
    if directory.is_dir():
        like = tree_map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, jnp.float32, sharding=sharding),
            declared,
            parameter_shardings(declared, base.mesh),
        )
        kept = config.checkpoint
        with Checkpoints(directory, kept.keep_last, kept.keep_best) as checkpoints:
            found = checkpoints.restore_trainable(like)
        if found is not None:
            steps, values = found
            return Trained(spec, values, steps, f"step {steps} of {workdir}")
    if not config.lora.adapter:
        raise UserError(
            f"workdir '{workdir}' holds no checkpoint yet; train first, or name a PEFT adapter's "
            "directory as config.lora.adapter."
        )
    path = pathlib.Path(config.lora.adapter)
    spec, factors = load_adapter(path, base.declarations, base.mesh)
    return Trained(spec, factors, None, str(path))
