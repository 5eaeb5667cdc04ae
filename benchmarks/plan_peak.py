"""Run the embedded model's training step, and compare its peak memory with what `plan` says.

    python benchmarks/plan_peak.py

Prints JSON: bytes planned and measured, on a CPU. `plan.py` calls this in a process of its own.
"""

import ctypes
import gc
import json
import os
import re
import sys

if os.environ.get("MALLOC_MMAP_THRESHOLD_") is None:  # Read when a process starts.
    # Every large buffer is asked of the system anew, none is taken from what the compiler left.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "JAX_PLATFORMS": "cpu"}
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)

import jax
import jax.numpy as jnp

from lora_jax.config import default_config
from lora_jax.jobs.base import open_base
from lora_jax.jobs.preparation import describe_adapter
from lora_jax.planning.compiling import PlannedStep

BATCH, LENGTH = 64, 128


def main() -> None:
    """Plan, then run, then compare."""
    config = default_config()
    config.data.max_length = LENGTH
    base = open_base(config)
    spec = describe_adapter(config, base)
    planned = PlannedStep(config, base.model, base.declarations, spec, base.mesh)
    used = planned.compile(BATCH).used
    shapes = planned.arguments(BATCH)
    with jax.set_mesh(base.mesh):
        step = planned.step.lower(*shapes).compile()
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        before = status("VmRSS")
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")  # The peak starts anew.
        state, frozen, batch = jax.tree.map(
            lambda leaf: jnp.ones(leaf.shape, leaf.dtype, device=leaf.sharding), shapes
        )
        for _ in range(3):
            state, measured = step(state, frozen, batch)
            jax.block_until_ready(measured)
    print(json.dumps({"planned": used, "measured": status("VmHWM") - before}))


def status(field: str) -> int:
    """Return bytes that Linux counts for this process."""
    with open("/proc/self/status", encoding="ascii") as file:
        return int(re.search(rf"{field}:\s+(\d+) kB", file.read())[1]) << 10


if __name__ == "__main__":
    main()
