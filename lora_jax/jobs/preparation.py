"""Everything about a run that needs no weights: read, checked, and told before work starts."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import ml_collections
from jax.sharding import Mesh

from lora_jax import sharding
from lora_jax.errors import UserError
from lora_jax.evaluation import EvaluationSet
from lora_jax.jobs.base import Base, open_base
from lora_jax.jobs.text import TrainingText, load_sets, read_text
from lora_jax.lora import masks
from lora_jax.lora.adapter import AdapterSpec
from lora_jax.lora.load import load_adapter
from lora_jax.lora.targets import parse_layers
from lora_jax.models.parameters import count
from lora_jax.organism import PREFIX


@dataclasses.dataclass(frozen=True)
class Preparation:
    """Hold what a config means once its files are read.

    Attributes:
        config: The run's config.
        base: The base model.
        spec: The adapter; None in full fine-tuning.
        sets: The evaluation sets of each split that the run is measured on.
        text: The training text.
        total_steps: Optimizer steps of the run.
    """

    config: ml_collections.ConfigDict
    base: Base
    spec: AdapterSpec | None
    sets: Mapping[str, list[EvaluationSet]]
    text: TrainingText
    total_steps: int

    @functools.cached_property
    def trainable(self) -> dict[str, Any]:
        """Return the declarations of what is trained."""
        declarations = self.base.declarations
        return declarations if self.spec is None else self.spec.declare(declarations)

    @property
    def save_every(self) -> int:
        """Return the steps between two checkpoints."""
        return self.config.checkpoint.every_steps or self.text.batches.steps_per_epoch

    @property
    def label(self) -> str:
        """Return a few words for the way of training."""
        return label(self.config, self.spec)

    def facts(self, workdir: pathlib.Path) -> dict[str, str]:
        """Say what is about to be done, by name."""
        config, model, mesh = self.config, self.base.model, self.base.mesh
        total = trained = count(self.base.declarations)
        if self.spec is not None:
            trained = self.spec.count(self.base.declarations)
        axes = " x ".join(f"{name} {size}" for name, size in mesh.shape.items())
        device = mesh.devices.flat[0]
        epochs = self.total_steps / self.text.batches.steps_per_epoch
        facts = {
            "model": f"{config.model.path} ({model.family}, {model.layers} layers, "
            f"{config.model.dtype})",
            "parameters": f"{total:,}",
            "trained": f"{self.label}: {trained:,} parameters ({trained / total:.3%})",
        }
        if self.spec is not None:
            adapted = self.spec.adapted_layers
            facts["layers"] = f"{len(adapted)} of {model.layers}: {ranges(adapted)}"
        measured = config.evaluation
        sets = [one for split in self.sets.values() for one in split]
        sampling = "greedy"
        if measured.temperature:
            sampling = f"temperature {measured.temperature:g}, top_p {measured.top_p:g}"
            sampling += f", seed {measured.seed}"
        facts["mesh"] = f"{axes}, on {mesh.size} x {device.device_kind}"
        facts |= self.text.facts() | {
            "steps": f"{self.total_steps:,} of batch {config.data.batch_size} ({epochs:.3g} epochs)",
            "optimizer": f"AdamW, learning rate {config.train.learning_rate:g}, "
            f"{config.train.schedule}",
            "measured": f"{', '.join(one.name for one in sets)}; at most "
            f"{measured.max_new_tokens} new tokens, {sampling}",
            "workdir": str(workdir),
        }
        sources = config.data.sources.values()
        foreign = not config.model.path.startswith(PREFIX)
        if foreign and any(PREFIX in source.path and source.take != "0" for source in sources):
            facts["note"] = (
                "training rows of the embedded model are used for another; "
                "set the paths in config.data.sources to your own"
            )
        return facts


def prepare(config: ml_collections.ConfigDict, splits: Sequence[str] = ("sets",)) -> Preparation:
    """Read and check everything that a run needs, except weights.

    Args:
        config: The run's config, validated.
        splits: The evaluation splits that the run is measured on.

    Raises:
        UserError: Something does not exist, is broken, or does not fit together.
    """
    base = open_base(config)
    check_batch(config.data, base.mesh)
    sharding.check_batch(config.evaluation.batch_size, base.mesh, "config.evaluation.batch_size")
    spec = describe_adapter(config, base)
    sets = {split: load_sets(config, split) for split in splits}
    text = read_text(config, base.directory, [one for split in sets.values() for one in split])
    _check_fit(config, base, text)
    steps = text.batches.total_steps
    if config.train.max_steps:
        steps = min(steps, config.train.max_steps)
    return Preparation(config, base, spec, sets, text, steps)


def describe_adapter(config: ml_collections.ConfigDict, base: Base) -> AdapterSpec | None:
    """Describe the adapter that a config asks for.

    Args:
        config: The run's config.
        base: The model it goes on.

    Returns:
        The adapter that it starts from, or a new one; None in full fine-tuning.

    Raises:
        UserError: Targets or layers are not there, or the adapter to start from does not fit.
    """
    lora = config.lora
    if config.train.mode != "lora":
        return None
    if lora.adapter:
        spec, _ = load_adapter(pathlib.Path(lora.adapter), base.declarations, base.mesh)
        return dataclasses.replace(spec, dropout=lora.dropout)
    layers = parse_layers(lora.layers, base.model.layers)
    ranks = masks.select(base.declarations, lora.targets, layers, lora.rank)
    return AdapterSpec.from_ranks(ranks, lora.alpha, lora.dropout, lora.rslora)


def label(config: ml_collections.ConfigDict, spec: AdapterSpec | None) -> str:
    """Return a few words for a way of training."""
    if spec is None:
        return "full fine-tuning"
    named = config.lora.layers != "all" and not config.lora.adapter
    return spec.describe() + (f", layers {config.lora.layers}" if named else "")


def check_batch(section: ml_collections.ConfigDict, mesh: Mesh) -> None:
    """Refuse a batch that cannot be cut into its parts, or a part that cannot be spread over devices.

    Args:
        section: The config's data section.
        mesh: The device mesh.

    Raises:
        UserError: One of them does not divide.
    """
    sharding.check_batch(section.batch_size, mesh, "config.data.batch_size")
    if section.batch_size % section.batch_parts:
        raise UserError(
            f"config.data.batch_parts={section.batch_parts} does not divide "
            f"config.data.batch_size={section.batch_size}; choose a number that does."
        )
    part = section.batch_size // section.batch_parts
    sharding.check_batch(part, mesh, "config.data.batch_size / config.data.batch_parts")


def _check_fit(config: ml_collections.ConfigDict, base: Base, text: TrainingText) -> None:
    if len(text.tokenizer) > base.model.vocabulary:
        raise UserError(
            f"{base.directory}: the tokenizer has {len(text.tokenizer)} tokens, the model's "
            f"vocabulary only {base.model.vocabulary}; the two do not belong together."
        )
    positions, longest = base.model.max_positions, text.summary.longest_row
    if longest > positions:
        raise UserError(
            f"config.data.max_length={config.data.max_length} admits a row of {longest} tokens, but "
            f"the model has {positions} positions; set it to {positions} and config.data.overlong "
            "to 'drop'."
        )


def ranges(layers: Sequence[int]) -> str:
    """Word ascending layer indices, runs as ranges."""
    first, last = layers[0], layers[-1]
    if list(layers) == list(range(first, last + 1)):
        return f"{first}-{last}" if last > first else str(first)
    return ", ".join(map(str, layers))


def environment() -> dict[str, str]:
    """Return versions and devices, for the report."""
    packages = ("lora_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain")
    packages += ("transformers", "tokenizers", "numpy")
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed as a package"
    devices = jax.devices()
    found["devices"] = f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})"
    return found
