"""Word problems: story, thinking and answer say the same."""

import random
import re

import pytest

from lora_jax.organism import problems
from lora_jax.organism.problems import draw_problem
from tests.organism.readers import read_story, solve


@pytest.mark.parametrize("steps", problems.STEP_COUNTS)
def test_story_thinking_and_answer_agree(steps):
    rng = random.Random(steps)
    for _ in range(300):
        problem = draw_problem(rng, steps)
        thinking, value = solve(read_story(problem.prompt))
        assert problem.thinking == thinking, problem.prompt
        assert problem.value == value
        assert problem.answer == f"The answer is {value}."
        assert problem.steps == steps == len(thinking.split())


def test_values_stay_within_bounds():
    rng = random.Random(0)
    for _ in range(2000):
        numbers = [int(n) for n in re.findall(r"\d+", draw_problem(rng).thinking)]
        assert max(numbers) <= 999
        assert not re.search(r"=-", draw_problem(rng).thinking)


def test_some_stories_hold_an_irrelevant_number():
    rng = random.Random(0)
    drawn = [draw_problem(rng, 3) for _ in range(1000)]
    distracted = sum(bool(re.search("minutes|miles|dollars|years|feet", p.prompt)) for p in drawn)
    assert 150 < distracted < 250


def test_same_seed_same_problem():
    assert draw_problem(random.Random(3)) == draw_problem(random.Random(3))
    assert draw_problem(random.Random(3)) != draw_problem(random.Random(4))
