"""PEFT's `adapter_config.json`, read as PEFT itself understands it.

Source: peft 0.21.2, `LoraConfig`, `check_target_module_exists` and `get_pattern_key`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from lora_jax.errors import UserError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."  # Of every tensor's name, before the module's path in the base model.
OUTSIDE = ("model.embed_tokens", "lm_head")  # What has a matrix, but is in no decoder layer.
ALL_LINEAR = "all-linear"  # Stands for every linear map but the output projection.

# Fields that change nothing about what a trained adapter computes.
_INERT = {
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "inference_mode",
    "loftq_config",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
}
# First values that leave the base model as it is. The others take away from its weights what they
# put into the factors, or freeze one of them.
_INITS = (True, False, None, "gaussian", "eva", "orthogonal")

_Value = TypeVar("_Value")


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """Hold what an adapter's configuration says.

    Attributes:
        path: The file.
        rank: Of what no pattern matches.
        alpha: Likewise.
        dropout: Probability that an input element is left out of the update in training.
        rslora: Whether the scale is alpha / sqrt(rank).
        targets: A regular expression, "all-linear", or module paths and their endings.
        excluded: Modules that are left out: a regular expression, or paths and their endings.
        layers: The layers that endings select in; None for all.
        layers_patterns: What comes before a layer's number in a module's path; empty for anything.
        ranks: Ranks by regular expression for the end of a module's path; the first one decides.
        alphas: Alphas likewise.
    """

    path: pathlib.Path
    rank: int
    alpha: float
    dropout: float
    rslora: bool
    targets: str | tuple[str, ...]
    excluded: str | tuple[str, ...]
    layers: tuple[int, ...] | None
    layers_patterns: tuple[str, ...]
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]

    def adapts(self, module: str) -> bool:
        """Return whether a module is adapted.

        Args:
            module: Its path in the base model, "model.layers.3.mlp.up_proj".
        """
        if isinstance(self.excluded, str):
            if self.excluded and re.fullmatch(self.excluded, module):
                return False
        elif _is_or_ends_with(module, self.excluded):
            return False
        if isinstance(self.targets, str):
            if self.targets.lower() == ALL_LINEAR:
                return module not in OUTSIDE
            return re.fullmatch(self.targets, module) is not None
        # A module named by its whole path is adapted whatever its layer.
        if module in self.targets:
            return True
        return _is_or_ends_with(module, self.targets) and self._in_layers(module)

    def rank_of(self, module: str) -> int:
        """Return the rank of an adapted module."""
        return _first_match(self.ranks, module, self.rank)

    def alpha_of(self, module: str) -> float:
        """Return the alpha of an adapted module."""
        return _first_match(self.alphas, module, self.alpha)

    def _in_layers(self, module: str) -> bool:
        if not self.layers:
            return True
        patterns = [rf"(?:^|.*?\.){pattern}" for pattern in self.layers_patterns]
        for pattern in patterns or [r".*?\.[^.]*"]:
            if match := re.match(rf"{pattern}\.(?P<layer>\d+)\.", module):
                return int(match["layer"]) in self.layers
        return False


def read_adapter_config(path: pathlib.Path) -> AdapterConfig:
    """Read an adapter's configuration.

    Args:
        path: An `adapter_config.json`.

    Raises:
        UserError: It is missing or broken, or asks for something that is not supported.
    """
    fields = _read_json(path)
    _refuse_unsupported(fields, path)
    values = {name: rule.read(fields.get(name), name, path) for name, rule in _RULES.items()}
    if isinstance(values["target_modules"], str) and (
        values["layers_to_transform"] is not None or values["layers_pattern"] is not None
    ):
        raise UserError(
            f"{path}: layers_to_transform and layers_pattern cannot go with target_modules as a "
            "regular expression; write the layers into it."
        )
    if values["layers_pattern"] and values["layers_to_transform"] is None:
        raise UserError(
            f"{path}: layers_pattern {values['layers_pattern']!r} means nothing without "
            "layers_to_transform; set both or neither."
        )
    config = AdapterConfig(
        path,
        rank=values["r"],
        alpha=values["lora_alpha"],
        dropout=float(values["lora_dropout"] or 0),
        rslora=bool(values["use_rslora"]),
        targets=_string_or_tuple(values["target_modules"]),
        excluded=_string_or_tuple(values["exclude_modules"] or ""),
        layers=_tuple_or_none(values["layers_to_transform"]),
        layers_patterns=_tuple_or_none(values["layers_pattern"] or None) or (),
        ranks=values["rank_pattern"] or {},
        alphas=values["alpha_pattern"] or {},
    )
    _check_expressions(config)
    return config


class _Rule(NamedTuple):
    holds: Callable[[Any], bool]
    allowed: str

    def read(self, value: Any, name: str, path: pathlib.Path) -> Any:
        if not self.holds(value):
            raise UserError(f"{path}: {name} is {value!r}; it must be {self.allowed}.")
        return value


def _is_rank(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_layer(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_alpha(value: Any) -> bool:
    return _is_number(value) and value != 0


def _is_string(value: Any) -> bool:
    return type(value) is str and bool(value)


def _each(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: type(value) is list and all(map(holds, value))


def _by_string(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: type(value) is dict and all(map(holds, value.values()))


def _or_absent(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or holds(value)


def _either(*tests: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: any(holds(value) for holds in tests)


_RULES = {
    "r": _Rule(_is_rank, "a whole number, 1 or more"),
    "lora_alpha": _Rule(_is_alpha, "a finite number other than 0"),
    "lora_dropout": _Rule(
        _or_absent(lambda value: _is_number(value) and 0 <= value < 1), "a number from 0 to below 1"
    ),
    "use_rslora": _Rule(_or_absent(lambda value: type(value) is bool), "true or false"),
    "target_modules": _Rule(
        _either(_is_string, lambda value: value != [] and _each(_is_string)(value)),
        "a regular expression, 'all-linear', or a list of modules",
    ),
    "exclude_modules": _Rule(
        _or_absent(_either(lambda value: type(value) is str, _each(_is_string))),
        "a regular expression or a list of modules",
    ),
    "layers_to_transform": _Rule(
        _or_absent(_either(_is_layer, _each(_is_layer))), "a layer or a list of layers"
    ),
    "layers_pattern": _Rule(
        _or_absent(_either(lambda value: type(value) is str, _each(_is_string))),
        "a pattern or a list of patterns",
    ),
    "rank_pattern": _Rule(
        _or_absent(_by_string(_is_rank)), "ranks, each a whole number and 1 or more, by pattern"
    ),
    "alpha_pattern": _Rule(
        _or_absent(_by_string(_is_alpha)), "finite numbers other than 0, by pattern"
    ),
}


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path.parent} has no {path.name}: give a PEFT adapter's directory.")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); save the adapter again with PEFT's save_pretrained."
        ) from error
    if not isinstance(fields, dict):
        raise UserError(f"{path} must hold a JSON object; it is no adapter's configuration.")
    return fields


def _refuse_unsupported(fields: Mapping[str, Any], path: pathlib.Path) -> None:
    """Refuse by name what would change the computation, known or not."""
    kind, init, task = (fields.get(f) for f in ("peft_type", "init_lora_weights", "task_type"))
    if kind != "LORA":
        raise UserError(f"{path}: peft_type {kind!r} is not supported; use an adapter with 'LORA'.")
    if init not in _INITS:
        raise UserError(
            f"{path}: init_lora_weights {init!r} is not supported, as such an adapter fits changed "
            "base weights; convert it with PEFT's path_initial_model_for_weight_conversion."
        )
    if task not in (None, "CAUSAL_LM"):
        raise UserError(f"{path}: task_type {task!r} is not supported; it must be 'CAUSAL_LM'.")
    if (bias := fields.get("bias", "none")) != "none":
        raise UserError(f"{path}: bias {bias!r} is not supported; train the adapter with 'none'.")
    handled = _INERT | _RULES.keys() | {"peft_type", "init_lora_weights", "task_type", "bias"}
    for name, value in fields.items():
        if name not in handled and value not in (None, False, "", [], {}):
            raise UserError(
                f"{path}: {name} {value!r} is not supported; use an adapter without it."
            )


def _check_expressions(config: AdapterConfig) -> None:
    """Compile every regular expression once, so that a broken one is met here."""
    expressions = {
        "target_modules": [config.targets] if isinstance(config.targets, str) else [],
        "exclude_modules": [config.excluded] if isinstance(config.excluded, str) else [],
        "layers_pattern": config.layers_patterns,
        "rank_pattern": config.ranks,
        "alpha_pattern": config.alphas,
    }
    for name, texts in expressions.items():
        for text in texts:
            try:
                re.compile(text)
            except re.error as error:
                raise UserError(
                    f"{config.path}: {name} {text!r} is no regular expression ({error}); correct it."
                ) from None


def _is_or_ends_with(module: str, names: tuple[str, ...]) -> bool:
    return any(module == name or module.endswith(f".{name}") for name in names)


def _first_match(patterns: Mapping[str, _Value], module: str, default: _Value) -> _Value:
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def _string_or_tuple(value: str | list[str]) -> str | tuple[str, ...]:
    return value if isinstance(value, str) else tuple(value)


def _tuple_or_none(value: Any) -> tuple[Any, ...] | None:
    if value is None:
        return None
    return tuple(value) if isinstance(value, list) else (value,)
