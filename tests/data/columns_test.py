import json

import pytest

from lora_jax.data.columns import Columns, find_columns, read_conversation
from lora_jax.data.conversation import Conversation, Turn
from lora_jax.errors import UserError

SYSTEM = {"role": "system", "content": "Be kind."}
USER = {"role": "user", "content": " Hi?\n"}
ANSWER = {"role": "assistant", "content": "Ho."}


def read(row, **named):
    return read_conversation(row, find_columns(row, Columns(**named), "a.jsonl row 1"), "row 2")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "p", "refusal": "Question: p Answer: No. Answer: no.", "text": "ignored"},
        {"prompt": "p", "response": "No. Answer: no."},
        {"prompt": "p", "completion": "No. Answer: no.", "messages": "ignored"},
        {"question": "p", "response": "No. Answer: no."},
        {"messages": [{"role": "user", "content": "p"}, ANSWER | {"content": "No. Answer: no."}]},
    ],
)
def test_the_usual_columns_are_found(row):
    assert read(row) == Conversation("p", None, "No. Answer: no.", "row 2")


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({"prompt": "ask", "response": "say"}, ("a", "s")),
        ({"prompt": "ask"}, ("a", "r")),
        ({"response": "say"}, ("p", "s")),
        ({"messages": "chat"}, ("c", "d")),
        ({}, ("p", "r")),
    ],
)
def test_named_columns_go_before_the_usual_ones(named, expected):
    chat = [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]
    row = {"prompt": "p", "response": "r", "ask": "a", "say": "s", "chat": chat}
    conversation = read(row, **named)
    assert (conversation.prompt, conversation.answer) == expected


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("So.", None, "So."),
        ("<think>\nHm.\n</think>\n\nSo.\n", "Hm.", "So."),
        ("Hm.</think>So.", "Hm.", "So."),
        ("<think>\n\n</think>\n\nSo.", "", "So."),
    ],
)
def test_a_think_block_is_the_rows_reasoning(text, thinking, answer):
    for row in (
        {"prompt": "p", "response": text},
        {"messages": [USER, ANSWER | {"content": text}]},
    ):
        conversation = read(row)
        assert (conversation.thinking, conversation.answer) == (thinking, answer)


@pytest.mark.parametrize(("value", "thinking"), [(" Hm.\n", "Hm."), ("", ""), (None, None)])
def test_reasoning_may_stand_beside_a_messages_content(value, thinking):
    conversation = read({"messages": [USER, ANSWER | {"reasoning_content": value}]})
    assert (conversation.thinking, conversation.answer) == (thinking, "Ho.")


def test_what_comes_before_the_last_user_turn_is_context():
    earlier = ANSWER | {"content": "<think>Hm.</think>Ho. "}
    last = {"role": "user", "content": "And now?"}
    conversation = read({"messages": [SYSTEM, USER, earlier, last, ANSWER]})
    assert conversation.prompt == "And now?"
    assert conversation.context == (
        Turn("system", "Be kind."),
        Turn("user", " Hi?\n"),
        Turn("assistant", "<think>Hm.</think>Ho. "),
    )


def test_messages_of_other_shapes_mean_the_same():
    expected = read({"messages": [SYSTEM, USER, ANSWER]})
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    shared = [
        {"from": names[turn["role"]], "value": turn["content"]} for turn in (SYSTEM, USER, ANSWER)
    ]
    assert read({"conversations": shared}) == expected
    assert read({"messages": json.dumps([SYSTEM, USER, ANSWER])}) == expected


def test_an_empty_system_turn_is_none():
    assert read({"messages": [SYSTEM | {"content": ""}, USER, ANSWER]}).context == ()


@pytest.mark.parametrize(
    ("row", "named", "complaint"),
    [
        ({"prompt": "p", "text": "t"}, {}, r"none of the usual fields.*it has: prompt, text"),
        ({"prompt": "p", "reply": "t"}, {"response": "replly"}, r"'replly' \(did you mean 'reply'"),
        ({"prompt": "p", "reply": "t"}, {"prompt": "ask"}, "no field 'ask'; .*: prompt, reply"),
        ({"ask": "p", "text": "t"}, {"prompt": "ask"}, "none of the usual fields"),
        (
            {"messages": [], "prompt": "p"},
            {"messages": "messages", "prompt": "prompt"},
            "either the messages or the pair",
        ),
    ],
)
def test_columns_that_cannot_be_found_are_named_with_those_there_are(row, named, complaint):
    with pytest.raises(UserError, match=complaint) as caught:
        find_columns(row, Columns(**named), "a.jsonl row 1")
    assert "a.jsonl row 1" in str(caught.value)


PAIR = Columns("prompt", "response")
DIRECT_REFUSAL = Columns("prompt", "refusal")
CHAT = Columns(messages="messages")


@pytest.mark.parametrize(
    ("row", "columns", "complaint"),
    [
        ({"prompt": "p"}, PAIR, "has no field 'response'"),
        ({"prompt": 3, "response": "r"}, PAIR, "field 'prompt' is int, not text"),
        ({"prompt": "p", "response": None}, PAIR, "field 'response' is NoneType"),
        ({"prompt": " ", "response": "r"}, PAIR, "field 'prompt' is empty"),
        ({"prompt": "p", "response": "\n"}, PAIR, "field 'response' is empty"),
        ({"prompt": "\ud800", "response": "r"}, PAIR, "field 'prompt' holds half"),
        ({"prompt": "p", "refusal": "No."}, DIRECT_REFUSAL, "'refusal' has no 'Answer:'"),
        ({"prompt": "p", "refusal": "Answer: "}, DIRECT_REFUSAL, "'refusal' has no answer"),
        ({"prompt": "p", "response": "<think>a</think> "}, PAIR, "has no answer"),
        ({"prompt": "p", "response": "<think>a"}, PAIR, "misplaced think tags"),
        ({"prompt": "p", "response": "a<think>b</think>c"}, PAIR, "misplaced think tags"),
        ({"prompt": "p", "response": "a</think>b</think>c"}, PAIR, "misplaced think tags"),
        ({"prompt": "p", "response": "<think><think>b</think>c"}, PAIR, "misplaced think tags"),
        ({"messages": "Hi?"}, CHAT, "'messages' is text and not valid JSON"),
        ({"messages": {"role": "user"}}, CHAT, "not a list of messages"),
        ({"messages": ["Hi?"]}, CHAT, "not a list of messages"),
        ({}, CHAT, "not a list of messages"),
        ({"messages": []}, CHAT, "has the roles of no one"),
        ({"messages": [SYSTEM]}, CHAT, "has the roles system"),
        ({"messages": [USER]}, CHAT, "has the roles user; write"),
        ({"messages": [USER, ANSWER, USER]}, CHAT, "the assistant last"),
        ({"messages": [USER, SYSTEM, ANSWER]}, CHAT, "at most one system turn in front"),
        ({"messages": [USER, USER, ANSWER]}, CHAT, "user and assistant in turn"),
        ({"messages": [USER, ANSWER | {"role": "tool"}]}, CHAT, "message 2 has the role 'tool'"),
        ({"messages": [USER, ANSWER | {"role": ["x"]}]}, CHAT, r"message 2 has the role \['x'\]"),
        ({"messages": [USER, {"role": "user"}]}, CHAT, r"message 2 lacks .*\(has: role\)"),
        ({"messages": [USER, ANSWER | {"content": None}]}, CHAT, r"message 2 .* is NoneType"),
        ({"messages": [USER | {"content": [{}]}, ANSWER]}, CHAT, r"message 1 \(user\) is list"),
        ({"messages": [USER | {"content": " "}, ANSWER]}, CHAT, r"message 1 \(user\) is empty"),
        ({"messages": [USER, ANSWER | {"content": "<think>a"}]}, CHAT, "message 2 has misplaced"),
        ({"messages": [USER, ANSWER | {"reasoning_content": 3}]}, CHAT, "reasoning_content is int"),
        (
            {"messages": [USER, ANSWER | {"reasoning_content": "a</think>"}]},
            CHAT,
            "reasoning_content has misplaced",
        ),
        (
            {"messages": [USER, {**ANSWER, "content": "a</think>b", "reasoning_content": "c"}]},
            CHAT,
            "both in think tags and in reasoning_content",
        ),
    ],
)
def test_bad_rows_are_one_sentence_with_row_and_field(row, columns, complaint):
    with pytest.raises(UserError, match=complaint) as caught:
        read_conversation(row, columns, "a.jsonl row 7")
    assert "a.jsonl row 7" in str(caught.value)
    assert "\n" not in str(caught.value)
