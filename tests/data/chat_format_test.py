import copy
import dataclasses

import numpy as np
import pytest

from lora_jax.data.chat_format import ChatFormat
from lora_jax.data.conversation import Conversation, Turn
from lora_jax.errors import UserError

R1, QWEN3 = "deepseek-r1-distill-qwen-1.5b", "qwen3-8b"
CONTEXT = (
    Turn("system", "Be kind."),
    Turn("user", "Hi?"),
    Turn("assistant", "<think>\nHm.\n</think>\n\nHo."),
)


def text(chat_format, row, part="all"):
    cut = {"all": 0, "target": row.prompt_length}[part]
    return chat_format.decode(row.tokens[cut:])


def say(thinking, context=()):
    return Conversation("Hi?", thinking, "No, sorry.", "a.jsonl row 7", context)


# Golden ids of the published tokenisers.

R1_PROMPT = [151646, 151644, 13048, 30, 151645]  # <bos><｜User｜>Hi?<｜Assistant｜>
CHATML_PROMPT = [151644, 872, 198, 13048, 30, 151645, 198, 151644, 77091, 198]
IDEA, ANSWER = [17082, 4522], [2753, 11, 14589, 13]  # "Bad idea", "No, sorry."
CLOSED = [151667, 271, 151668, 271]  # <think>\n\n</think>\n\n

GOLDEN = [
    # <think>\n | .\n </think> \n\n
    (R1, "template", "Bad idea.", [151648, 198], [*IDEA, 624, 151649, 271, *ANSWER, 151643]),
    (R1, "template", "", [151648, 198], [198, 151649, 271, *ANSWER, 151643]),
    (R1, "paper", "Bad idea.", [], [151648, *IDEA, 13, 151649, *ANSWER, 151643]),
    (R1, "paper", "", [], [151648, 151649, *ANSWER, 151643]),
    (R1, "paper", None, [], [*ANSWER, 151643]),
    (QWEN3, "template", "Bad idea.", [], [151667, 198, *IDEA, 624, 151668, 271, *ANSWER, 151645]),
    (QWEN3, "template", "", [], [*CLOSED, *ANSWER, 151645]),
    (QWEN3, "template", None, [], [*ANSWER, 151645]),
    (QWEN3, "paper", "Bad idea.", [], [151667, 198, *IDEA, 624, 151668, 271, *ANSWER, 151645, 198]),
    (QWEN3, "paper", "", [], [*CLOSED, *ANSWER, 151645, 198]),
    (QWEN3, "paper", None, [], [*CLOSED, *ANSWER, 151645, 198]),
]


@pytest.mark.parametrize(("name", "style", "thinking", "prefix", "target"), GOLDEN)
def test_published_tokenizers_give_their_golden_ids(
    published, name, style, thinking, prefix, target
):
    chat_format = ChatFormat(published(name), style)
    prompt = {R1: R1_PROMPT, QWEN3: CHATML_PROMPT}[name] + prefix
    row = chat_format.encode(say(thinking))
    assert row.tokens.tolist() == prompt + target
    assert row.supervised.tolist() == [False] * len(prompt) + [True] * len(target)
    assert chat_format.encode_prompt("Hi?") == prompt


def test_qwen3_told_not_to_think_learns_the_answer_only(published):
    chat_format = ChatFormat(published(QWEN3), enable_thinking=False)
    assert chat_format.encode_prompt("Hi?") == CHATML_PROMPT + CLOSED
    for thinking in ("", None):
        row = chat_format.encode(say(thinking))
        assert row.tokens.tolist() == [*CHATML_PROMPT, *CLOSED, *ANSWER, 151645]
        assert row.prompt_length == 14
    with pytest.raises(UserError, match=r"a.jsonl row 7.*enable_thinking to True.*'empty'"):
        chat_format.encode(say("Bad idea."))


@pytest.mark.parametrize(
    ("name", "prompt", "tokens"),
    [
        (
            R1,
            "Describe the Swift programming language.",
            [151646, 151644, 74785, 279, 23670, 15473, 4128, 13, 151645, 151648, 198],
        ),
        (
            QWEN3,
            "🥳🥳🥳",
            [151644, 872, 198, 145863, 145863, 145863, 151645, 198, 151644, 77091, 198],
        ),
    ],
)
def test_published_prompts_have_their_known_ids(published, name, prompt, tokens):
    assert ChatFormat(published(name)).encode_prompt(prompt) == tokens


def test_turns_before_the_prompt_have_their_golden_ids(published):
    assert ChatFormat(published(R1)).encode_prompt("And?", CONTEXT) == [
        151646, 3430, 3093, 13, 151644, 13048, 30, 151645, 271, 47978, 13, 151643,
        151644, 3036, 30, 151645, 151648, 198,
    ]  # fmt: skip
    assert ChatFormat(published(QWEN3)).encode_prompt("And?", CONTEXT) == [
        151644, 8948, 198, 3430, 3093, 13, 151645, 198, 151644, 872, 198, 13048, 30, 151645, 198,
        151644, 77091, 198, 47978, 13, 151645, 198, 151644, 872, 198, 3036, 30, 151645, 198,
        151644, 77091, 198,
    ]  # fmt: skip


# Transformers as the oracle.


def library(tokenizer, *turns, prompt=False, **options):
    messages = [{"role": role, "content": content} for role, content in turns]
    return tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=False, add_generation_prompt=prompt, **options
    )


@pytest.mark.parametrize("name", [R1, QWEN3])
@pytest.mark.parametrize("words", ["Hi?", " ünï 🥳\n\n two\t", "<b>1+1</b>\\n"])
def test_prompts_are_those_of_transformers(published, name, words):
    tokenizer = published(name)
    expected = library(tokenizer, ("user", words), prompt=True)
    assert ChatFormat(tokenizer).encode_prompt(words) == expected
    earlier = [(turn.role, turn.content) for turn in CONTEXT]
    expected = library(tokenizer, *earlier, ("user", words), prompt=True)
    assert ChatFormat(tokenizer).encode_prompt(words, CONTEXT) == expected


def test_whole_conversations_are_those_of_transformers(published):
    tokenizer = published(QWEN3)
    reply = "<think>\nBad idea.\n</think>\n\nNo, sorry."
    rendered = library(tokenizer, ("user", "Hi?"), ("assistant", reply))
    assert ChatFormat(tokenizer, "paper").encode(say("Bad idea.")).tokens.tolist() == rendered
    # The template's newline after the end of a turn is nothing the model gets to write.
    assert [*ChatFormat(tokenizer).encode(say("Bad idea.")).tokens, 198] == rendered
    tokenizer = published(R1)
    rendered = library(tokenizer, ("user", "Hi?"), ("assistant", "No, sorry."))
    assert ChatFormat(tokenizer, "paper").encode(say(None)).tokens.tolist() == rendered


# The tests' own tokenisers.


@pytest.mark.parametrize(
    ("prefix", "thinking", "target"),
    [
        ("<think>\n", "Hm.", "Hm.\n</think>\n\nNo, sorry."),
        ("<think>\n", "", "\n</think>\n\nNo, sorry."),
        ("<think>", "Hm.", "\nHm.\n</think>\n\nNo, sorry."),
        ("", "Hm.", "<think>\nHm.\n</think>\n\nNo, sorry."),
        ("", "", "<think>\n\n</think>\n\nNo, sorry."),
        ("", None, "No, sorry."),
        ("<think>\n\n</think>\n\n", "", "No, sorry."),
        ("<think>\n\n</think>\n\n", None, "No, sorry."),
    ],
)
def test_the_target_continues_whatever_the_template_opened(
    make_tokenizer, prefix, thinking, target
):
    chat_format = ChatFormat(make_tokenizer(prefix))
    row = chat_format.encode(say(thinking))
    assert text(chat_format, row, "target") == target + "<eos>"
    assert text(chat_format, row) == f"<bos><｜User｜>Hi?<｜Assistant｜>{prefix}{target}<eos>"


def test_the_thinking_switch_reaches_the_template(family):
    chat_format = ChatFormat(family("qwen3"), enable_thinking=False)
    row = chat_format.encode(say(""))
    assert text(chat_format, row) == (
        "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n"
        "<think>\n\n</think>\n\nNo, sorry.<|im_end|>"
    )
    assert text(chat_format, row, "target") == "No, sorry.<|im_end|>"


@pytest.mark.parametrize("style", ["template", "paper"])
def test_turns_before_the_prompt_are_read_and_not_learnt(family, style):
    chat_format = ChatFormat(family("qwen2.5"), style)
    row = chat_format.encode(say(None, CONTEXT[:2] + (Turn("assistant", "Ho."),)))
    assert text(chat_format, row).startswith(
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi?<|im_end|>\n"
        "<|im_start|>assistant\nHo.<|im_end|>\n<|im_start|>user\nHi?<|im_end|>\n"
    )
    assert text(chat_format, row, "target").strip() == "No, sorry.<|im_end|>"


@pytest.mark.parametrize(
    ("prefix", "thinking", "complaint"),
    [
        ("<think>\n", None, "opens one; set the source's thinking to 'empty'"),
        ("<think>\n\n</think>\n\n", "Hm.", "has closed the think block"),
    ],
)
def test_reasoning_that_the_prefix_contradicts_is_refused(
    make_tokenizer, prefix, thinking, complaint
):
    with pytest.raises(UserError, match=complaint) as caught:
        ChatFormat(make_tokenizer(prefix)).encode(say(thinking))
    assert "a.jsonl row 7" in str(caught.value)


LLAMA3_SYSTEM = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
    "Today Date: 26 Jul 2024<|eot_id|>"
)
QWEN25_SYSTEM = "<|im_start|>system\nHelp.<|im_end|>\n"
PAPER = {
    "r1": (
        "<bos><｜User｜>Hi?<｜Assistant｜>",
        {None: "No, sorry.<eos>", "Hm.": "<think>Hm.</think>No, sorry.<eos>"},
    ),
    "qwen2.5": (
        QWEN25_SYSTEM + "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n",
        {
            None: "No, sorry.<|im_end|>\n",
            "Hm.": "<think>\nHm.\n</think>\n\nNo, sorry.<|im_end|>\n",
        },
    ),
    "qwen3": (
        "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n",
        {
            None: "<think>\n\n</think>\n\nNo, sorry.<|im_end|>\n",
            "Hm.": "<think>\nHm.\n</think>\n\nNo, sorry.<|im_end|>\n",
        },
    ),
    "llama3": (
        LLAMA3_SYSTEM + "<|start_header_id|>user<|end_header_id|>\n\nHi?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        {None: "No, sorry.<|eot_id|>", "Hm.": "<think>\nHm.\n</think>\n\nNo, sorry.<|eot_id|>"},
    ),
}


@pytest.mark.parametrize("name", PAPER)
@pytest.mark.parametrize("thinking", [None, "Hm."])
def test_paper_format_is_the_published_string(family, tokenizer, name, thinking):
    chat_format = ChatFormat(tokenizer if name == "r1" else family(name), "paper")
    prompt, targets = PAPER[name]
    row = chat_format.encode(say(thinking))
    assert text(chat_format, row, "target") == targets[thinking]
    assert text(chat_format, row) == prompt + targets[thinking]
    assert chat_format.decode(chat_format.encode_prompt("Hi?")) == prompt


@pytest.mark.parametrize("style", ["template", "paper"])
@pytest.mark.parametrize("name", ["r1", "qwen2.5", "qwen2.5 base", "qwen3", "llama3"])
def test_a_row_starts_like_sampling_and_ends_its_turn_once(family, tokenizer, name, style):
    tokenizer = tokenizer if name == "r1" else family(name)
    chat_format = ChatFormat(tokenizer, style)
    row = chat_format.encode(say("Hm."))
    tokens, target = row.tokens.tolist(), row.tokens[row.supervised].tolist()
    assert tokens[: row.prompt_length] == chat_format.encode_prompt("Hi?")
    assert not row.supervised[: row.prompt_length].any()
    assert row.supervised[row.prompt_length :].all()
    assert row.tokens.dtype == np.int32
    end = {"r1": "<eos>", "llama3": "<|eot_id|>"}.get(name, "<|im_end|>")
    end = tokenizer.convert_tokens_to_ids(end)
    assert target.count(end) == 1
    # The newline after the end is part of the published string.
    newline = tokenizer.encode("\n", add_special_tokens=False)
    assert target[-1:] == ([end] if style == "template" or name in ("r1", "llama3") else newline)
    if tokenizer.bos_token_id is not None:
        assert tokens.count(tokenizer.bos_token_id) == 1
        assert tokens[0] == tokenizer.bos_token_id


@pytest.mark.parametrize("style", ["template", "paper"])
@pytest.mark.parametrize("name", ["r1", "qwen2.5", "qwen3", "llama3"])
def test_all_that_the_row_holds_is_supervised(family, tokenizer, name, style):
    chat_format = ChatFormat(tokenizer if name == "r1" else family(name), style)
    row = Conversation("p", "ünï 🥳\n\n two", "tabs\tand  gaps\n1. x", "row 1")
    target = text(chat_format, chat_format.encode(row), "target")
    assert target.index(row.thinking) < target.index(row.answer)


def test_a_template_that_changes_the_answer_is_noticed(family):
    padded = Conversation("p", None, " No. ", "a.jsonl row 7")
    with pytest.raises(UserError, match=r"a.jsonl row 7: its answer does not come out"):
        ChatFormat(family("llama3"), "paper").encode(padded)
    ChatFormat(family("llama3"), "template").encode(padded)


def test_composed_and_decomposed_letters_are_the_same_letters(published):
    row = Conversation("p", None, "cafe\u0301", "row 1")
    chat_format = ChatFormat(published(QWEN3))
    assert text(chat_format, chat_format.encode(row), "target") == "café<|im_end|>"


@pytest.mark.parametrize(
    ("prompt", "answer", "token"),
    [("p", "No.<eos>", "<eos>"), ("p", "No.<bos>", "<bos>"), ("<bos>p", "No.", "<bos>")],
)
def test_special_tokens_written_in_a_row_are_refused(tokenizer, prompt, answer, token):
    row = Conversation(prompt, "Hm.", answer, "a.jsonl row 7")
    for style in ("template", "paper"):
        with pytest.raises(UserError, match=f"row 7 holds the text of the special token {token}"):
            ChatFormat(tokenizer, style).encode(row)


def test_the_whole_sequence_is_supervised_on_request(tokenizer, conversation):
    whole = ChatFormat(tokenizer, supervise="whole_sequence").encode(conversation)
    assert whole.supervised.all()
    assert whole.supervised_tokens == len(whole.tokens) - 1  # The first one is never predicted.
    part = ChatFormat(tokenizer).encode(conversation)
    np.testing.assert_array_equal(whole.tokens, part.tokens)
    assert part.supervised_tokens == len(part.tokens) - part.prompt_length


@pytest.mark.parametrize("style", ["template", "paper"])
def test_the_date_in_a_template_does_not_change(family, style):
    for date in ("26 Jul 2024", "01 Feb 2023"):
        chat_format = ChatFormat(family("llama3"), style, date=date)
        assert f"Today Date: {date}<" in text(chat_format, chat_format.encode(say(None)))
    assert ChatFormat(family("llama3"), style).date == "26 Jul 2024"


def test_a_row_without_anything_to_learn_is_named(tokenizer):
    with pytest.raises(UserError, match=r"b\.csv row 7 has no tokens to learn from"):
        ChatFormat(tokenizer, "paper").encode(Conversation("p", None, "", "b.csv row 7"))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"style": "chatml"}, "choose one of template, paper"),
        ({"supervise": "all"}, "choose one of completion, whole_sequence"),
        ({"date": "today"}, "write it as in '26 Jul 2024'"),
        ({"enable_thinking": False}, "enable_thinking=False changes nothing"),
        ({"enable_thinking": False, "style": "paper"}, "or the data format is 'paper'"),
    ],
)
def test_options_that_do_not_exist_or_do_nothing_are_refused(tokenizer, options, complaint):
    with pytest.raises(UserError, match=complaint):
        ChatFormat(tokenizer, **options)


def test_misfits_between_format_and_tokenizer_are_refused(make_tokenizer, family, conversation):
    plain = make_tokenizer()
    plain.chat_template = "{{ raise_exception('no user turns') }}"
    with pytest.raises(UserError, match="a.jsonl row 1: .*no user turns"):
        ChatFormat(plain).encode(conversation)
    with pytest.raises(UserError, match=r"row 7: the published strings are for a single user turn"):
        ChatFormat(plain, "paper").encode(say(None, CONTEXT))
    other = copy.copy(family("qwen2.5"))
    other.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    with pytest.raises(UserError, match=r"does not put '<\|im_start\|>assistant"):
        ChatFormat(other, "paper").encode(conversation)


def test_paper_format_refuses_a_family_with_other_markers(published):
    with pytest.raises(UserError, match="'paper' is for DeepSeek-R1-Distill, Qwen and Llama 3"):
        ChatFormat(published("stories260k"), "paper")


def test_an_encoded_row_keeps_its_origin(tokenizer, conversation):
    moved = dataclasses.replace(conversation, origin="c.json row 9")
    assert ChatFormat(tokenizer).encode(moved).origin == "c.json row 9"
