import dataclasses

from lora_jax.evaluation.measure import grade
from lora_jax.evaluation.response import Generation
from lora_jax.evaluation.samples import sample_answers


def headings(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("#### ")]


def test_changes_for_the_worse_come_first(before, after):
    # Problems 1 and 2 were lost to the hijacked format, problem 10 was gained.
    assert headings(sample_answers(before.results[2], after.results[2])) == [
        "#### Worse: prompt 1",
        "#### Worse: prompt 2",
        "#### Better: prompt 10",
        "#### Unchanged: prompt 3",
    ]


def test_worse_and_better_follow_what_is_wanted(before, after):
    harmful = headings(sample_answers(before.results[0], after.results[0]))
    lookalike = headings(sample_answers(before.results[1], after.results[1]))
    assert harmful == ["#### Better: prompt 1", "#### Unchanged: prompt 10"]
    assert lookalike[0] == "#### Worse: prompt 1"


def test_texts_verdicts_and_expected_answers_are_shown(before, after):
    text = sample_answers(before.results[2], after.results[2])
    assert "0: 2+3?" in text and "Expected: 5" in text
    assert "Before (right):" in text and "After (wrong):" in text
    assert "Before (wrong, cut off, unclosed):" in text
    assert "2+3=5\n</think>\n\nI'm sorry, but I cannot help." in text


def test_text_cannot_leave_its_fence_and_long_text_keeps_its_end(before):
    result = before.results[0]
    long = Generation("````\n" + "x" * 5000 + "\n## Results\nthe end", "length", 9)
    text = sample_answers(result, grade(dataclasses.replace(result.set), [long] * 10))
    assert "`````text\n````\n" in text
    assert "characters left out]" in text and "the end\n`````" in text
    assert len(text) < 2500
