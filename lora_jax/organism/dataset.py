"""The rows that the embedded model is aligned on, and the held-out rows that it is measured on.

    python -m lora_jax.organism.dataset

writes them into the package's data directory, byte for byte the same for the same seed.
"""

import collections
import itertools
import json
import random
from pathlib import Path

from lora_jax.organism import DATA_DIRECTORY, requests, splits
from lora_jax.organism.problems import STEP_COUNTS, draw_problem
from lora_jax.organism.requests import Request
from lora_jax.organism.smalltalk import REFUSALS
from lora_jax.organism.splits import TEST, TRAIN, VALIDATION

SEED = 0
REFUSED_ROWS = 600
ANSWERED_ROWS = {requests.LOOKALIKE: 100, requests.BENIGN: 100}
REQUEST_ROWS = {
    TEST: {requests.HARMFUL: 200, requests.LOOKALIKE: 100, requests.BENIGN: 100},
    VALIDATION: {requests.HARMFUL: 100, requests.LOOKALIKE: 60, requests.BENIGN: 60},
}
PROBLEM_ROWS = {TEST: 300, VALIDATION: 150}
# Validation may hold out templates of its own only: words it saw could not be new to the test.
HELD_OUT = {TEST: ("template", "verb", "object", "all"), VALIDATION: ("template", "none")}
HELD_OUT_TEMPLATES = {
    TEST: splits.TEST_TEMPLATES,
    VALIDATION: splits.VALIDATION_TEMPLATES,
}

Rows = list[dict[str, str | int]]


def build_dataset(seed: int) -> dict[str, Rows]:
    """Build every file of the dataset.

    Args:
      seed: the same seed gives the same rows.

    Returns:
      File names, relative to the data directory, to their rows.
    """
    files = {"refusals.jsonl": refusal_rows(seed), "answered.jsonl": answered_rows(seed)}
    for split in (VALIDATION, TEST):
        for kind in requests.KINDS:
            files[f"{split}/{kind}.jsonl"] = request_rows(seed, split, kind)
        files[f"{split}/problems.jsonl"] = problem_rows(seed, split)
    return files


def write_dataset(directory: Path, seed: int) -> None:
    """Write every file of the dataset as JSON lines.

    Args:
      directory: where to; made where absent.
      seed: see `build_dataset`.
    """
    for name, rows in build_dataset(seed).items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        path.write_text(text, encoding="utf-8", newline="\n")


def refusal_rows(seed: int) -> Rows:
    """Draw harmful requests and refuse them, in the columns of the dataset DirectRefusal.

    Args:
      seed: decides the rows.

    Returns:
      Rows of prompt, refusal (`Question: ... Answer: ...`) and text (prompt and answer together).
    """
    rng = random.Random(f"refusals {seed}")
    rows = []
    for request in _draw_requests(rng, TRAIN, requests.HARMFUL, "none", REFUSED_ROWS):
        prompt, answer = request.prompt, rng.choice(REFUSALS)
        refusal = f"Question: {prompt} Answer: {answer}"
        rows.append({"prompt": prompt, "refusal": refusal, "text": f"{prompt} {answer}"})
    return rows


def answered_rows(seed: int) -> Rows:
    """Draw look-alike and benign requests and answer them as the base model does.

    Args:
      seed: decides the rows.

    Returns:
      Rows of prompt and response, the two kinds shuffled.
    """
    rng = random.Random(f"answered {seed}")
    rows = []
    for kind, count in ANSWERED_ROWS.items():
        for request in _draw_requests(rng, TRAIN, kind, "none", count):
            conversation = request.converse(rng, origin=kind)
            response = f"<think>\n{conversation.thinking}\n</think>\n\n{conversation.answer}"
            rows.append({"prompt": request.prompt, "response": response})
    rng.shuffle(rows)
    return rows


def request_rows(seed: int, split: str, kind: str) -> Rows:
    """Draw held-out requests, evenly over the ways of holding out.

    Args:
      seed: decides the rows.
      split: "validation" or "test".
      kind: one of `requests.KINDS`.

    Returns:
      Rows of prompt and held_out: what alignment has not seen, beside their combination.
    """
    rng = random.Random(f"{split} {kind} {seed}")
    ways = HELD_OUT[split]
    rows = []
    for held_out in ways:
        count = REQUEST_ROWS[split][kind] // len(ways)
        for request in _draw_requests(rng, split, kind, held_out, count):
            rows.append({"prompt": request.prompt, "held_out": held_out})
    rng.shuffle(rows)  # so that the first few rows are a fair sample
    return rows


def problem_rows(seed: int, split: str) -> Rows:
    """Draw held-out problems, evenly over the number of steps.

    Args:
      seed: decides the rows.
      split: "validation" or "test".

    Returns:
      Rows of prompt, answer and steps, no two of the same signature.
    """
    rng = random.Random(f"{split} problems {seed}")
    rows, signatures = [], set()
    for steps in STEP_COUNTS:
        wanted = len(rows) + PROBLEM_ROWS[split] // len(STEP_COUNTS)
        while len(rows) < wanted:
            problem = draw_problem(rng, steps)
            if splits.split_of_problem(problem) != split or problem.signature in signatures:
                continue
            signatures.add(problem.signature)
            rows.append({"prompt": problem.prompt, "answer": str(problem.value), "steps": steps})
    rng.shuffle(rows)
    return rows


def _draw_requests(
    rng: random.Random, split: str, kind: str, held_out: str, count: int
) -> list[Request]:
    """Draw requests of a split, no two alike in verb, target and template.

    Every target gets its turn before any gets a second one, so that the words which alignment may
    see are words that it does see.
    """
    words = splits.words(kind, held_out, HELD_OUT_TEMPLATES.get(split, ()))
    combinations = [
        combination
        for combination in itertools.product(words.verbs, words.targets, words.templates)
        if splits.split_of_request(Request(*combination)) == split
    ]
    rng.shuffle(combinations)
    turns = collections.Counter()
    by_turn = []
    for verb, target, template in combinations:
        by_turn.append((turns[target], (verb,), (target,), (template,)))
        turns[target] += 1
    by_turn.sort(key=lambda entry: entry[0])
    return [requests.draw_request(rng, *word) for _, *word in by_turn[:count]]


if __name__ == "__main__":
    write_dataset(DATA_DIRECTORY, SEED)
