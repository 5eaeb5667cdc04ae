"""The base model of a run: found and described at once, its weights read when they are needed."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import ml_collections
from jax.sharding import Mesh

from lora_jax import sharding
from lora_jax.console import LateProgress
from lora_jax.models import checkpoint, decoder, hub
from lora_jax.models.config import DecoderConfig, read_config
from lora_jax.organism import PREFIX, resolve


@dataclasses.dataclass(frozen=True)
class Base:
    """Hold what is known of a model without its weights.

    Attributes:
        path: What the config calls it: a directory, a hub id, or `organism:model`.
        directory: Where its files are.
        model: The decoder.
        declarations: Its parameters.
        mesh: The device mesh.
    """

    path: str
    directory: pathlib.Path
    model: DecoderConfig
    declarations: dict[str, Any]
    mesh: Mesh

    @property
    def name(self) -> str:
        """Return how other programs find the model: its hub id, or its directory."""
        local = self.path.startswith(PREFIX) or pathlib.Path(self.path).expanduser().is_dir()
        return str(self.directory.resolve()) if local else self.path

    @property
    def revision(self) -> str:
        """Return the commit of a model from the hub; '' for a local one."""
        return hub.resolved_revision(self.directory)

    def load(self, dtype: str, directory: pathlib.Path | None = None) -> dict[str, Any]:
        """Read weights into sharded arrays.

        Args:
            dtype: Type in memory, as a config spells it.
            directory: Of another model of this shape, such as a merged one.
        """
        directory = directory or self.directory
        shardings = sharding.parameter_shardings(self.declarations, self.mesh)
        with LateProgress("load", "MiB") as progress:
            return checkpoint.load(
                directory,
                self.declarations,
                shardings,
                dtype,
                on_tensor=lambda done, total: progress.reach(done >> 20, total >> 20),
            )


def open_base(config: ml_collections.ConfigDict) -> Base:
    """Find and describe the base model.

    Args:
        config: The run's config.

    Raises:
        UserError: It does not exist, is not supported, or does not fit the mesh.
    """
    directory = locate(config)
    model = read_config(directory)
    mesh = sharding.make_mesh(**config.mesh)
    sharding.check_heads(model.heads, model.kv_heads, mesh)
    return Base(config.model.path, directory, model, decoder.declare(model), mesh)


def locate(config: ml_collections.ConfigDict, weights: bool = True) -> pathlib.Path:
    """Return the base model's directory, downloaded from the hub if it has to be.

    Args:
        config: The run's config.
        weights: Whether its weights are needed, too.
    """
    if config.model.path.startswith(PREFIX):
        return resolve(config.model.path)
    return hub.locate(config.model.path, config.model.revision, weights)
