"""Compile the training step from shapes alone."""

from __future__ import annotations

import dataclasses
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from jax.sharding import Mesh

from lora_jax.lora.adapter import AdapterSpec
from lora_jax.models.config import DecoderConfig
from lora_jax.models.parameters import Tree, tree_map
from lora_jax.planning.chips import Chip, find_chip
from lora_jax.planning.memory import (
    StateMemory,
    StepMemory,
    chip_bytes,
    measure,
    read_refusal,
)
from lora_jax.planning.program import Program
from lora_jax.sharding import batch_sharding, parameter_shardings, replicated
from lora_jax.training.optimizer import make_optimizer
from lora_jax.training.step import TrainState, make_step

_BATCH = {
    "tokens": jnp.int32,
    "targets": jnp.int32,
    "loss_mask": jnp.bool_,
    "positions": jnp.int32,
    "segment_ids": jnp.int32,
}


@dataclasses.dataclass(frozen=True)
class Trial:
    """Say what compiling the step for one batch size found.

    Attributes:
        batch_size: B.
        memory: Of one chip.
        fits: Whether a chip has that much.
        seconds: That the compiler took.
        program: What was compiled; None where the compiler refused.
    """

    batch_size: int
    memory: StepMemory
    fits: bool
    seconds: float
    program: Program | None

    @property
    def used(self) -> int:
        """Return the bytes that the step takes on one chip."""
        return self.memory.total


class PlannedStep:
    """Compile a run's training step for devices that need not be there.

    Attributes:
        chip: What is known of each device.
        state: Bytes on one chip that stay from step to step.
        step: The step, as a run has it.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        model: DecoderConfig,
        declarations: Tree,
        spec: AdapterSpec | None,
        mesh: Mesh,
    ):
        """Describe everything that the step takes, but the batch.

        Args:
            config: The run's config.
            model: The decoder.
            declarations: Its parameters.
            spec: The adapter; None in full fine-tuning.
            mesh: Of the devices to compile for.
        """
        self._config, self._mesh = config, mesh
        trainable = declarations if spec is None else spec.declare(declarations)
        optimizer = make_optimizer(config.train, max(1, config.train.max_steps), trainable)
        self._frozen = _shapes({} if spec is None else declarations, mesh, config.model.dtype)
        self._state = _state_shapes(trainable, optimizer, mesh)
        trained = chip_bytes(self._state.trainable)
        self.chip: Chip = find_chip(mesh.devices.flat[0])
        self.state = StateMemory(
            weights=trained if spec is None else chip_bytes(self._frozen),
            adapter=0 if spec is None else trained,
            optimizer=chip_bytes(self._state.optimizer),
        )
        self.step = make_step(
            model,
            optimizer,
            spec=spec,
            compute_dtype=jnp.dtype(config.model.dtype),
            remat=config.train.remat,
            parts=config.data.batch_parts,
            shardings=jax.tree.map(lambda leaf: leaf.sharding, self._state),
        )

    def arguments(self, batch_size: int) -> tuple[TrainState, dict[str, Any], dict[str, Any]]:
        """Return the shapes of all that the step takes: state, frozen weights, batch.

        Args:
            batch_size: B, over all devices; a multiple of the ways in which batches are split.
        """
        shape, split = (batch_size, self._config.data.max_length), batch_sharding(self._mesh)
        batch = {
            name: jax.ShapeDtypeStruct(shape, dtype, sharding=split)
            for name, dtype in _BATCH.items()
        }
        return self._state, self._frozen, batch

    def compile(self, batch_size: int) -> Trial:
        """Compile the step for batches of [batch_size, config.data.max_length].

        Args:
            batch_size: As for `arguments`.
        """
        start = time.monotonic()
        trial = functools.partial(Trial, batch_size)
        try:
            with jax.set_mesh(self._mesh):
                lowered = self.step.lower(*self.arguments(batch_size))
                compiled = lowered.compile(compiler_options=self._options())
        except jax.errors.JaxRuntimeError as error:
            refused = read_refusal(self.state, str(error))
            if refused is None:
                raise
            return trial(refused, False, time.monotonic() - start, None)
        seconds = time.monotonic() - start
        memory = measure(self.state, compiled)
        fits = memory.total <= self.chip.memory
        return trial(memory, fits, seconds, Program(compiled.as_text()))

    def _options(self) -> dict[str, Any] | None:
        # The step asks for what suits the compiler of this machine, which is not a TPU's.
        is_tpu = self._mesh.devices.flat[0].platform == "tpu"
        return {"xla_disable_hlo_passes": ""} if is_tpu else None


def _shapes(declarations: Tree, mesh: Mesh, dtype: str) -> dict[str, Any]:
    """Return the shapes of declared parameters, with their shardings."""
    return tree_map(
        lambda leaf, split: jax.ShapeDtypeStruct(leaf.shape, jnp.dtype(dtype), sharding=split),
        declarations,
        parameter_shardings(declarations, mesh),
    )


def _state_shapes(
    trainable: Tree, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """Return the shapes of a run's state; what mirrors a parameter is split as it is."""
    parameters = _shapes(trainable, mesh, "float32")
    state = jax.eval_shape(lambda start: TrainState.start(start, optimizer, 0), parameters)
    everywhere = replicated(mesh)

    def whole(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere)

    mirrored = optax.tree.map_params(
        optimizer,
        lambda _, parameter: parameter,
        state.optimizer,
        parameters,
        transform_non_params=whole,
    )
    return TrainState(parameters, mirrored, whole(state.step), whole(state.key))
