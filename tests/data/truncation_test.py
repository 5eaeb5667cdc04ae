import numpy as np
import pytest

from lora_jax.data.chat_format import EncodedConversation
from lora_jax.data.truncation import OverlongCounts, fit
from lora_jax.errors import UserError


def row(prompt, target, origin="row 1"):
    length = prompt + target
    return EncodedConversation(np.zeros(length, np.int32), np.ones(length, bool), prompt, origin)


ROWS = [row(3, 5, "short"), row(3, 6, "long"), row(8, 1, "wordy"), row(7, 1, "tight")]


def test_rows_are_kept_whole_or_dropped_and_counted_by_cause():
    kept, counts = fit(ROWS, 8, "drop")
    assert [item.origin for item in kept] == ["short", "tight"]
    assert [len(item.tokens) for item in kept] == [8, 8]
    assert counts == OverlongCounts(prompt=1, target=1)
    assert counts.total == 2


def test_a_target_that_would_lose_its_end_is_an_error_naming_row_and_remedy():
    with pytest.raises(UserError, match=r"long has 9 tokens.*2 of 4 rows.*max_length to 9"):
        fit(ROWS, 8, "error")


def test_rows_that_fit_exactly_pass():
    assert fit(ROWS, 9, "error") == (ROWS, OverlongCounts(0, 0))


def test_nothing_left_and_unknown_rules_are_refused():
    with pytest.raises(UserError, match="no row has at most max_length 4"):
        fit(ROWS, 4, "drop")
    with pytest.raises(UserError, match="choose one of error, drop"):
        fit(ROWS, 8, "cut")
