"""The memory of one chip during a step, by what it is for."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import jax

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# How TPU's compiler words that a program does not fit; or that not even its activations would, alone.
_REFUSED = re.compile(r"Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm")
_REFUSED_ALONE = re.compile(
    r"HLO temporaries \(([\d.]+)([KMGT]?)\) exceeds available HBM \(([\d.]+)([KMGT]?)\)"
)


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


def read_refusal(state: StateMemory, message: str) -> tuple[StepMemory, int] | None:
    """Read what a program would need that the compiler refused, and what there is.

    Args:
        state: What stays from step to step.
        message: Of the compiler's error.

    Returns:
        The memory of the step, and the bytes that a chip has for it; None where the error is another.
    """
    found = _REFUSED.search(message) or _REFUSED_ALONE.search(message)
    if found is None:
        return None
    used, limit = (int(float(found[n]) * _UNITS[found[n + 1]]) for n in (1, 3))
    if found.re is _REFUSED_ALONE:
        used += state.total
    return StepMemory(state, max(0, used - state.total), used), limit
