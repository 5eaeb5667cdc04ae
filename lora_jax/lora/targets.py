"""What a user may write to say where an adapter goes: targets, and layers."""

from __future__ import annotations

import dataclasses
import difflib
import re

from lora_jax.errors import UserError

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
GROUPS = {"attention": PROJECTIONS[:4], "mlp": PROJECTIONS[4:], "all": PROJECTIONS}
THIRDS = ("early", "middle", "late")

_NAMES = (
    {name: (name,) for name in PROJECTIONS}
    | {name.removesuffix("_proj"): (name,) for name in PROJECTIONS}
    | GROUPS
)


@dataclasses.dataclass(frozen=True)
class Target:
    """Say which projections are adapted, and with what rank.

    Attributes:
        text: As the user wrote it.
        names: The projections; empty where there is a pattern.
        pattern: What a module's whole path has to match, as Hugging Face names it; or None.
        rank: R of these projections; None for the adapter's own.
    """

    text: str
    names: tuple[str, ...] = ()
    pattern: re.Pattern[str] | None = None
    rank: int | None = None

    def covers(self, module: str) -> bool:
        """Return whether it means a module, such as "model.layers.3.mlp.up_proj"."""
        if self.pattern is not None:
            return self.pattern.fullmatch(module) is not None
        return module.rpartition(".")[2] in self.names


def parse_target(text: str) -> Target:
    """Read a target, without knowing the model.

    Args:
        text: A projection ("up_proj", or short "up"), a group ("attention", "mlp", "all"), or
            "re:" and a regular expression for whole module paths; ":8" at the end gives rank 8.

    Raises:
        UserError: The text is none of these.
    """
    match = re.fullmatch(r"(re:)?(.+?)(?::(\d+))?", text)
    if not match:
        raise UserError(
            "config.lora.targets: a target is empty; name a projection, such as up_proj."
        )
    regex, name, rank = match.groups()
    if rank is not None and int(rank) < 1:
        raise UserError(f"config.lora.targets: {text!r} gives rank {rank}; a rank is at least 1.")
    rank = None if rank is None else int(rank)
    if regex:
        return Target(text, pattern=_compile(name, text), rank=rank)
    if name not in _NAMES:
        near = difflib.get_close_matches(name, _NAMES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(
            f"config.lora.targets: {name!r} is no projection; {hint}Choose from "
            f"{', '.join((*PROJECTIONS, *GROUPS))}, or write re: and a regular expression."
        )
    return Target(text, names=_NAMES[name], rank=rank)


def check_layers(text: str) -> None:
    """Check how a choice of layers is written, without knowing the model.

    Args:
        text: As for `parse_layers`.

    Raises:
        UserError: It is written wrong.
    """
    if text != "all" and text not in THIRDS:
        _ranges(text)


def parse_layers(text: str, count: int) -> tuple[int, ...]:
    """Read a choice of layers.

    Args:
        text: "all"; "early", "middle" or "late" for a third of the layers; or a list of layers and
            inclusive ranges, such as "0,3,5-7".
        count: L.

    Returns:
        Layer indices, ascending.

    Raises:
        UserError: The text is none of these, or names a layer that the model does not have.
    """
    if text in THIRDS:
        third = THIRDS.index(text)
        ranges = [(round(third * count / 3), round((third + 1) * count / 3) - 1)]
    else:
        ranges = [(0, count - 1)] if text == "all" else _ranges(text)
    if any(not first <= last < count for first, last in ranges):
        raise UserError(
            f"config.lora.layers={text!r} selects no layers or more than there are; "
            f"this model has layers 0 to {count - 1}."
        )
    return tuple(sorted({i for first, last in ranges for i in range(first, last + 1)}))


def _compile(pattern: str, text: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(
            f"config.lora.targets: {text!r} is no regular expression ({error}); correct it."
        ) from None


def _ranges(text: str) -> list[tuple[int, int]]:
    """Return first and last layer of every range, a single layer being a range of one."""
    matches = [re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part) for part in text.split(",")]
    ranges = [(int(match[1]), int(match[2] or match[1])) for match in matches if match]
    if not all(matches) or any(first > last for first, last in ranges):
        raise UserError(
            f"config.lora.layers={text!r} is no choice of layers; use all, early, middle, late, or a "
            "list of layers and inclusive ranges, lower layer first, as 0,3,5-7."
        )
    return ranges
