"""Load evaluation sets: files of prompts, and benchmarks from the hub or from a file."""

import hashlib
import importlib.util
import json
import pathlib
from collections.abc import Iterator

from lora_jax.data.dataset import read_dataset
from lora_jax.data.files import read_file
from lora_jax.errors import UserError
from lora_jax.evaluation.benchmarks import BENCHMARKS, Benchmark
from lora_jax.evaluation.graders.choice import LETTERS
from lora_jax.evaluation.suite import KINDS, EvaluationPrompt, EvaluationSet


def load_set(
    source: str | pathlib.Path,
    kind: str | None = None,
    name: str | None = None,
    max_prompts: int = 0,
) -> EvaluationSet:
    """Load an evaluation set.

    A source is a file of prompts (JSONL, JSON, CSV or Parquet), the name of a benchmark, which is then
    loaded from the hub, or `benchmark:path`, which reads it from a local file. `kind:path` is a file
    of prompts of that kind. A row of such a file has the string `prompt`; problems also have
    the string `answer`, graded by its last number; `held_out` may name the row's stratum. Other
    fields are left alone.

    Args:
        source: text as above, or the path of a file of prompts.
        kind: one of `KINDS`, for a file of prompts whose source does not say it; a benchmark has to be
            of that kind.
        name: of the set; by default the benchmark's, or the file's without its suffix.
        max_prompts: keep only the first so many rows; 0 keeps all.

    Returns:
        The set, in the order of the source.

    Raises:
        UserError: if the kind is unknown or another one, the file or dataset cannot be read, is empty or
            has a bad row, or a library that grades it is missing.
    """
    if kind is not None and kind not in KINDS:
        raise UserError(f"unknown kind of evaluation set {kind!r}: choose from {', '.join(KINDS)}")
    prefix, colon, rest = (
        source.partition(":") if isinstance(source, str) else ("", "", str(source))
    )
    if prefix in BENCHMARKS:
        path = pathlib.Path(rest) if colon else None
        return _load_benchmark(BENCHMARKS[prefix], path, kind, name, max_prompts)
    if prefix in KINDS and colon:
        kind, source = prefix, rest
    return _load_file(pathlib.Path(source), kind, name, max_prompts)


def _load_file(
    path: pathlib.Path, kind: str | None, name: str | None, max_prompts: int
) -> EvaluationSet:
    _check_file(path)
    if kind is None:
        raise UserError(
            f"{path} does not say what its prompts are: write KIND:{path}, where KIND is one of "
            f"{', '.join(KINDS)}"
        )
    prompts = tuple(_prompt(row, kind, f"{path} row {number}") for number, row in read_file(path))
    if not prompts:
        raise UserError(f"the evaluation set {path} has no rows: give it at least one prompt")
    return EvaluationSet(name or path.stem, kind, prompts[: max_prompts or None])


def _load_benchmark(
    benchmark: Benchmark,
    path: pathlib.Path | None,
    kind: str | None,
    name: str | None,
    max_prompts: int,
) -> EvaluationSet:
    if kind not in (None, benchmark.kind):
        raise UserError(
            f"the benchmark {benchmark.name} is of the kind {benchmark.kind}, not {kind}: give it a "
            "name of its own among the evaluation sets"
        )
    module = benchmark.grader.module
    if module and importlib.util.find_spec(module) is None:
        raise UserError(
            f"the benchmark {benchmark.name} is graded with {module}, which is not installed: "
            'run pip install "lora_jax[eval]"'
        )
    if path is not None:
        _check_file(path)
    prompts = tuple(_benchmark_prompts(benchmark, path))
    if not prompts:
        raise UserError(f"{path or benchmark.hub.dataset} holds no prompt of {benchmark.name}")
    return EvaluationSet(
        name or benchmark.name,
        benchmark.kind,
        prompts[: max_prompts or None],
        benchmark.grader,
        benchmark,
    )


def _check_file(path: pathlib.Path) -> None:
    if not path.exists():
        raise UserError(
            f"no evaluation set at {path}: check the path in the config, or name a benchmark "
            f"({', '.join(BENCHMARKS)})"
        )


def _prompt(row: dict, kind: str, origin: str) -> EvaluationPrompt:
    answer = None
    if kind == "problems":
        answer = _string(row, "answer", origin)
        _check_answer(answer, EvaluationSet.grader, "answer", origin)
    held_out = None if row.get("held_out") is None else _string(row, "held_out", origin)
    return EvaluationPrompt(_string(row, "prompt", origin), answer, held_out)


def _benchmark_prompts(
    benchmark: Benchmark, path: pathlib.Path | None
) -> Iterator[EvaluationPrompt]:
    """Read a benchmark's rows and put them into its words."""
    hub = benchmark.hub
    if path is None:
        rows, place = read_dataset(hub.dataset, split=hub.split, subset=hub.subset), hub.dataset
    else:
        rows, place = read_file(path), str(path)
    for number, row in rows:
        origin = f"{place} row {number}"
        # A subset of the hub is already what `only` selects from the original file.
        if benchmark.only and not (hub.subset and path is None):
            column, value = benchmark.only
            if _string(row, column, origin) != value:
                continue
        column = next((name for name in benchmark.prompt if name in row), benchmark.prompt[0])
        question = _string(row, column, origin)
        answer = _answer(row, benchmark, origin)
        if benchmark.wrong_choices:
            wrong = [_string(row, name, origin).strip() for name in benchmark.wrong_choices]
            question, answer = _with_choices(question, answer, wrong)
        prompt = question + f"\n{benchmark.instruction}" * bool(benchmark.instruction)
        yield EvaluationPrompt(prompt, answer)


def _answer(row: dict, benchmark: Benchmark, origin: str) -> str | None:
    """Return the expected answer: a number or formula, or the text of the right choice."""
    if not benchmark.answer:
        return None
    value = row.get(benchmark.answer)
    if type(value) is int:  # some files write numbers as numbers
        row = row | {benchmark.answer: str(value)}
    answer = _string(row, benchmark.answer, origin)
    if benchmark.answer_marker:
        _, marker, answer = answer.rpartition(benchmark.answer_marker)
        if not marker:
            raise UserError(
                f'{origin}: field "{benchmark.answer}" has no {benchmark.answer_marker}: write the '
                "expected answer behind it"
            )
    if not benchmark.wrong_choices:
        _check_answer(answer, benchmark.grader, benchmark.answer, origin)
    return answer.strip()


def _with_choices(question: str, right: str, wrong: list[str]) -> tuple[str, str]:
    """Return the question with its choices, and the letter of the right one.

    The order depends on the question and its choices alone, so that a model is asked the same before
    and after training and on every machine, whatever else is evaluated.
    """

    def digest(choice: str) -> bytes:
        return hashlib.sha256(f"{question}\n{choice}".encode()).digest()

    choices = sorted([right, *wrong], key=digest)
    lines = [f"{letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=True)]
    return "\n".join([question.strip(), "", *lines, ""]), LETTERS[choices.index(right)]


def _check_answer(answer: str, grader, field: str, origin: str) -> None:
    if not grader.accepts(answer):
        raise UserError(
            f'{origin}: field "{field}" holds no {grader.expects} ({answer!r}): problems are graded '
            f"by {grader.expects}"
        )


def _string(row: dict, field: str, origin: str) -> str:
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        found = "is missing" if field not in row else f"is {json.dumps(value, default=str)[:40]}"
        raise UserError(f'{origin}: field "{field}" {found}: give it a string that is not empty')
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(
            f'{origin}: field "{field}" holds half a surrogate pair: write the whole character'
        ) from None
    return value
