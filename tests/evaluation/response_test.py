import pytest

from lora_jax.evaluation.response import Generation, Response, split


@pytest.mark.parametrize(
    ("text", "finish_reason", "expected"),
    [
        ("2+3=5\n</think>\n\nIt is 5.", "stop", Response("2+3=5", "It is 5.", True, False)),
        ("2+3=5\n</think>\n\nIt is", "length", Response("2+3=5", "It is", True, True)),
        ("2+3=", "length", Response("2+3=", None, False, True)),
        ("It is 5.", "stop", Response("It is 5.", None, False, False)),
        ("", "length", Response("", None, False, True)),
        ("</think>", "stop", Response("", "", True, False)),
        # A model that opens the block itself is read alike.
        ("<think>\n2+3=5</think>5", "stop", Response("2+3=5", "5", True, False)),
        # The user sees everything after the first closing tag.
        ("a</think>b</think>c", "stop", Response("a", "b</think>c", True, False)),
    ],
)
def test_split(text, finish_reason, expected):
    assert split(Generation(text, finish_reason, 1)) == expected


@pytest.mark.parametrize(
    ("text", "finish_reason", "complete"),
    [
        ("a</think>b", "stop", True),
        ("a</think>b", "length", False),
        ("a", "stop", False),
        ("a", "length", False),
    ],
)
def test_complete_is_closed_and_not_cut_off(text, finish_reason, complete):
    assert split(Generation(text, finish_reason, 1)).complete is complete
