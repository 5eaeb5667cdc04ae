import numpy as np
import pytest

from lora_jax.data.chat_format import EncodedConversation
from lora_jax.data.truncation import OverlongCounts, fit
from lora_jax.errors import UserError


def row(prompt, target, origin="row 1"):
    tokens = np.arange(prompt + target, dtype=np.int32)
    return EncodedConversation(tokens, tokens >= prompt, prompt, origin)


ROWS = [row(3, 5, "short"), row(3, 6, "long"), row(8, 1, "wordy"), row(7, 1, "tight")]


def test_rows_are_kept_whole_or_dropped_and_counted_by_cause():
    kept, counts = fit(ROWS, 8, "drop")
    assert [item.origin for item in kept] == ["short", "tight"]
    assert [len(item.tokens) for item in kept] == [8, 8]
    assert counts == OverlongCounts(prompt_too_long=1, target_too_long=1)
    assert counts.dropped == 2


def test_targets_are_cut_on_request_and_hopeless_prompts_dropped_even_then():
    kept, counts = fit(ROWS, 8, "truncate")
    assert [item.origin for item in kept] == ["short", "long", "tight"]
    assert counts == OverlongCounts(prompt_too_long=1, truncated=1)
    assert counts.dropped == 1
    cut = kept[1]
    assert cut.tokens.tolist() == ROWS[1].tokens[:8].tolist()
    assert cut.supervised.tolist() == [False] * 3 + [True] * 5
    assert len(ROWS[1].tokens) == 9
    assert kept[0] is ROWS[0]
    assert all(item.supervised.any() for item in kept)


def test_a_target_that_would_lose_its_end_is_an_error_naming_row_and_remedy():
    with pytest.raises(UserError, match=r"long has 9 tokens.*2 of 4 rows.*max_length to 9"):
        fit(ROWS, 8, "error")


@pytest.mark.parametrize("overlong", ["error", "drop", "truncate"])
def test_rows_that_fit_exactly_pass(overlong):
    assert fit(ROWS, 9, overlong) == (ROWS, OverlongCounts())


def test_nothing_left_and_unknown_rules_are_refused():
    with pytest.raises(UserError, match=r"max_length 4 \(2 have too long a prompt, 2 too long a"):
        fit(ROWS, 4, "drop")
    with pytest.raises(UserError, match="no row fits into max_length 3"):
        fit(ROWS, 3, "truncate")
    with pytest.raises(UserError, match="choose one of error, drop, truncate"):
        fit(ROWS, 8, "cut")
