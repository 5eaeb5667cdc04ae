from lora_jax import data


def test_counts_are_those_of_the_batches(tokenizer):
    answers = [("a", "Bake it."), ("b", "Mix flour and water."), ("a", "No."), ("c", "x " * 90)]
    rows = [data.Conversation(p, "wait", text, f"row {p}") for p, text in answers]
    kept, overlong = data.fit([data.encode(r, tokenizer, "template") for r in rows], 60, "drop")
    summary = data.summarise(rows, kept, overlong)
    batches = data.training_batches(
        kept, batch_size=3, max_length=60, epochs=1, seed=0, packing=False
    )
    (batch,) = batches
    assert summary.rows == 3
    assert summary.dropped_rows == 1
    assert summary.duplicate_prompts == 1
    assert summary.supervised_tokens == batch["loss_mask"].sum()
    # A row's last token is only ever a target.
    assert summary.total_tokens == (batch["segment_ids"] > 0).sum() + 3
    assert summary.longest_row == batch["positions"].max() + 2


def test_a_first_token_is_never_counted_as_supervised(tokenizer, conversation):
    row = data.encode(conversation, tokenizer, "template", "whole_sequence")
    summary = data.summarise([conversation], [row], data.OverlongCounts(0, 0))
    assert summary.supervised_tokens == summary.total_tokens - 1
