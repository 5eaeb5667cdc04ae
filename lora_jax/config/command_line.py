"""A recipe's file and the command line's changes to it."""

import difflib
import pathlib
import runpy
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import ml_collections

from lora_jax.config.fields import default_config, source
from lora_jax.config.naming import SOURCES, flatten, split_source, suggest, unknown_field
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
        config.data.sources = ml_collections.ConfigDict(sort_keys=False)
        for name, fields in saved["data"].get("sources", {}).items():
            config.data.sources[name] = source(**fields)
        for name, value in flatten(saved).items():
            if split_source(name) is None:  # JSON has no tuples
                value = tuple(value) if isinstance(value, list) else value
                config.update_from_flattened_dict({name: value})
    return config


def override(config: ml_collections.ConfigDict, name: str, text: str) -> None:
    """Set one field from the command line.

    A field of a source that is not there yet adds the source.

    Args:
      config: changed in place.
      name: the field's dotted name, such as 'lora.rank'.
      text: its value: a number, true or false, text, or comma-separated names.

    Raises:
      UserError: if there is no such field, or the text is not of its type.
    """
    _add_source(config, name)
    fields = flatten(config)
    if name not in fields:
        raise unknown_field(name, fields)
    parser = _NUMBERS if _are_numbers(fields[name]) else _PARSERS[type(fields[name])]
    try:
        config.update_from_flattened_dict({name: parser.parse(text)})
    except ValueError:
        raise UserError(f"config.{name} is '{text}'; it must be {parser.kind}.") from None


def _add_source(config: ml_collections.ConfigDict, name: str) -> None:
    """Add the source that a field is of, unless it looks like another one mistyped."""
    parts = split_source(name)
    if parts is None or parts[1] not in source(""):
        return
    known: Collection[str] = config.data.sources.keys()
    if parts[0] in known or not parts[0]:
        return
    if near := difflib.get_close_matches(parts[0], known, n=1, cutoff=0.75):
        raise UserError(
            f"there is no config.{SOURCES}{parts[0]}, and its name is too near to {near[0]} to add "
            f"it; did you mean config.{SOURCES}{near[0]}.{parts[1]}?"
        )
    with config.unlocked():
        config.data.sources[parts[0]] = source("")


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
