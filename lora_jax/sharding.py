"""The device mesh, and the one table from logical axes to mesh axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lora_jax.errors import UserError
from lora_jax.models.parameters import Parameter, Tree, flatten, tree_map

MESH_AXES = ("data", "fsdp", "tensor")

# Logical axis -> mesh axes. What is not listed, or maps to None, is replicated.
RULES: dict[str | None, str | tuple[str, ...] | None] = {
    "batch": ("data", "fsdp"),
    "embed": "fsdp",
    "mlp": "tensor",
    "heads": "tensor",
    "kv_heads": "tensor",
    "vocabulary": "tensor",
    "layers": None,
    "rank": None,
}


def make_mesh(
    data: int = -1, fsdp: int = 1, tensor: int = 1, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """Arrange the devices as a mesh with axes data, fsdp and tensor.

    Args:
        data: Copies of the model, each on its own part of the batch; -1 takes what is left.
        fsdp: Ways in which weights and batch are split together; -1 likewise.
        tensor: Ways in which heads and the MLP are split; -1 likewise.
        devices: The devices; all of them by default.

    Raises:
        UserError: The sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [data, fsdp, tensor]
    if sizes.count(-1) > 1:
        raise UserError("config.mesh: only one of data, fsdp and tensor may be -1.")
    known = math.prod(size for size in sizes if size != -1)
    if -1 in sizes and len(devices) % known == 0:
        sizes[sizes.index(-1)] = len(devices) // known
    if math.prod(sizes) != len(devices):
        shape = f"data={data}, fsdp={fsdp}, tensor={tensor}"
        raise UserError(
            f"config.mesh: {shape} does not fill the {len(devices)} devices present; "
            "make the product equal to that number."
        )
    return jax.make_mesh(sizes, MESH_AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def partition(axes: Sequence[str | None]) -> PartitionSpec:
    """Resolve logical axes to a partition over the mesh."""
    return PartitionSpec(*(RULES.get(axis) for axis in axes))


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Pin an intermediate result's layout, where a mesh is in use.

    Args:
        x: The array.
        *axes: Its logical axes, one a dimension.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, partition(axes))


def parameter_shardings(declarations: Tree, mesh: Mesh) -> dict[str, Any]:
    """Return every parameter's sharding on the mesh.

    Raises:
        UserError: A dimension does not divide by the mesh axes that it is split over.
    """
    for path, leaf in flatten(declarations).items():
        _check_divides(path, leaf, mesh)
    return tree_map(lambda leaf: NamedSharding(mesh, partition(leaf.axes)), declarations)


def check_heads(heads: int, kv_heads: int, mesh: Mesh) -> None:
    """Refuse to cut an attention head in two.

    Raises:
        UserError: The tensor axis does not divide the heads.
    """
    tensor = mesh.shape["tensor"]
    if heads % tensor or kv_heads % tensor:
        raise UserError(
            f"config.mesh.tensor={tensor} does not divide the model's {heads} query heads and "
            f"{kv_heads} key/value heads; choose a common divisor of both."
        )


def check_batch(batch_size: int, mesh: Mesh, field: str) -> None:
    """Refuse a batch that does not spread evenly over the data and fsdp axes.

    Raises:
        UserError: It does not divide.
    """
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % ways:
        raise UserError(
            f"{field}={batch_size} does not divide over data x fsdp = {ways} parts; "
            f"use a multiple of {ways}, or give more devices to config.mesh.tensor."
        )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding of anything whose first dimension is the batch."""
    return NamedSharding(mesh, partition(("batch",)))


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def _check_divides(path: str, leaf: Parameter, mesh: Mesh) -> None:
    for size, axis in zip(leaf.shape, leaf.axes, strict=True):
        mesh_axis = RULES.get(axis)
        ways = 1 if mesh_axis is None else mesh.shape[mesh_axis]
        if size % ways:
            raise UserError(
                f"config.mesh.{mesh_axis}={ways} does not divide {path}, whose {axis} axis has "
                f"{size} elements; choose a divisor of {size}."
            )
