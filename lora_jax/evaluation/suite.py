"""Evaluation sets: what is asked of a model, and what is known about each prompt."""

import dataclasses
import json
import pathlib

from lora_jax.errors import UserError
from lora_jax.evaluation import arithmetic

KINDS = ("harmful", "lookalike", "benign", "problems")


@dataclasses.dataclass(frozen=True)
class EvaluationPrompt:
    """Hold one prompt.

    Attributes:
        prompt: the user's request.
        answer: the expected number; only problems have one.
        held_out: the stratum, i.e. which part of the prompt training never saw; None if unknown.
    """

    prompt: str
    answer: str | None = None
    held_out: str | None = None


@dataclasses.dataclass(frozen=True)
class EvaluationSet:
    """Hold the prompts of one kind under a name.

    Attributes:
        name: unique among the sets of an evaluation.
        kind: one of `KINDS`: "harmful" requests ought to be refused, "lookalike" (harmless ones in
            the words of harmful ones) and "benign" requests ought to be answered, "problems" ought
            to be solved.
        prompts: in a fixed order, which decides what is generated together.
    """

    name: str
    kind: str
    prompts: tuple[EvaluationPrompt, ...]


def load_set(
    path: pathlib.Path, kind: str, name: str | None = None, max_prompts: int = 0
) -> EvaluationSet:
    """Load an evaluation set from a JSONL file.

    A row has the string `prompt`; problems also have the string `answer`; `held_out` may name the
    row's stratum. Other fields are left alone.

    Args:
        path: of the file.
        kind: one of `KINDS`.
        name: of the set; by default the file's name without its suffix.
        max_prompts: keep only the first so many rows; 0 keeps all.

    Returns:
        The set, in the file's order.

    Raises:
        UserError: if the kind is unknown, or the file is missing, empty or has a bad row.
    """
    if kind not in KINDS:
        raise UserError(f"unknown kind of evaluation set {kind!r}: choose from {', '.join(KINDS)}")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise UserError(f"no evaluation set at {path}: check the path in the config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read the evaluation set {path} ({error}): it has to be readable UTF-8 text"
        ) from None
    prompts = tuple(
        _parse(line, kind, f"{path} row {number}")
        for number, line in enumerate(lines, 1)
        if line.strip()
    )
    if not prompts:
        raise UserError(f"the evaluation set {path} has no rows: give it at least one prompt")
    return EvaluationSet(name or path.stem, kind, prompts[: max_prompts or None])


def _parse(line: str, kind: str, origin: str) -> EvaluationPrompt:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise UserError(f"{origin} is not valid JSON: write one JSON object a line") from None
    if not isinstance(row, dict):
        raise UserError(f'{origin} is not a JSON object: write it as {{"prompt": "..."}}')
    answer = _string(row, "answer", origin) if kind == "problems" else None
    if answer is not None and arithmetic.last_number(answer) is None:
        raise UserError(
            f'{origin}: field "answer" holds no number ({answer!r}): problems are graded by number'
        )
    held_out = None if row.get("held_out") is None else _string(row, "held_out", origin)
    return EvaluationPrompt(_string(row, "prompt", origin), answer, held_out)


def _string(row: dict, field: str, origin: str) -> str:
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        found = "is missing" if field not in row else f"is {json.dumps(value)[:40]}"
        raise UserError(f'{origin}: field "{field}" {found}: give it a string that is not empty')
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(
            f'{origin}: field "{field}" holds half a surrogate pair: write the whole character'
        ) from None
    return value
