"""How much memory a device has, and how fast it can multiply."""

from __future__ import annotations

import os
from typing import NamedTuple

import jax

GIB = 2**30


class Chip(NamedTuple):
    """Describe one device as JAX counts them: half a chip where a chip has two.

    Attributes:
        memory: Bytes of its memory.
        peak: bf16 FLOP/s; None where it is not known.
    """

    memory: int
    peak: float | None


# A TPU of the second, third or seventh generation is two devices.
_CHIPS = {
    "TPU v2": Chip(8 * GIB, 22.5e12),
    "TPU v3": Chip(16 * GIB, 61.5e12),
    "TPU v4": Chip(32 * GIB, 275e12),
    "TPU v5 lite": Chip(16 * GIB, 197e12),
    "TPU v5": Chip(95 * GIB, 459e12),
    "TPU v6 lite": Chip(32 * GIB, 918e12),
    "TPU7x": Chip(96 * GIB, 1153.5e12),
}


def find_chip(device: jax.Device) -> Chip:
    """Return what is known of a device.

    Args:
        device: Of this machine, or of a topology.

    Returns:
        A TPU's published figures; for other devices what the device itself reports, and for a CPU
        the machine's memory, shared by its devices.

    Source: the "key chip specifications" of each version in Google's Cloud TPU documentation.
    """
    if device.device_kind in _CHIPS:
        return _CHIPS[device.device_kind]
    if device.platform == "cpu":
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return Chip(memory // jax.local_device_count(), None)
    return Chip(device.memory_stats()["bytes_limit"], None)
