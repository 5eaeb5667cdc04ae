"""Everything about a run that needs no weights: read, checked, and told before work starts."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import pathlib
import platform
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
from jax.sharding import Mesh
from transformers import PreTrainedTokenizerBase

from lora_jax import data, sharding
from lora_jax.errors import UserError
from lora_jax.evaluation import EvaluationSet, load_set
from lora_jax.lora import masks
from lora_jax.lora.adapter import AdapterSpec
from lora_jax.models import config as model_config
from lora_jax.models import decoder, hub
from lora_jax.models.parameters import count
from lora_jax.organism import PREFIX, resolve


@dataclasses.dataclass(frozen=True)
class Preparation:
    """Hold what a config means once its files are read.

    Attributes:
        config: The run's config.
        directory: The base model's directory.
        model: The decoder.
        declarations: Its parameters.
        tokenizer: Its tokenizer.
        mesh: The device mesh.
        spec: The adapter; None in full fine-tuning.
        summary: Counts of the training rows.
        batches: The training batches.
        total_steps: Optimizer steps of the run.
    """

    config: ml_collections.ConfigDict
    directory: pathlib.Path
    model: model_config.DecoderConfig
    declarations: dict[str, Any]
    tokenizer: PreTrainedTokenizerBase
    mesh: Mesh
    spec: AdapterSpec | None
    summary: data.DataSummary
    batches: data.TrainingBatches
    total_steps: int

    @functools.cached_property
    def trainable(self) -> dict[str, Any]:
        """Return the declarations of what is trained."""
        return self.declarations if self.spec is None else self.spec.declare(self.declarations)

    @property
    def save_every(self) -> int:
        """Return the steps between two checkpoints."""
        return self.config.checkpoint.every_steps or self.batches.steps_per_epoch

    @property
    def base(self) -> str:
        """Return how other programs find the base model: its hub id, or its directory."""
        path = self.config.model.path
        local = path.startswith(PREFIX) or pathlib.Path(path).expanduser().is_dir()
        return str(self.directory.resolve()) if local else path

    @property
    def label(self) -> str:
        """Return a few words for the way of training."""
        if self.spec is None:
            return "full fine-tuning"
        targets = ", ".join(self.config.lora.targets)
        layers = self.config.lora.layers
        where = "" if layers == "all" else f", layers {layers}"
        return f"LoRA rank {self.spec.rank} on {targets}{where}"

    def facts(self, workdir: pathlib.Path) -> dict[str, str]:
        """Say what is about to be done, by name."""
        config, summary = self.config, self.summary
        total, trained = count(self.declarations), count(self.trainable)
        axes = " x ".join(f"{name} {size}" for name, size in self.mesh.shape.items())
        device = self.mesh.devices.flat[0]
        epochs = self.total_steps / self.batches.steps_per_epoch
        layers = {}
        if self.spec is not None:
            adapted = next(iter(self.spec.layers.values()))
            layers["layers"] = f"{len(adapted)} of {self.model.layers}: {_ranges(adapted)}"
        facts = {
            "model": f"{config.model.path} ({self.model.family}, {self.model.layers} layers, "
            f"{config.model.dtype})",
            "parameters": f"{total:,}",
            "trained": f"{self.label}: {trained:,} parameters ({trained / total:.3%})",
            **layers,
            "mesh": f"{axes}, on {self.mesh.size} x {device.device_kind}",
            "data": f"{summary.rows:,} rows, {summary.supervised_tokens:,} supervised of "
            f"{summary.total_tokens:,} tokens, longest row {summary.longest_row} tokens",
            "data sources": f"{config.data.refusals}; {config.data.answered_share:.0%} answered rows",
            "rows left out": f"{summary.dropped_rows} too long; "
            f"{summary.duplicate_prompts} prompts occur more than once",
            "steps": f"{self.total_steps:,} of batch {config.data.batch_size} ({epochs:.3g} epochs)",
            "optimizer": f"AdamW, learning rate {config.train.learning_rate:g}, "
            f"{config.train.schedule}",
            "workdir": str(workdir),
        }
        if PREFIX in config.data.refusals and not config.model.path.startswith(PREFIX):
            facts["note"] = (
                "the training rows were made for the embedded model; "
                "set config.data.refusals to your own for another"
            )
        return facts


def prepare(config: ml_collections.ConfigDict) -> Preparation:
    """Read and check everything that a run needs, except weights.

    Args:
        config: The run's config, validated.

    Raises:
        UserError: Something does not exist, is broken, or does not fit together.
    """
    directory = locate_model(config)
    model = model_config.read_config(directory)
    declarations = decoder.declare(model)
    mesh = sharding.make_mesh(**config.mesh)
    sharding.check_heads(model.heads, model.kv_heads, mesh)
    sharding.check_batch(config.data.batch_size, mesh, "config.data.batch_size")
    sharding.check_batch(config.evaluation.batch_size, mesh, "config.evaluation.batch_size")
    spec = None
    if config.train.mode == "lora":
        layers = masks.parse_layers(config.lora.layers, model.layers)
        mask = masks.select(declarations, config.lora.targets, layers)
        spec = AdapterSpec.from_mask(mask, config.lora.rank, config.lora.alpha, config.lora.dropout)
    tokenizer = data.load_tokenizer(directory)
    if len(tokenizer) > model.vocabulary:
        raise UserError(
            f"{directory}: the tokenizer has {len(tokenizer)} tokens, the model's vocabulary only "
            f"{model.vocabulary}; the two do not belong together."
        )
    summary, batches = _training_data(config, tokenizer)
    if summary.longest_row > model.max_positions:
        raise UserError(
            f"config.data.max_length={config.data.max_length} admits a row of "
            f"{summary.longest_row} tokens, but the model has {model.max_positions} positions; "
            f"set it to {model.max_positions} and config.data.overlong to 'drop'."
        )
    steps = batches.total_steps
    if config.train.max_steps:
        steps = min(steps, config.train.max_steps)
    return Preparation(
        config, directory, model, declarations, tokenizer, mesh, spec, summary, batches, steps
    )


def locate_model(config: ml_collections.ConfigDict) -> pathlib.Path:
    """Return the base model's directory."""
    if config.model.path.startswith(PREFIX):
        return resolve(config.model.path)
    return hub.locate(config.model.path, config.model.revision)


def load_sets(config: ml_collections.ConfigDict, split: str = "sets") -> list[EvaluationSet]:
    """Read the evaluation sets of a split, "sets" (test) or "validation"."""
    return [
        load_set(resolve(path), kind=name, max_prompts=config.evaluation.max_prompts)
        for name, path in config.evaluation[split].items()
    ]


def _training_data(
    config: ml_collections.ConfigDict, tokenizer: PreTrainedTokenizerBase
) -> tuple[data.DataSummary, data.TrainingBatches]:
    section = config.data
    rows = data.read_conversations(resolve(section.refusals), thinking=section.thinking)
    if section.answered_share:
        answered = data.read_conversations(resolve(section.answered), thinking="")
        rows = data.mix(rows, answered, section.answered_share, section.seed)
    encoded = [data.encode(row, tokenizer, section.format, section.supervise) for row in rows]
    kept, overlong = data.fit(encoded, section.max_length, section.overlong)
    batches = data.training_batches(
        kept,
        batch_size=section.batch_size,
        max_length=section.max_length,
        epochs=section.epochs,
        seed=section.seed,
        packing=section.packing,
    )
    return data.summarise(rows, kept, overlong), batches


def _ranges(layers: Sequence[int]) -> str:
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
