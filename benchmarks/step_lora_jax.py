"""Our side of `step.py`: the parts of the main job that a training step is made of."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from step_worker import Step

from lora_jax.config import default_config
from lora_jax.lora import masks
from lora_jax.lora.adapter import AdapterSpec
from lora_jax.lora.export import export_adapter
from lora_jax.lora.targets import parse_layers
from lora_jax.models import checkpoint, config, decoder
from lora_jax.sharding import batch_sharding, make_mesh, parameter_shardings
from lora_jax.training.optimizer import make_optimizer
from lora_jax.training.step import TrainState, make_step


class Side:
    """Hold the model, and write every adapter so that the other side can start from it."""

    def __init__(self, model: str, scratch: pathlib.Path):
        directory = pathlib.Path(model)
        self._scratch, self._path = scratch, model
        self._model = config.read_config(directory)
        self._declarations = decoder.declare(self._model)
        self._mesh = make_mesh()
        shardings = parameter_shardings(self._declarations, self._mesh)
        self._base = checkpoint.load(directory, self._declarations, shardings)
        self._settings = json.loads((scratch / "settings.json").read_text())
        self.versions = f"jax {jax.__version__}"
        self.device = jax.devices()[0].device_kind
        for dropout in self._settings["dropouts"]:
            spec, factors = self._adapter(dropout)
            to = scratch / f"adapter-{dropout}"
            export_adapter(to, spec, self._declarations, factors, model)

    def batch(self, tokens: np.ndarray, real: np.ndarray, supervised: np.ndarray) -> dict[str, Any]:
        """Return a batch as `TrainingBatches` gives it, from arrays [B, T]."""
        # The last token of a row is a target and never read: here it is read, and has no target.
        following = np.roll(supervised, -1, axis=1)
        following[:, -1] = False
        return {
            "tokens": tokens,
            "targets": np.roll(tokens, -1, axis=1),
            "loss_mask": following,
            "positions": np.cumsum(real, axis=1, dtype=np.int32) - 1,
            "segment_ids": real.astype(np.int32),
        }

    def start(self, dropout: float) -> Step:
        """Return the step of a fresh run."""
        spec, factors = self._adapter(dropout)
        train = default_config().train
        train.schedule = "constant"
        for name in ("learning_rate", "weight_decay", "clip_norm"):
            train[name] = self._settings[name]
        optimizer = make_optimizer(train, 0, spec.declare(self._declarations))
        advance = make_step(self._model, optimizer, spec=spec, compute_dtype=jnp.float32)
        state = TrainState.start(factors, optimizer, seed=0)

        def step(batch: dict[str, np.ndarray]) -> jax.Array:
            nonlocal state
            with jax.set_mesh(self._mesh):
                placed = jax.device_put(batch, batch_sharding(self._mesh))
                state, measured = advance(state, self._base, placed)
            return measured["loss"]

        return step

    def _adapter(self, dropout: float) -> tuple[AdapterSpec, dict[str, Any]]:
        settings = self._settings
        layers = parse_layers(settings["layers"], self._model.layers)
        ranks = masks.select(self._declarations, settings["targets"], layers, settings["rank"])
        spec = AdapterSpec.from_ranks(ranks, settings["alpha"], dropout)
        return spec, spec.initialise(self._declarations, jax.random.key(0))
