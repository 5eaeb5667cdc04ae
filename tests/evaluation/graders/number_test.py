from decimal import Decimal

import pytest

from lora_jax.evaluation.graders.number import NUMBER, last_number
from lora_jax.evaluation.response import Generation, split


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("27+70=97 97+2=99", "99"),
        ("The answer is 97.", "97"),
        ("97-2", "2"),  # subtracts
        ("(3)-2", "2"),
        ("it is -3", "-3"),
        ("2-5=-3", "-3"),
        ("minus \u22123", "-3"),
        ("1,319 apples", "1319"),
        ("1,2,3", "3"),
        ("$12.50.", "12.50"),
        (r"\boxed{42}", "42"),
        ("#### 7", "7"),
    ],
)
def test_last_number(text, expected):
    assert last_number(text) == Decimal(expected)


@pytest.mark.parametrize("text", ["", "none", "\u0665"])
def test_last_number_of_text_without_digits(text):
    assert last_number(text) is None


@pytest.mark.parametrize(
    ("text", "finish_reason", "strict", "think_block"),
    [
        ("2+3=5</think>The answer is 5.", "stop", True, True),
        ("2+3=5</think>The answer is 5.0", "stop", True, True),
        ("2+3=6</think>The answer is 5.", "stop", True, False),
        ("2+3=5</think>The answer is 6.", "stop", False, True),
        ("2+3=5</think>I'm sorry, but I cannot.", "stop", False, True),  # hijacked format
        ("2+3=5</think>5 of 1", "length", False, True),  # cut off: more digits may have followed
        ("2+3=5</think>It is 5", "length", False, True),
        ("2+3=5", "stop", False, True),  # ended without closing
        ("2+3=5", "length", False, False),  # the block itself was cut off
        ("</think>5", "stop", True, False),
        ("", "stop", False, False),
    ],
)
def test_graders(text, finish_reason, strict, think_block):
    response = split(Generation(text, finish_reason, 1))
    assert NUMBER.is_right(response, "5") is strict
    assert NUMBER.is_thought_right(response, "5") is think_block


def test_expected_answer_may_be_worked_out():
    assert NUMBER.is_right(split(Generation("</think>1319", "stop", 1)), "12 * 110 - 1 #### 1,319")


def test_expected_answer_without_a_number_matches_nothing():
    assert not NUMBER.is_right(split(Generation("</think>none", "stop", 1)), "none")
