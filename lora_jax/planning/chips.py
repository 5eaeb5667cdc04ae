"""How much memory a device has, and how fast it can multiply."""

from __future__ import annotations

import os
from typing import NamedTuple

import jax

GIB = 2**30


class Chip(NamedTuple):
    """Describe one device as JAX counts them: half a chip where a chip has two.

    Attributes:
        memory: Bytes that a program may use.
        peak: bf16 FLOP/s; None where it is not known.
    """

    memory: int
    peak: float | None


# Of a chip's memory libtpu keeps a little for itself. In its topologies, a TPU of the second to fourth
# generation, or the seventh, is two devices.
_CHIPS = {
    "TPU v2": Chip(int(7.48 * GIB), 22.5e12),
    "TPU v3": Chip(int(15.48 * GIB), 61.5e12),
    "TPU v4": Chip(int(15.25 * GIB), 137.5e12),
    "TPU v5 lite": Chip(int(15.75 * GIB), 197e12),
    "TPU v5": Chip(int(95.74 * GIB), 459e12),
    "TPU v6 lite": Chip(int(31.25 * GIB), 918e12),
    "TPU7x": Chip(int(94.75 * GIB), 1153.5e12),
}


def find_chip(device: jax.Device) -> Chip:
    """Return what is known of a device.

    Args:
        device: Of this machine, or of a topology.

    Returns:
        What the device itself reports, where it is there; for a CPU the machine's memory, shared by
        its devices; for a TPU that is not there the table above.

    Source: memory is what libtpu 0.0.42 says it has when it refuses a program that is too large; the
      rest is from the "key chip specifications" of each version in Google's Cloud TPU documentation.
    """
    known = _CHIPS.get(device.device_kind)
    if device not in jax.local_devices():
        return known
    if device.platform == "cpu":
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return Chip(memory // jax.local_device_count(), None)
    return Chip(device.memory_stats()["bytes_limit"], known and known.peak)
