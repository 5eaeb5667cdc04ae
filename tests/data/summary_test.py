from lora_jax import data

ROWS = [
    ("a b", "wait", "Bake it."),
    ("b", "wait", "Mix flour and water."),
    ("A  b", "wait", "No."),
    ("c", "wait", "x " * 90),
    ("b", "wait", "Mix flour and water."),
    ("b", "", "Mix flour and water."),
]


def summary_of(rows, tokenizer, **options):
    chat_format = data.ChatFormat(tokenizer, **options)
    mixture = data.mix({"a": rows[:4], "b": rows[4:]}, {"a": "all", "b": "all"}, seed=0)
    kept, overlong = data.fit([chat_format.encode(row) for row in mixture.rows], 60, "drop")
    return kept, data.summarise(mixture, kept, overlong)


def test_counts_are_those_of_the_batches(tokenizer):
    rows = [data.Conversation(*row, f"row {n}") for n, row in enumerate(ROWS)]
    kept, summary = summary_of(rows, tokenizer)
    (batch,) = data.training_batches(
        kept, batch_size=5, max_length=60, epochs=1, seed=0, packing=False
    )
    assert summary.rows == 5
    assert summary.rows_by_source == {"a": 4, "b": 2}
    assert summary.overlong == data.OverlongCounts(target_too_long=1)
    assert summary.duplicate_prompts == 3
    assert summary.duplicate_rows == 1
    assert summary.supervised_tokens == batch["loss_mask"].sum()
    # A row's last token is only ever a target.
    assert summary.total_tokens == (batch["segment_ids"] > 0).sum() + 5
    assert summary.longest_row == batch["positions"].max() + 2
    assert summary.supervised_share == summary.supervised_tokens / summary.total_tokens


def test_a_first_token_is_never_counted_as_supervised(tokenizer):
    rows = [data.Conversation(f"bake {n}", "wait", "No.", f"row {n}") for n in range(5)]
    _, summary = summary_of(rows, tokenizer, supervise="whole_sequence")
    assert summary.supervised_tokens == summary.total_tokens - 5


def test_the_same_prompt_after_other_turns_is_no_duplicate(tokenizer):
    turns = [(data.Turn("user", word), data.Turn("assistant", "So.")) for word in "abcba"]
    rows = [data.Conversation("and?", "wait", "No.", "row", context) for context in turns]
    _, summary = summary_of(rows, tokenizer)
    assert (summary.duplicate_prompts, summary.duplicate_rows) == (2, 2)
