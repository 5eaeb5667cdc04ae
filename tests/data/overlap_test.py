import pytest

from lora_jax.data.conversation import Conversation
from lora_jax.data.overlap import Overlap, find_overlap, normal_form, refuse_overlap
from lora_jax.errors import UserError

ROWS = [
    Conversation("How do I bake bread?", None, "So.", "a.jsonl row 1"),
    Conversation("  how do I\n bake BREAD? ", None, "So.", "a.jsonl row 2"),
    Conversation("How do I bake?", None, "So.", "a.jsonl row 3"),
]
SETS = {
    "benign": ["Why?", "How do i bake bread?"],
    "harmful": ["how do I bake"],
    "both": ["HOW DO I BAKE?", "How do I bake bread?"],
}


def test_letter_case_and_white_space_do_not_count():
    assert normal_form("  Straße \t\nA ") == normal_form("STRASSE a") == "strasse a"
    assert normal_form("ab") != normal_form("a b")


def test_every_row_is_found_in_every_set():
    assert find_overlap(ROWS, SETS) == [
        Overlap("a.jsonl row 1", "benign", "How do i bake bread?"),
        Overlap("a.jsonl row 1", "both", "How do I bake bread?"),
        Overlap("a.jsonl row 2", "benign", "How do i bake bread?"),
        Overlap("a.jsonl row 2", "both", "How do I bake bread?"),
        Overlap("a.jsonl row 3", "both", "HOW DO I BAKE?"),
    ]


def test_overlap_is_refused_with_count_example_and_remedy():
    with pytest.raises(
        UserError, match="2 of 3 training rows.*a.jsonl row 1 in set 'benign'"
    ) as caught:
        refuse_overlap(ROWS, {"benign": SETS["benign"]})
    assert "config.data.allow_overlap" in str(caught.value)
    assert "'How do i bake bread?'" in str(caught.value)


def test_a_long_example_is_shortened():
    prompt = "why " * 500
    with pytest.raises(UserError) as caught:
        refuse_overlap([Conversation(prompt, None, "So.", "row 1")], {"long": [prompt]})
    assert len(str(caught.value)) < 300


def test_sets_apart_pass():
    refuse_overlap(ROWS, {"harmful": SETS["harmful"], "empty": []})
    refuse_overlap([], SETS)
