"""What holds for every grader: only a complete answer after a closed think block can be right."""

import pytest

from lora_jax.evaluation.graders import CHOICE, GSM8K, MATHEMATICS, NUMBER
from lora_jax.evaluation.response import Generation, split

GRADERS = (NUMBER, GSM8K, MATHEMATICS, CHOICE)


@pytest.mark.parametrize("grader", GRADERS, ids=lambda grader: grader.name)
@pytest.mark.parametrize(
    ("text", "finish_reason", "strict", "think_block"),
    [
        ("It is {wrong}.</think>It is {right}.", "stop", True, False),
        ("It is {right}.</think>It is {wrong}.", "stop", False, True),
        ("It is {right}.</think>It is {right}.", "length", False, True),
        ("It is {right}.", "stop", False, True),  # never closed
        ("It is {right}.", "length", False, False),
        ("</think>It is {right}.", "stop", True, False),
        ("", "stop", False, False),
    ],
)
def test_think_block_and_answer_are_graded_apart(grader, text, finish_reason, strict, think_block):
    right, wrong = ("B", "C") if grader is CHOICE else ("5", "6")
    text = text.replace("{right}", f"\\boxed{{{right}}}").replace("{wrong}", f"\\boxed{{{wrong}}}")
    response = split(Generation(text, finish_reason, 1))
    assert grader.is_right(response, right) is strict
    assert grader.is_thought_right(response, right) is think_block


@pytest.mark.parametrize("grader", GRADERS, ids=lambda grader: grader.name)
def test_what_cannot_be_expected_is_not_accepted(grader):
    assert not grader.accepts(" ")
    assert grader.accepts("B" if grader is CHOICE else "5")
