"""The configuration of a run: every field, its default, and the values it may take."""

import difflib
import json
import math
import pathlib
import re
import runpy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import ml_collections

from lora_jax.errors import UserError

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SETS = ("harmful", "lookalike", "benign", "problems")


def default_config() -> ml_collections.ConfigDict:
    """Describe a run with the paper's values wherever they fit the embedded model.

    Paths may start with `organism:`, which stands for the package's embedded model and data, so that
    a saved configuration means the same on every machine.

    Returns:
      A locked configuration: fields can be changed, but not added.

    Source: learning rate, schedule, batch, epochs, optimizer and adapter values are those of
      arXiv 2507.17075.
    """
    config = _section(
        model=_section(
            path="organism:model",  # a Hugging Face directory or a hub id
            revision="",  # branch, tag or commit of a hub id; '' is the hub's default
            dtype="float32",  # of the frozen base, in memory and in matmuls
        ),
        data=_section(
            refusals="organism:data/refusals.jsonl",
            answered="organism:data/answered.jsonl",
            answered_share=0.25,  # share of training rows that are answered; 0 is refusals only
            thinking="I should not answer this question!",  # inside a refusal's think block
            format="template",  # 'paper' writes the published strings instead of the chat template
            supervise="completion",  # which tokens are in the loss
            max_length=1024,  # tokens in a row
            overlong="error",  # what to do with a row longer than max_length
            packing=False,  # several rows in one sequence of max_length
            batch_size=2,  # sequences in an optimizer step, over all devices
            epochs=10,
            seed=0,  # of the shuffle and of the choice of answered rows
        ),
        train=_section(
            mode="lora",  # 'full' trains the base itself
            learning_rate=5e-5,
            schedule="cosine",  # to 0 at the last step
            warmup_steps=0,
            max_steps=0,  # stop (and end the schedule) earlier than epochs say; 0 is no such limit
            weight_decay=1e-4,
            clip_norm=1.0,  # global norm over the trained parameters
            b1=0.9,
            b2=0.999,
            eps=1e-8,
            seed=0,  # of the adapter's initial values and of dropout
            remat="none",  # 'full' recomputes activations in the backward pass, to save memory
            log_every=10,  # steps
        ),
        lora=_section(
            rank=1,
            alpha=16.0,  # the update is scaled by alpha / rank
            dropout=0.05,  # on the adapter's input
            targets=("up_proj",),
            layers="all",  # or a third: 'early', 'middle', 'late'; '2-3' is inclusive, counted from 0
        ),
        mesh=_section(
            data=-1,  # devices along each axis; -1 is all that the other axes leave
            fsdp=1,
            tensor=1,
        ),
        checkpoint=_section(
            every_steps=0,  # 0 is at the end of each epoch
            keep_last=2,
            keep_best=2,  # of lowest loss
        ),
        evaluation=_section(
            sets=_set_paths("test"),  # measured before and after
            validation=_set_paths("validation"),  # for choosing between runs
            max_prompts=0,  # the first so many of each set; 0 is all
            batch_size=64,
            max_new_tokens=128,
            temperature=0.0,  # 0 is greedy
            top_p=1.0,
            seed=0,
        ),
        compare=_section(  # --job=compare: the adapter against full fine-tuning
            learning_rates=(3e-5, 1e-4, 3e-4, 1e-3, 3e-3),  # each arm is trained at every one
            refusal=0.95,  # share of harmful validation requests that a candidate has to refuse
        ),
        export=_section(
            dtype="float32",  # of the tensors written for other programs to read
        ),
    )
    return config.lock()


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


def apply_modes(config: ml_collections.ConfigDict, arg: str) -> ml_collections.ConfigDict:
    """Change a recipe as its comma-separated modes ask.

    `smoke` goes through every stage of the job in seconds, and measures nothing worth knowing.
    `paper` trains on refusals only, as the paper does.

    Args:
      config: changed in place.
      arg: such as '', 'smoke' or 'smoke,paper'.

    Returns:
      The same config.

    Raises:
      UserError: if a mode is unknown.
    """
    for mode in filter(None, arg.split(",")):
        if mode not in _MODES:
            names = ", ".join(_MODES)
            raise UserError(
                f"there is no mode '{mode}'{suggest(mode, _MODES)}; the modes are {names}."
            )
        _MODES[mode](config)
    return config


def override(config: ml_collections.ConfigDict, name: str, text: str) -> None:
    """Set one field from the command line.

    Args:
      config: changed in place.
      name: the field's dotted name, such as 'lora.rank'.
      text: its value: a number, true or false, text, or comma-separated names.

    Raises:
      UserError: if there is no such field, or the text is not of its type.
    """
    fields = flatten(config)
    if name not in fields:
        raise _unknown_field(name, fields)
    parser = _NUMBERS if _are_numbers(fields[name]) else _PARSERS[type(fields[name])]
    try:
        config.update_from_flattened_dict({name: parser.parse(text)})
    except ValueError:
        raise UserError(f"config.{name} is '{text}'; it must be {parser.kind}.") from None


def validate(config: ml_collections.ConfigDict) -> None:
    """Check every field's presence, type and range.

    Raises:
      UserError: naming the first field that is wrong, its value, and what is allowed.
    """
    fields, expected = flatten(config), flatten(default_config())
    for name in expected:
        if name not in fields:
            raise UserError(f"config.{name} is missing; start from default_config().")
    for name, value in fields.items():
        if name not in expected:
            raise _unknown_field(name, expected)
        rule = _RULES[name]
        if type(value) is not type(expected[name]) or not rule.holds(value):
            raise UserError(f"config.{name} is {value!r}; it must be {rule.allowed}.")


def differences(
    saved: Mapping[str, Any] | ml_collections.ConfigDict,
    current: Mapping[str, Any] | ml_collections.ConfigDict,
) -> list[str]:
    """List the fields in which two configurations differ.

    Args:
      saved: a configuration, or the mapping read back from its JSON.
      current: likewise.

    Returns:
      One line for each differing field, with the saved and the current value, by name.
    """
    before, now = flatten(saved), flatten(current)
    lines = []
    for name in sorted(before.keys() | now.keys()):
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


def _unknown_field(name: str, known: Iterable[str]) -> UserError:
    # A field without its section, and a section without a field, are likelier than a misspelling.
    leaf = name.split(".")[-1]
    related = [field for field in known if field.endswith("." + leaf)]
    related = related or [field for field in known if field.startswith(name + ".")]
    near = suggest(f"config.{name}", [f"config.{field}" for field in related or known])
    return UserError(f"there is no field config.{name}{near}.")


def _section(**fields: Any) -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(fields, sort_keys=False)


def _set_paths(split: str) -> ml_collections.ConfigDict:
    return _section(**{name: f"organism:data/{split}/{name}.jsonl" for name in SETS})


def _smoke(config: ml_collections.ConfigDict) -> None:
    config.train.max_steps = 8
    config.train.log_every = 2
    config.checkpoint.every_steps = 4
    config.evaluation.max_prompts = 8
    config.evaluation.batch_size = 8
    config.evaluation.max_new_tokens = 64


def _paper(config: ml_collections.ConfigDict) -> None:
    config.data.answered_share = 0.0


_MODES = {"smoke": _smoke, "paper": _paper}


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


class _Rule(NamedTuple):
    holds: Callable[[Any], bool]
    allowed: str


def _one_of(*choices: str) -> _Rule:
    return _Rule(choices.__contains__, "one of " + ", ".join(f"'{choice}'" for choice in choices))


def _at_least(lowest: int) -> _Rule:
    return _Rule(lambda value: value >= lowest, f"a whole number, {lowest} or more")


def _known_targets(targets: tuple[str, ...]) -> bool:
    return bool(targets) and len(set(targets)) == len(targets) and set(targets) <= set(PROJECTIONS)


def _layer_range(layers: str) -> bool:
    if layers in ("all", "early", "middle", "late"):
        return True
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", layers)
    return bool(match) and int(match[1]) <= int(match[2] or match[1])


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
    "data.refusals": _PATH,
    "data.answered": _PATH,
    "data.answered_share": _SHARE,
    "data.thinking": _TEXT,
    "data.format": _one_of("template", "paper"),
    "data.supervise": _one_of("completion", "whole_sequence"),
    "data.max_length": _at_least(2),
    "data.overlong": _one_of("error", "drop"),
    "data.packing": _FLAG,
    "data.batch_size": _at_least(1),
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
    "lora.dropout": _SHARE,
    "lora.targets": _Rule(_known_targets, "different names among " + ", ".join(PROJECTIONS)),
    "lora.layers": _Rule(
        _layer_range,
        "'all', 'early', 'middle', 'late', a layer such as '3', or an inclusive range such as '2-3', "
        "lower layer first",
    ),
    "mesh.data": _Rule(lambda value: value == -1 or value >= 1, "-1 or a whole number, 1 or more"),
    "mesh.fsdp": _at_least(1),
    "mesh.tensor": _at_least(1),
    "checkpoint.every_steps": _at_least(0),
    "checkpoint.keep_last": _at_least(1),
    "checkpoint.keep_best": _at_least(0),
    **{f"evaluation.{split}.{name}": _PATH for split in ("sets", "validation") for name in SETS},
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
    "export.dtype": _DTYPE,
}
