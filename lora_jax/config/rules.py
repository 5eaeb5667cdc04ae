"""The values that each field may take."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_collections

from lora_jax.config.fields import default_config, new_entry
from lora_jax.config.naming import OPEN, flatten, split_entry, unknown_field
from lora_jax.errors import UserError
from lora_jax.lora.targets import check_layers, parse_target


def validate(config: ml_collections.ConfigDict) -> None:
    """Check every field's presence, type and range.

    Raises:
      UserError: naming the first field that is wrong, its value, and what is allowed.
    """
    fields = flatten(config)
    expected = _expected(fields)
    for name in expected:
        if name not in fields:
            raise UserError(f"config.{name} is missing; start from default_config().")
    for name, value in fields.items():
        if name not in expected:
            raise unknown_field(name, expected)
        rule = _rule(name)
        if type(value) is not type(expected[name]) or not rule.holds(value):
            raise UserError(f"config.{name} is {value!r}; it must be {rule.allowed}.")


def _expected(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that there have to be, with values of their types."""
    entries = dict.fromkeys(parts[:2] for name in fields if (parts := split_entry(name)))
    for place in OPEN:
        if not any(found == place for found, _ in entries):
            raise UserError(f"config.{place} is empty; add an entry to it.")
    expected = {n: v for n, v in flatten(default_config()).items() if not split_entry(n)}
    for place, entry in entries:
        expected |= flatten({f"{place}.{entry}": new_entry(place)})
    return expected


class _Rule(NamedTuple):
    holds: Callable[[Any], bool]
    allowed: str


def _one_of(*choices: str) -> _Rule:
    return _Rule(choices.__contains__, "one of " + ", ".join(f"'{choice}'" for choice in choices))


def _at_least(lowest: int) -> _Rule:
    return _Rule(lambda value: value >= lowest, f"a whole number, {lowest} or more")


def _targets(targets: tuple[str, ...]) -> bool:
    for target in targets:
        parse_target(target)  # raises with a sentence of its own
    return bool(targets)


def _layers(layers: str) -> bool:
    check_layers(layers)
    return True


def _take(text: str) -> bool:
    return bool(re.fullmatch(r"all|\d+|\d+(\.\d+)?%", text))


def _rule(name: str) -> _Rule:
    parts = split_entry(name)
    if parts is None:
        return _RULES[name]
    return _SOURCE_RULES[parts[2]] if parts[2] else _TEXT


_TEXT = _Rule(lambda value: True, "text")
_PATH = _Rule(lambda value: bool(value.strip()), "a path, not empty")
_FLAG = _Rule(lambda value: True, "true or false")
_SEED = _Rule(lambda value: 0 <= value < 2**31, "a whole number from 0 to 2147483647")
_DTYPE = _one_of("float32", "bfloat16")
# Written so that NaN, for which every comparison is false, is refused by each of them.
_POSITIVE = _Rule(lambda value: 0 < value < math.inf, "a finite number above 0")
_NOT_NEGATIVE = _Rule(lambda value: 0 <= value < math.inf, "a finite number, 0 or more")
_SHARE = _Rule(lambda value: 0 <= value < 1, "a number from 0 to below 1")

_RULES = {
    "model.path": _PATH,
    "model.revision": _TEXT,
    "model.dtype": _DTYPE,
    "data.format": _one_of("template", "paper"),
    "data.supervise": _one_of("completion", "whole_sequence"),
    "data.max_length": _at_least(2),
    "data.overlong": _one_of("error", "drop", "truncate"),
    "data.allow_overlap": _FLAG,
    "data.enable_thinking": _FLAG,
    "data.template_date": _Rule(lambda value: bool(value.strip()), "a date as text, not empty"),
    "data.packing": _FLAG,
    "data.batch_size": _at_least(1),
    "data.batch_parts": _at_least(1),
    "data.epochs": _at_least(1),
    "data.seed": _SEED,
    "train.mode": _one_of("lora", "full"),
    "train.learning_rate": _POSITIVE,
    "train.schedule": _one_of("cosine", "constant"),
    "train.warmup_steps": _at_least(0),
    "train.max_steps": _at_least(0),
    "train.weight_decay": _NOT_NEGATIVE,
    "train.clip_norm": _POSITIVE,
    "train.b1": _SHARE,
    "train.b2": _SHARE,
    "train.eps": _POSITIVE,
    "train.seed": _SEED,
    "train.remat": _one_of("none", "full"),
    "train.log_every": _at_least(1),
    "lora.rank": _at_least(1),
    "lora.alpha": _POSITIVE,
    "lora.rslora": _FLAG,
    "lora.dropout": _SHARE,
    "lora.targets": _Rule(_targets, "a tuple of targets, not empty"),
    "lora.layers": _Rule(_layers, "layers"),
    "lora.adapter": _TEXT,
    "mesh.data": _Rule(lambda value: value == -1 or value >= 1, "-1 or a whole number, 1 or more"),
    "mesh.fsdp": _at_least(1),
    "mesh.tensor": _at_least(1),
    "checkpoint.every_steps": _at_least(0),
    "checkpoint.keep_last": _at_least(1),
    "checkpoint.keep_best": _at_least(0),
    "evaluation.max_prompts": _at_least(0),
    "evaluation.batch_size": _at_least(1),
    "evaluation.max_new_tokens": _at_least(1),
    "evaluation.temperature": _NOT_NEGATIVE,
    "evaluation.top_p": _Rule(lambda value: 0 < value <= 1, "a number above 0 and up to 1"),
    "evaluation.seed": _SEED,
    "compare.learning_rates": _Rule(
        lambda rates: (
            bool(rates)
            and len(set(rates)) == len(rates)
            and all(isinstance(rate, float) and 0 < rate < math.inf for rate in rates)
        ),
        "different numbers above 0",
    ),
    "compare.refusal": _Rule(lambda value: 0 <= value <= 1, "a number from 0 to 1"),
    "inspect.rows": _at_least(0),
    "plan.topology": _TEXT,
    "export.dtype": _DTYPE,
    "export.model_dtype": _one_of("base", "float32", "bfloat16", "float16"),
    "export.partners": _FLAG,
}

_SOURCE_RULES = {
    "path": _PATH,
    "split": _Rule(lambda value: bool(value.strip()), "the name of a split, not empty"),
    "subset": _TEXT,
    "revision": _TEXT,
    "take": _Rule(
        _take,
        "'all', a number of rows such as '250', or a share of the mixture such as '25%'",
    ),
    "prompt": _TEXT,
    "response": _TEXT,
    "messages": _TEXT,
    "thinking": _one_of("own", "own_or_fixed", "fixed", "empty", "none"),
    "fixed_thinking": _TEXT,
}
