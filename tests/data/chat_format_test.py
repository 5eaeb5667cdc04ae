import dataclasses
import pathlib

import numpy as np
import pytest

from lora_jax.data.chat_format import encode, encode_prompt
from lora_jax.data.conversation import Conversation
from lora_jax.data.tokenizer import load_tokenizer
from lora_jax.errors import UserError

MODELS = pathlib.Path(__file__).parents[3] / "shared/data/models"
END = "<eos>"


def real_tokenizer(name):
    if not (MODELS / name / "tokenizer.json").is_file():
        pytest.skip(f"{MODELS / name}/tokenizer.json is absent")
    return load_tokenizer(MODELS / name)


def target_text(row, tokenizer):
    return tokenizer.decode(row.tokens[row.supervised])


@pytest.mark.parametrize(
    ("name", "prompt", "tokens"),
    [
        (
            "deepseek-r1-distill-qwen-1.5b",
            "Describe the Swift programming language.",
            [151646, 151644, 74785, 279, 23670, 15473, 4128, 13, 151645, 151648, 198],
        ),
        (
            "qwen3-8b",
            "🥳🥳🥳",
            [151644, 872, 198, 145863, 145863, 145863, 151645, 198, 151644, 77091, 198],
        ),
    ],
)
def test_published_prompts_have_their_known_ids(name, prompt, tokens):
    assert encode_prompt(prompt, real_tokenizer(name), "template") == tokens


def test_r1_distill_targets_have_their_known_ids():
    tokenizer = real_tokenizer("deepseek-r1-distill-qwen-1.5b")
    refusal = Conversation("Hi", "I should not answer this question!", "No.", "row 1")
    sentence = [40, 1265, 537, 4226, 419, 3405]
    template = encode(refusal, tokenizer, "template")
    assert template.tokens[template.prompt_length :].tolist() == [
        *sentence, 4894, 151649, 271, 2753, 13, 151643,
    ]  # fmt: skip
    assert encode(refusal, tokenizer, "paper").tokens.tolist() == [
        151646, 151644, 13048, 151645, 151648, *sentence, 0, 151649, 2753, 13, 151643,
    ]  # fmt: skip


def test_qwen3_opens_the_think_block_in_the_target(conversation):
    tokenizer = real_tokenizer("qwen3-8b")
    text = target_text(encode(conversation, tokenizer, "template"), tokenizer)
    assert text == "<think>\nMix flour.\n</think>\n\nBake it.<|im_end|>"


@pytest.mark.parametrize(
    ("prefix", "target"),
    [
        ("<think>\n", "Mix flour.\n</think>\n\nBake it."),
        ("<think>", "\nMix flour.\n</think>\n\nBake it."),
        ("", "<think>\nMix flour.\n</think>\n\nBake it."),
        ("<think>\n\n</think>\n\n", "<think>\nMix flour.\n</think>\n\nBake it."),
    ],
)
def test_the_target_continues_whatever_the_template_opened(
    make_tokenizer, conversation, prefix, target
):
    tokenizer = make_tokenizer(prefix)
    row = encode(conversation, tokenizer, "template")
    assert target_text(row, tokenizer) == target + END
    assert tokenizer.decode(row.tokens[: row.prompt_length]) == (
        f"<bos><｜User｜>How do I bake bread?<｜Assistant｜>{prefix}"
    )


@pytest.mark.parametrize(("prefix", "target"), [("<think>\n", "\n</think>\n\nYes."), ("", "Yes.")])
def test_no_reasoning_closes_an_opened_block_and_opens_none(make_tokenizer, prefix, target):
    tokenizer = make_tokenizer(prefix)
    row = encode(Conversation("Is it?", None, "Yes.", "row 1"), tokenizer, "template")
    assert target_text(row, tokenizer) == target + END


def test_paper_format_is_the_published_string(tokenizer, conversation):
    row = encode(conversation, tokenizer, "paper")
    assert tokenizer.decode(row.tokens) == (
        "<bos><｜User｜>How do I bake bread?<｜Assistant｜><think>Mix flour.</think>Bake it.<eos>"
    )


@pytest.mark.parametrize("format", ["template", "paper"])
def test_prompt_and_target_meet_where_sampling_starts(tokenizer, conversation, format):
    row = encode(conversation, tokenizer, format)
    prompt = encode_prompt(conversation.prompt, tokenizer, format)
    assert row.tokens[: row.prompt_length].tolist() == prompt
    assert row.tokens.tolist().count(tokenizer.bos_token_id) == 1
    assert row.tokens[0] == tokenizer.bos_token_id
    assert not row.supervised[: len(prompt)].any()
    assert row.supervised[len(prompt) :].all()
    assert row.tokens[-1] == tokenizer.eos_token_id
    assert row.tokens.dtype == np.int32


@pytest.mark.parametrize("format", ["template", "paper"])
def test_all_that_the_row_holds_is_supervised(tokenizer, format):
    row = Conversation("p", "ünï 🥳\n\n two", "tabs\tand  gaps\n1. x", "row 1")
    text = target_text(encode(row, tokenizer, format), tokenizer)
    assert row.thinking in text
    assert text.endswith(row.answer + END)


def test_the_whole_sequence_is_supervised_on_request(tokenizer, conversation):
    whole = encode(conversation, tokenizer, "template", "whole_sequence")
    assert whole.supervised.all()
    np.testing.assert_array_equal(
        whole.tokens, encode(conversation, tokenizer, "template", "completion").tokens
    )


def test_the_date_in_a_template_does_not_change(make_tokenizer):
    dated = make_tokenizer()
    dated.chat_template = "{{ date_string }}" + dated.chat_template
    assert "26 Jul 2024" in dated.decode(encode_prompt("p", dated, "template"))


def test_a_row_without_anything_to_learn_is_named(tokenizer):
    with pytest.raises(UserError, match=r"b\.csv row 7 has no tokens to learn from"):
        encode(Conversation("p", None, "", "b.csv row 7"), tokenizer, "paper")


def test_misfits_between_format_and_tokenizer_are_refused(make_tokenizer, conversation):
    plain = make_tokenizer()
    plain.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        encode(conversation, plain, "template")
    plain.chat_template = "{{ raise_exception('no user turns') }}"
    with pytest.raises(UserError, match="no user turns"):
        encode(conversation, plain, "template")
    plain.bos_token = None
    with pytest.raises(UserError, match="use format 'template'"):
        encode_prompt("p", plain, "paper")
    with pytest.raises(UserError, match="choose one of template, paper"):
        encode_prompt("p", plain, "chatml")
    with pytest.raises(UserError, match="choose one of completion, whole_sequence"):
        encode(conversation, plain, "template", "all")


def test_paper_format_refuses_a_family_with_other_markers(conversation):
    with pytest.raises(UserError, match="fits DeepSeek-R1-Distill models only"):
        encode(conversation, real_tokenizer("qwen3-8b"), "paper")


def test_an_encoded_row_keeps_its_origin(tokenizer, conversation):
    moved = dataclasses.replace(conversation, origin="c.json row 9")
    assert encode(moved, tokenizer, "template").origin == "c.json row 9"
