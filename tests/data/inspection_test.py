import copy
import dataclasses

import numpy as np
import pytest

from lora_jax import data
from lora_jax.data.inspection import inspect, inspect_row, render_row, render_tokens

ODD = data.Conversation(
    "Ĥi 🥳 ꙮ\u200b\t⟦?\ufffd", "Bad\nidea\ufffd\ufffd", "Nö 𒀀 [b]x[/b].\x1b[1m", "row 1"
)


STORY = data.Conversation("Once upon a time", None, "there was  a girl\nnamed Lily.", "row 1")


def look(chat_format, conversation=ODD):
    return inspect_row(conversation, chat_format.encode(conversation), chat_format)


def assert_exact(inspected, row, chat_format):
    """Check that the pieces are the row: its tokens, its text, its marks."""
    tokens = [token for piece in inspected.pieces for token in piece.tokens]
    marks = [piece.supervised for piece in inspected.pieces for _ in piece.tokens]
    assert tokens == row.tokens.tolist()
    assert marks == row.supervised.tolist()
    assert inspected.length == len(row.tokens)
    text = "".join(piece.text for piece in inspected.pieces)
    assert text == chat_format.decode(row.tokens)


@pytest.mark.parametrize("style", ["template", "paper"])
def test_pieces_joined_are_the_exact_text(tokenizer, family, style):
    for one in (tokenizer, family("qwen3"), family("llama3")):
        chat_format = data.ChatFormat(one, style)
        inspected = look(chat_format)
        assert_exact(inspected, chat_format.encode(ODD), chat_format)
        text = "".join(piece.text for piece in inspected.pieces)
        assert text.count("\ufffd") == 3  # those that the row has, and no others
        # A character of four bytes is shown whole, with all its ids.
        assert any("🥳" in piece.text and len(piece.tokens) == 4 for piece in inspected.pieces)


@pytest.mark.parametrize("name", ["deepseek-r1-distill-qwen-1.5b", "qwen3-8b", "stories260k"])
def test_pieces_of_published_tokenizers_are_exact(published, name):
    tokenizer = copy.copy(published(name))
    if name == "stories260k":  # It drops the space at the start of a text.
        tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    chat_format = data.ChatFormat(tokenizer)
    conversation = STORY if name == "stories260k" else ODD
    assert_exact(look(chat_format, conversation), chat_format.encode(conversation), chat_format)


def test_a_text_cut_within_a_character_is_shown_as_far_as_it_goes(tokenizer):
    chat_format = data.ChatFormat(tokenizer)
    row = chat_format.encode(data.Conversation("Hi?", "Hm.", "🥳", "row 1"))
    (cut,), _ = data.fit([row], len(row.tokens) - 2, "truncate")
    inspected = inspect_row(data.Conversation("Hi?", "Hm.", "🥳", "row 1"), cut, chat_format)
    assert_exact(inspected, cut, chat_format)
    assert inspected.pieces[-1].text.endswith("\ufffd")


def test_sampling_sees_the_rows_own_prompt_unless_something_is_wrong(tokenizer, family):
    for chat_format in (data.ChatFormat(tokenizer), data.ChatFormat(family("qwen3"), "paper")):
        inspected = look(chat_format)
        assert inspected.prompt_agrees
        assert list(inspected.sampling_prompt) == chat_format.encode_prompt(ODD.prompt)
    # Trained with the published strings and sampled with the template, as in the published code.
    row = data.ChatFormat(tokenizer, "paper").encode(ODD)
    inspected = inspect_row(ODD, row, data.ChatFormat(tokenizer))
    assert not inspected.prompt_agrees
    assert list(inspected.sampling_prompt) != row.tokens[: row.prompt_length].tolist()


def test_the_supervised_part_is_marked_in_plain_text_and_colour(tokenizer):
    chat_format = data.ChatFormat(tokenizer)
    inspected = look(chat_format)
    rendered = render_row(inspected)
    assert rendered.plain == (
        "<bos><｜User｜>Ĥi 🥳 ꙮ⟨U+200B⟩␉⟨U+27E6⟩?\ufffd<｜Assistant｜><think>␊\n"
        "⟦Bad␊\nidea\ufffd\ufffd␊\n</think>␊\n␊\nNö 𒀀 [b]x[/b].␛[1m<eos>⟧"
    )
    start = rendered.plain.index("⟦")
    styled = {offset for span in rendered.spans for offset in range(span.start, span.end)
              if "green" in str(span.style)}  # fmt: skip
    assert styled == set(range(start, len(rendered.plain)))


def test_everything_is_marked_where_everything_is_supervised(tokenizer):
    chat_format = data.ChatFormat(tokenizer, supervise="whole_sequence")
    plain = render_row(look(chat_format)).plain
    assert plain.startswith("⟦<bos>")
    assert (plain.count("⟦"), plain.count("⟧")) == (1, 1)


def test_ids_are_rendered_with_the_same_marks(tokenizer):
    chat_format = data.ChatFormat(tokenizer)
    row = chat_format.encode(ODD)
    plain = render_tokens(look(chat_format)).plain
    ids = plain.replace("⟦", "").replace("⟧", "").replace("+", " ").split()
    assert [int(token) for token in ids] == row.tokens.tolist()
    prompt = plain[: plain.index("⟦")].replace("+", " ").split()
    assert len(prompt) == row.prompt_length
    assert "+" in plain
    assert plain.endswith(f" {tokenizer.eos_token_id}⟧")


@pytest.fixture
def inspected(tokenizer):
    chat_format = data.ChatFormat(tokenizer)
    rows = [data.Conversation(f"bake {n}", "wait", "x " * n, f"row {n}") for n in range(1, 30)]
    encoded = [chat_format.encode(row) for row in rows]
    kept, _ = data.fit(encoded, 48, "drop")
    assert 0 < len(kept) < len(encoded)
    whole = inspect(
        rows, encoded, kept, chat_format, first=2, batch_size=2, max_length=48, seed=0
    )  # fmt: skip
    return whole, encoded, kept


def test_the_first_rows_are_shown_and_all_are_measured(inspected):
    whole, encoded, kept = inspected
    assert [row.origin for row in whole.rows] == ["row 1", "row 2"]
    assert whole.row_lengths == tuple(len(row.tokens) for row in encoded)
    assert whole.prompt_lengths == tuple(row.prompt_length for row in encoded)
    supervised = sum(row.supervised.sum() for row in kept)
    assert whole.supervised_share == supervised / sum(len(row.tokens) for row in kept)


def test_efficiency_is_that_of_the_batches(inspected):
    whole, _, kept = inspected
    read = np.array([len(row.tokens) - 1 for row in kept])
    longest = -(-read.max() // 16) * 16
    assert whole.padded_efficiency == pytest.approx(read.mean() / longest)
    assert whole.padded_efficiency < whole.packed_efficiency <= 1
    # As many lines as packing needs, at best one more than if rows could be cut.
    lines = read.sum() / (whole.packed_efficiency * 48)
    assert lines == pytest.approx(round(lines))
    assert round(lines) % 2 == 0


def test_more_rows_may_be_asked_for_than_there_are(tokenizer):
    chat_format = data.ChatFormat(tokenizer)
    rows = [dataclasses.replace(ODD)]
    encoded = [chat_format.encode(rows[0])]
    whole = inspect(rows, encoded, encoded, chat_format, first=5, batch_size=4, max_length=200)
    assert len(whole.rows) == 1
