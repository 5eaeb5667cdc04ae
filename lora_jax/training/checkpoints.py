"""Checkpoints of a run: everything that changes in training, saved asynchronously with Orbax."""

from __future__ import annotations

import errno
import os
import pathlib
import shutil
from typing import Any, Self

import jax
from orbax.checkpoint import v1 as ocp

from lora_jax.errors import UserError
from lora_jax.models.parameters import Tree
from lora_jax.training.step import TrainState

METADATA_BYTES = 2**20  # A checkpoint's directories and descriptions, generously.


class Checkpoints:
    """Save, retain and restore training states together with the position in the data.

    A checkpoint appears under its final name only when it is whole, so that a kill in the middle of
    a save leaves the one before it as the latest.

    Args:
        directory: Where they go.
        keep_last: How many of the latest to keep.
        keep_best: How many of those with the lowest loss to keep besides.
    """

    def __init__(self, directory: pathlib.Path, keep_last: int, keep_best: int):
        policies = ocp.training.preservation_policies
        kept = [policies.LatestN(keep_last)]
        if keep_best:
            best = policies.BestN(
                get_metric_fn=lambda metrics: -metrics["loss"],
                n=keep_best,
                # One that a kill left half deleted has lost them, and would be kept for ever.
                keep_checkpoints_without_metrics=False,
            )
            kept.append(best)
        self._checkpointer = ocp.training.Checkpointer(
            directory.absolute(),
            preservation_policy=policies.AnyPreservationPolicy(kept),
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception) -> None:
        self._checkpointer.close()

    @property
    def steps(self) -> list[int]:
        """Return the steps of the checkpoints present, ascending."""
        return [checkpoint.step for checkpoint in self._checkpointer.checkpoints]

    def save(self, step: int, state: TrainState, data_position: dict[str, Any], loss: float):
        """Start saving; training goes on meanwhile.

        Args:
            step: Steps taken.
            state: What to save.
            data_position: The batch iterator's state after this step's batch; JSON-able.
            loss: Mean training loss since the last save, which tells the best.

        Raises:
            OSError: The disk has no room for it. Asked beforehand, because Orbax's threads meet a
                full disk with tracebacks of their own.
        """
        self._check_room(state)
        self._checkpointer.save_checkpointables_async(
            step,
            {"state": state},
            metrics={"loss": loss},
            custom_metadata={"data_position": data_position},
            force=True,
        )

    def _check_room(self, state: TrainState) -> None:
        needed = sum(x.nbytes for x in jax.tree.leaves(state)) + METADATA_BYTES
        directory = os.fspath(self._checkpointer.directory)
        if shutil.disk_usage(directory).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), directory)

    def wait(self) -> None:
        """Return when what was saved is on the disk."""
        self._checkpointer.wait()

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """Read the latest checkpoint.

        Args:
            like: A state with the arrays' shapes, types and shardings.

        Returns:
            The state and the data position, or None where nothing was saved yet.

        Raises:
            UserError: A checkpoint exists but cannot be read.
        """
        latest = self._checkpointer.latest
        if latest is None:
            return None
        state = self._load(latest, jax.tree.map(_abstract, like))
        return state, self._checkpointer.metadata(latest).custom_metadata["data_position"]

    def restore_trainable(self, like: Tree) -> tuple[int, Tree] | None:
        """Read what was trained from the latest checkpoint, without the optimizer's state.

        Args:
            like: The trainable tree's shapes, types and shardings.

        Returns:
            The step and the tree, or None where nothing was saved yet.

        Raises:
            UserError: A checkpoint exists but cannot be read.
        """
        latest = self._checkpointer.latest
        if latest is None:
            return None
        context = ocp.Context()
        context.pytree.loading.partial_load = True
        with context:
            state = self._load(latest, {"trainable": jax.tree.map(_abstract, like)})
        return latest.step, state["trainable"]

    def _load(self, latest: Any, abstract: Any) -> Any:
        try:
            return self._checkpointer.load_checkpointables(latest, {"state": abstract})["state"]
        except (OSError, ValueError, KeyError) as error:
            path = self._checkpointer.directory / str(latest.step)
            raise UserError(
                f"checkpoint {path} cannot be read ({_root(error)}); "
                "delete that directory to go on from the one before it."
            ) from error


def _root(error: BaseException) -> str:
    """Return what went wrong first, in a line; Orbax wraps it in several layers."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _abstract(x: jax.Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
