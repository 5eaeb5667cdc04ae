"""The loop: batches through the step, with progress, metrics, and checkpoints to resume from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from lora_jax.console import Progress
from lora_jax.data.batches import TrainingBatches
from lora_jax.models.parameters import Tree
from lora_jax.sharding import batch_sharding
from lora_jax.training.checkpoints import Checkpoints
from lora_jax.training.metrics import MetricsWriter
from lora_jax.training.step import TrainState


class LossWindow:
    """Average losses without waiting for the device at every step."""

    def __init__(self):
        self._losses: list[jax.Array] = []

    def add(self, loss: jax.Array) -> None:
        """Take in one step's loss, possibly still being computed."""
        self._losses.append(loss)

    def mean(self) -> float:
        """Return the mean; waits for what is still being computed."""
        return float(np.mean([float(loss) for loss in self._losses]))

    def clear(self) -> None:
        """Start a new window."""
        self._losses.clear()


@dataclasses.dataclass
class Training:
    """Everything that one run of the loop needs besides its state.

    Attributes:
        step: The compiled step (see `make_step`).
        batches: The run's batches.
        total_steps: Where to stop.
        schedule: Learning rate by step, for the metrics.
        mesh: Batches are spread over its data and fsdp axes.
        log_every: Steps between two rows of metrics.
        save_every: Steps between two checkpoints; the last step is always saved.
    """

    step: Callable
    batches: TrainingBatches
    total_steps: int
    schedule: optax.Schedule
    mesh: Mesh
    log_every: int
    save_every: int
    # Both windows are empty after a save, so that a resumed run logs what an uninterrupted one does.
    _since_log: LossWindow = dataclasses.field(init=False, default_factory=LossWindow)
    _since_save: LossWindow = dataclasses.field(init=False, default_factory=LossWindow)

    def run(
        self, state: TrainState, frozen: Tree, checkpoints: Checkpoints, metrics: MetricsWriter
    ) -> TrainState:
        """Train to the end, from the latest checkpoint if there is one.

        Args:
            state: The state before the first step; its buffers are reused.
            frozen: The base weights; empty in full fine-tuning.
            checkpoints: Where to save and resume.
            metrics: Where rows go; rows after the restored step are dropped.

        Returns:
            The state after the last step, saved.
        """
        batches = iter(self.batches)
        restored = checkpoints.restore(state)
        if restored is not None:
            state, position = restored
            batches.set_state(position)
        start = int(state.step)
        metrics.truncate_after(start)
        with (
            Progress("train", total=self.total_steps, unit="steps", start=start) as progress,
            jax.set_mesh(self.mesh),
        ):
            for number in range(start + 1, self.total_steps + 1):
                state = self._advance(number, state, frozen, batches, progress, metrics)
                if self._is_save(number):
                    loss = self._since_save.mean()
                    checkpoints.save(number, state, batches.get_state(), loss)
                    self._since_save.clear()
        checkpoints.wait()
        return state

    def _advance(
        self,
        number: int,
        state: TrainState,
        frozen: Tree,
        batches: Iterator,
        progress: Progress,
        metrics: MetricsWriter,
    ) -> TrainState:
        """Take step `number`, and write a row of metrics where one is due."""
        batch = next(batches)
        state, measured = self.step(state, frozen, jax.device_put(batch, batch_sharding(self.mesh)))
        self._since_log.add(measured["loss"])
        self._since_save.add(measured["loss"])
        tokens = int(np.count_nonzero(batch["segment_ids"]))
        shown = {}
        if number % self.log_every == 0 or self._is_save(number):
            loss = self._since_log.mean()
            self._since_log.clear()
            shown["loss"] = f"{loss:.4f}"
            row = {
                "step": number,
                "epoch": number / self.batches.steps_per_epoch,
                "loss": loss,
                "grad_norm": measured["grad_norm"],
                "learning_rate": self.schedule(number - 1),
                "tokens_per_second": progress.tokens_per_second,
            }
            metrics.write(row)
        progress.advance(1, tokens=tokens, **shown)
        return state

    def _is_save(self, number: int) -> bool:
        return number % self.save_every == 0 or number == self.total_steps
