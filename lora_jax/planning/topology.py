"""The devices of a TPU slice that is not there, to compile for."""

from __future__ import annotations

import importlib.util
import math
import os
import re

import jax
from jax.experimental import topologies

from lora_jax.errors import UserError

_PLANE = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBE = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8")
_SQUARE = ("2x2", "4x4", "4x8", "8x8", "8x16", "16x16")
# Slices to suggest where a name is wrong; libtpu knows more of the large ones.
_SLICES = {
    "v2": _SQUARE,
    "v3": _SQUARE,
    "v4": _CUBE,
    "v5e": _PLANE,
    "v5p": _CUBE,
    "v6e": _PLANE,
    "tpu7x": _CUBE,
}
# libtpu asks the machine which TPU it is on, complains where it is on none, and is used to having it
# to itself; here it only compiles.
_ENVIRONMENT = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


def find_devices(name: str) -> list[jax.Device]:
    """Describe the devices of a topology; programs can be compiled for them, and nothing run.

    Args:
        name: Such as "v5e:2x4"; '' for this machine's own devices.

    Raises:
        UserError: There is no such topology, or libtpu, which knows them, is not installed.
    """
    if not name:
        return jax.devices()
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            f"config.plan.topology={name!r} needs TPU's compiler, libtpu, which is not installed; "
            "install it with pip install -e '.[tpu]'."
        )
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    # Nothing runs on this machine's accelerators, so they are left to others.
    jax.config.update("jax_platforms", "cpu")
    # One chip is the only slice smaller than the part of a host that libtpu takes for granted.
    bounds = {"chips_per_host_bounds": (1, 1, 1)} if name.endswith(":1x1") else {}
    try:
        topology = topologies.get_topology_desc(platform="tpu", topology_name=name, **bounds)
    except jax.errors.JaxRuntimeError as error:
        if "INVALID_ARGUMENT" not in str(error):
            reason = str(error).splitlines()[0]
            raise UserError(f"TPU's compiler, libtpu, does not start: {reason}") from error
        raise UserError(
            f"there is no TPU topology {name!r}{_near(name)} (config.plan.topology)."
        ) from error
    return list(topology.devices)


def _near(name: str) -> str:
    """Word the topologies that could have been meant."""
    generation, _, shape = name.partition(":")
    if generation not in _SLICES:
        return (
            f"; such are {', '.join(f'{known}:{slices[2]}' for known, slices in _SLICES.items())}"
        )
    chips = math.prod(map(int, re.findall(r"\d+", shape)))
    by_size = sorted(_SLICES[generation], key=lambda one: abs(_chips(one) - chips))
    return f"; near it are {', '.join(f'{generation}:{one}' for one in by_size[:3])}"


def _chips(shape: str) -> int:
    return math.prod(map(int, shape.split("x")))
