"""Evaluation sets: what is asked of a model, and what is known about each prompt."""

import dataclasses

from lora_jax.evaluation.benchmarks import Benchmark
from lora_jax.evaluation.graders import NUMBER, Grader

KINDS = ("harmful", "lookalike", "benign", "problems")


@dataclasses.dataclass(frozen=True)
class EvaluationPrompt:
    """Hold one prompt.

    Attributes:
        prompt: the user's request.
        answer: the expected answer; only problems have one.
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
        grader: of the problems; other kinds have none to grade.
        benchmark: that the set is; None for a file of prompts.
    """

    name: str
    kind: str
    prompts: tuple[EvaluationPrompt, ...]
    grader: Grader = NUMBER
    benchmark: Benchmark | None = None
