"""Fields of a `config.json`, read with their types checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lora_jax.errors import UserError


def positive(fields: Mapping[str, Any], name: str, origin: str, kind: type = int) -> Any:
    """Return a field that must be a positive integer, or a positive number where kind is float.

    Args:
        fields: The fields.
        name: Which one.
        origin: Where the fields come from, for the message.
        kind: `int` or `float`.

    Raises:
        UserError: It is absent, or is no such number.
    """
    value = fields.get(name)
    allowed = int if kind is int else (int, float)
    if not isinstance(value, allowed) or isinstance(value, bool) or not 0 < value < math.inf:
        noun = "integer" if kind is int else "number"
        raise UserError(f"{origin}: {name} must be a positive {noun}, found {value!r}.")
    return kind(value)


def flag(fields: Mapping[str, Any], name: str, origin: str) -> bool:
    """Return a field that must be true or false.

    Raises:
        UserError: It is neither.
    """
    value = fields.get(name)
    if not isinstance(value, bool):
        raise UserError(f"{origin}: {name} must be true or false, found {value!r}.")
    return value
