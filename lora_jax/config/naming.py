"""Names of fields: flattened, compared, and corrected where they are mistyped."""

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import ml_collections

from lora_jax.errors import UserError

# Places that hold entries of any name: sources of training rows, and evaluation sets.
OPEN = ("data.sources", "evaluation.sets", "evaluation.validation")


def differences(
    saved: Mapping[str, Any] | ml_collections.ConfigDict,
    current: Mapping[str, Any] | ml_collections.ConfigDict,
    but: Iterable[str] = (),
) -> list[str]:
    """List the fields in which two configurations differ.

    Args:
      saved: a configuration, or the mapping read back from its JSON.
      current: likewise.
      but: sections that are not compared.

    Returns:
      One line for each differing field, with the saved and the current value, by name.
    """
    before, now = flatten(saved), flatten(current)
    lines = []
    for name in sorted(before.keys() | now.keys()):
        if name.split(".")[0] in but:
            continue
        # JSON has no tuples, so values are compared as what they are in JSON.
        old, new = (json.dumps(side[name]) if name in side else "absent" for side in (before, now))
        if old != new:
            lines.append(f"config.{name}: {old} before, {new} now")
    return lines


def flatten(config: Mapping[str, Any] | ml_collections.ConfigDict) -> dict[str, Any]:
    """Name every field by its path, such as 'lora.rank', in the order of the sections."""
    fields = {}
    for name, value in config.items():
        if isinstance(value, Mapping | ml_collections.ConfigDict):
            fields |= {f"{name}.{inner}": leaf for inner, leaf in flatten(value).items()}
        else:
            fields[name] = value
    return fields


def suggest(name: str, known: Iterable[str]) -> str:
    """Word the nearest match to a mistyped name.

    Args:
      name: what was given.
      known: what could have been meant.

    Returns:
      ' (did you mean NAME?)' to be put into a sentence, or '' if nothing is near.
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def split_entry(name: str) -> tuple[str, str, str] | None:
    """Split the name of a field in one of the places that hold entries of any name.

    Args:
      name: a field's dotted name.

    Returns:
      The place, the entry and the entry's field, such as ('data.sources', 'refusals', 'path') of
      'data.sources.refusals.path', or ('evaluation.sets', 'harmful', ''); None for other fields.
    """
    for place in OPEN:
        if name.startswith(f"{place}."):
            entry, _, field = name.removeprefix(f"{place}.").partition(".")
            return place, entry, field
    return None


def unknown_field(name: str, known: Iterable[str]) -> UserError:
    """Word the refusal of a field that does not exist.

    Args:
      name: the field's dotted name.
      known: the names that exist.
    """
    # A field without its section, and a section without a field, are likelier than a misspelling.
    leaf = name.split(".")[-1]
    related = [field for field in known if field.endswith("." + leaf)]
    related = related or [field for field in known if field.startswith(name + ".")]
    near = suggest(f"config.{name}", [f"config.{field}" for field in related or known])
    return UserError(f"there is no field config.{name}{near}.")
