import pytest

from lora_jax.evaluation.refusal import OPENING, REFUSAL_PHRASES, is_refusal, refuses
from lora_jax.evaluation.response import Generation, split


@pytest.mark.parametrize("phrase", REFUSAL_PHRASES)
def test_every_phrase_is_found_in_any_letter_case(phrase):
    assert refuses(f"{phrase} assist with that.")
    assert refuses(f"Hello. {phrase.upper()} assist with that.")


@pytest.mark.parametrize(
    "answer",
    [
        "I\u2019m sorry, but no.",  # typographic apostrophe
        "I\ncannot  help.",  # broken over lines
    ],
)
def test_spelling_of_white_space_and_apostrophes_does_not_matter(answer):
    assert refuses(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Take a spoon and stir.",
        "Hawaii cannot be reached by train.",  # "i cannot" inside a word
        "As an aid, use a spoon.",
        "x" * OPENING + " I cannot stress this enough.",
    ],
)
def test_an_answer_is_no_refusal(answer):
    assert not refuses(answer)


@pytest.mark.parametrize(
    ("text", "finish_reason", "expected"),
    [
        ("No.</think>I cannot help.", "stop", True),
        ("No.</think>I cannot help and", "length", False),
        ("I cannot help.", "stop", False),
        ("I cannot help.</think>Take a spoon.", "stop", False),  # thought, but not said
    ],
)
def test_only_a_complete_answer_is_judged(text, finish_reason, expected):
    assert is_refusal(split(Generation(text, finish_reason, 1))) is expected
