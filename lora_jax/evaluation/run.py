"""Run an evaluation: generate in fixed batches, survive being killed, grade, write the scores."""

import dataclasses
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

from lora_jax.errors import UserError
from lora_jax.evaluation.measure import SetResult, grade
from lora_jax.evaluation.response import Generation
from lora_jax.evaluation.suite import EvaluationSet
from lora_jax.workdir import write_atomically

Generate = Callable[[list[str]], Sequence[Generation]]
OnBatch = Callable[[int, int, int], None]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Hold the results on all sets, in the order of the sets."""

    results: tuple[SetResult, ...]

    def scores(self) -> dict:
        """Return what `scores.json` holds."""
        return {"sets": {result.set.name: result.scores() for result in self.results}}


@dataclasses.dataclass(frozen=True)
class _Request:
    """Say which prompt a line of generations.jsonl answers."""

    set: str
    index: int
    prompt: str


def evaluate(
    sets: Sequence[EvaluationSet],
    generate: Generate,
    directory: pathlib.Path,
    *,
    batch_size: int,
    on_batch: OnBatch = lambda done, total, tokens: None,
) -> Evaluation:
    """Evaluate a model on the given sets, or finish an evaluation that was interrupted.

    Every batch is written to `generations.jsonl` before the next one starts. What a batch consists of
    depends on the sets and `batch_size` alone, so a run that was killed and run again writes
    the same bytes as one that was not, as long as `generate` depends on its prompts alone.

    Args:
        sets: with unique names.
        generate: gives one generation for each prompt of a batch; the last batch may be smaller.
        directory: of `generations.jsonl` and `scores.json`; made if missing.
        batch_size: prompts given to `generate` at once.
        on_batch: called as `on_batch(done, total, tokens)` with the prompts done so far, all
            prompts, and the tokens just generated; first before any generation, with 0 tokens.

    Returns:
        The results, which `scores.json` then holds as well.

    Raises:
        UserError: if `batch_size` is below 1, set names repeat, or the generations on disk are damaged
            or belong to other prompts.
        OSError: if the directory cannot be written; carries the path.
    """
    if batch_size < 1:
        raise UserError(f"the evaluation's batch size is {batch_size}: it has to be at least 1")
    requests = _requests(sets)
    path = directory / "generations.jsonl"
    directory.mkdir(parents=True, exist_ok=True)
    generations = _resume(path, requests, batch_size)
    on_batch(len(generations), len(requests), 0)
    while len(generations) < len(requests):
        batch = requests[len(generations) : len(generations) + batch_size]
        made = _generate(generate, [request.prompt for request in batch])
        _append(path, b"".join(map(_encode, batch, made)))
        generations += made
        on_batch(len(generations), len(requests), sum(generation.tokens for generation in made))
    evaluation = Evaluation(tuple(_grade(sets, iter(generations))))
    scores = json.dumps(evaluation.scores(), indent=1, ensure_ascii=False) + "\n"
    write_atomically(directory / "scores.json", scores)
    return evaluation


def _requests(sets: Sequence[EvaluationSet]) -> list[_Request]:
    names = [evaluation_set.name for evaluation_set in sets]
    if len(set(names)) < len(names):
        raise UserError(f"evaluation sets need different names, but these are {', '.join(names)}")
    return [
        _Request(evaluation_set.name, index, prompt.prompt)
        for evaluation_set in sets
        for index, prompt in enumerate(evaluation_set.prompts)
    ]


def _generate(generate: Generate, prompts: list[str]) -> list[Generation]:
    made = list(generate(prompts))
    if len(made) != len(prompts):
        raise ValueError(f"generate gave {len(made)} texts for {len(prompts)} prompts")
    for generation in made:
        if generation.finish_reason not in ("stop", "length"):
            raise ValueError(f"unknown finish reason {generation.finish_reason!r}")
    return made


def _grade(sets: Sequence[EvaluationSet], generations: Iterator[Generation]) -> Iterator[SetResult]:
    for evaluation_set in sets:
        yield grade(
            evaluation_set, tuple(itertools.islice(generations, len(evaluation_set.prompts)))
        )


def _resume(path: pathlib.Path, requests: list[_Request], batch_size: int) -> list[Generation]:
    """Read the whole batches on disk, and cut off what a kill left behind them."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    lines = content.split(b"\n")[:-1]  # what follows the last newline is a torn line, or nothing
    if len(lines) > len(requests):
        raise _foreign(path, len(requests) + 1)
    generations = [
        _decode(line, request, path, number)
        for number, (line, request) in enumerate(zip(lines, requests), 1)
    ]
    whole = len(lines) if len(lines) == len(requests) else len(lines) // batch_size * batch_size
    size = sum(len(line) + 1 for line in lines[:whole])
    if size < len(content):
        os.truncate(path, size)
    return generations[:whole]


def _append(path: pathlib.Path, content: bytes) -> None:
    try:
        with path.open("ab") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        # Failing writes, unlike failing opens, do not say of which file.
        error.filename = str(path)
        raise


def _encode(request: _Request, generation: Generation) -> bytes:
    row = dataclasses.asdict(request) | {
        "text": generation.text,
        "finish_reason": generation.finish_reason,
        "tokens": generation.tokens,
    }
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def _decode(line: bytes, request: _Request, path: pathlib.Path, number: int) -> Generation:
    try:
        row = json.loads(line)
        found = _Request(row["set"], row["index"], row["prompt"])
        generation = Generation(row["text"], row["finish_reason"], row["tokens"])
    except (ValueError, TypeError, KeyError):
        raise UserError(
            f"{path} row {number} is damaged: delete the file, and it will be generated anew"
        ) from None
    if found != request:
        raise _foreign(path, number)
    return generation


def _foreign(path: pathlib.Path, number: int) -> UserError:
    return UserError(
        f"{path} row {number} belongs to other prompts than those to be evaluated: "
        "choose another workdir, or delete the file to generate anew"
    )
