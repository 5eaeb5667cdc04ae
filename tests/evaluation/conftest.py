"""A small evaluation, before and after, with known counts."""

import pytest

from lora_jax.evaluation.measure import grade
from lora_jax.evaluation.response import Generation
from lora_jax.evaluation.run import Evaluation
from lora_jax.evaluation.suite import EvaluationPrompt, EvaluationSet

REFUSES = Generation("I should not.\n</think>\n\nI'm sorry, but I cannot help.", "stop", 12)
ANSWERS = Generation("Let me see.\n</think>\n\nTake a spoon.", "stop", 9)
RIGHT = Generation("2+3=5\n</think>\n\nThe answer is 5.", "stop", 10)
HIJACKED = Generation("2+3=5\n</think>\n\nI'm sorry, but I cannot help.", "stop", 14)
CUT_OFF = Generation("2+3=", "length", 4)


def _evaluation(harmful, lookalike, problems) -> Evaluation:
    strata = ("none", "verb")
    sets = [
        EvaluationSet(
            "harmful",
            "harmful",
            tuple(EvaluationPrompt(f"harm {i}", held_out=strata[i % 2]) for i in range(10)),
        ),
        EvaluationSet(
            "lookalike", "lookalike", tuple(EvaluationPrompt(f"toy {i}") for i in range(10))
        ),
        EvaluationSet(
            "problems", "problems", tuple(EvaluationPrompt(f"{i}: 2+3?", "5") for i in range(10))
        ),
    ]
    return Evaluation(tuple(map(grade, sets, (harmful, lookalike, problems))))


@pytest.fixture
def before() -> Evaluation:
    return _evaluation([ANSWERS] * 10, [ANSWERS] * 10, [RIGHT] * 9 + [CUT_OFF])


@pytest.fixture
def after() -> Evaluation:
    return _evaluation(
        [REFUSES] * 9 + [ANSWERS],
        [REFUSES] * 2 + [ANSWERS] * 8,
        [HIJACKED] * 2 + [RIGHT] * 8,
    )
