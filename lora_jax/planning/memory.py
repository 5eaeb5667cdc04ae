"""The memory of one chip during a step, by what it is for."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import jax

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# How TPU's compiler words that a program does not fit: as a whole, or by what it keeps in between.
_SIZE = r"([\d.]+)([KMGT]?)"
_WHOLE = re.compile(rf"Used {_SIZE} of \S+ hbm")
_BETWEEN = re.compile(rf"HLO temporaries \({_SIZE}\) exceeds available HBM")


@dataclasses.dataclass(frozen=True)
class StateMemory:
    """Hold the bytes on one chip that stay from step to step.

    Attributes:
        weights: The base; in full fine-tuning it is what is trained.
        adapter: The factors.
        optimizer: Its state.
    """

    weights: int
    adapter: int
    optimizer: int

    @property
    def total(self) -> int:
        """Return the sum."""
        return self.weights + self.adapter + self.optimizer


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """Hold the bytes on one chip at a step's worst moment.

    Attributes:
        state: What stays from step to step.
        activations: What the program keeps in between: activations, gradients, gathered weights.
        total: All of it, with the batch, the program itself, and what the compiler pads.
    """

    state: StateMemory
    activations: int
    total: int

    @property
    def rest(self) -> int:
        """Return what is neither state nor activations."""
        return self.total - self.state.total - self.activations


def chip_bytes(shapes: Any) -> int:
    """Return the bytes that one chip holds of a tree.

    Args:
        shapes: Tree of arrays or of shapes, each with its sharding.
    """
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(shapes)
    )


def measure(state: StateMemory, compiled: jax.stages.Compiled) -> StepMemory:
    """Read the memory of a compiled step."""
    found = compiled.memory_analysis()
    total = (
        found.argument_size_in_bytes
        + found.output_size_in_bytes
        - found.alias_size_in_bytes
        + found.temp_size_in_bytes
        + found.generated_code_size_in_bytes
    )
    return StepMemory(state, found.temp_size_in_bytes, total)


def read_refusal(state: StateMemory, message: str) -> StepMemory | None:
    """Read what a program would need that the compiler refused.

    Args:
        state: What stays from step to step.
        message: Of the compiler's error.

    Returns:
        The memory of the step; None where the error is another.
    """
    if found := _WHOLE.search(message):
        used = int(float(found[1]) * _UNITS[found[2]])
        return StepMemory(state, max(0, used - state.total), used)
    if found := _BETWEEN.search(message):
        activations = int(float(found[1]) * _UNITS[found[2]])
        return StepMemory(state, activations, state.total + activations)
    return None
