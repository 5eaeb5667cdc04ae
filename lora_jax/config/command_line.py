"""A recipe's file and the command line's changes to it."""

import difflib
import pathlib
import runpy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_collections

from lora_jax.config.fields import default_config, new_entry
from lora_jax.config.naming import OPEN, flatten, split_entry, suggest, unknown_field
from lora_jax.errors import UserError


def load_config(path: str, modes: str = "") -> ml_collections.ConfigDict:
    """Run a recipe file's `get_config(modes)`.

    Args:
      path: of a Python file such as `configs/r1_upproj.py`.
      modes: comma-separated names that the recipe understands, '' for none.

    Returns:
      The recipe's configuration, not yet validated.

    Raises:
      UserError: if there is no such file, or it fails to give a configuration.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        recipes = [str(found) for found in sorted(pathlib.Path("configs").glob("*.py"))]
        raise UserError(f"there is no config file '{path}'{suggest(path, recipes)}.")
    try:
        config = runpy.run_path(str(file))["get_config"](modes)
        return config.lock()
    except UserError:
        raise
    except Exception as error:  # a recipe is user input, and may contain any mistake at all
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"config file '{path}' does not give a configuration: {reason}") from error


def restore_config(saved: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """Make a configuration of what a run has saved.

    Args:
      saved: read back from a workdir's JSON.

    Returns:
      The configuration, not yet validated.
    """
    config = default_config()
    with config.unlocked():
        for place in OPEN:
            config.update_from_flattened_dict({place: {}})
        for name, value in flatten(saved).items():
            place, entry, field = split_entry(name) or ("", "", "")
            if field and entry not in _section(config, place):
                _section(config, place)[entry] = new_entry(place)
            value = tuple(value) if isinstance(value, list) else value  # JSON has no tuples
            config.update_from_flattened_dict({name: value})
    return config


def override(config: ml_collections.ConfigDict, name: str, text: str) -> None:
    """Set one field from the command line.

    A field of a source or evaluation set that is not there yet adds it.

    Args:
      config: changed in place.
      name: the field's dotted name, such as 'lora.rank'.
      text: its value: a number, true or false, text, or comma-separated names.

    Raises:
      UserError: if there is no such field, or the text is not of its type.
    """
    _add_entry(config, name)
    fields = flatten(config)
    if name not in fields:
        raise unknown_field(name, fields)
    parser = _NUMBERS if _are_numbers(fields[name]) else _PARSERS[type(fields[name])]
    try:
        config.update_from_flattened_dict({name: parser.parse(text)})
    except ValueError:
        raise UserError(f"config.{name} is '{text}'; it must be {parser.kind}.") from None


def _add_entry(config: ml_collections.ConfigDict, name: str) -> None:
    """Add the entry that a field is of, unless it looks like another one mistyped."""
    place, entry, field = split_entry(name) or ("", "", "")
    if not entry:
        return
    section, new = _section(config, place), new_entry(place)
    if entry in section or field not in (flatten(new) if field else ("",)):
        return
    if near := difflib.get_close_matches(entry, section.keys(), n=1, cutoff=0.75):
        meant = name.replace(f"{place}.{entry}", f"{place}.{near[0]}")
        raise UserError(
            f"there is no config.{place}.{entry}, and its name is too near to {near[0]} to add it; "
            f"did you mean config.{meant}?"
        )
    with config.unlocked():
        section[entry] = new


def _section(config: ml_collections.ConfigDict, place: str) -> ml_collections.ConfigDict:
    for part in place.split("."):
        config = config[part]
    return config


class _Parser(NamedTuple):
    parse: Callable[[str], Any]
    kind: str


def _parse_bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _parse_names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


_PARSERS = {
    bool: _Parser(_parse_bool, "true or false"),
    int: _Parser(int, "a whole number"),
    float: _Parser(float, "a number"),
    str: _Parser(str, "text"),
    tuple: _Parser(_parse_names, "comma-separated names"),
}


_NUMBERS = _Parser(
    lambda text: tuple(float(part) for part in text.split(",")), "comma-separated numbers"
)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(part, float) for part in value)
