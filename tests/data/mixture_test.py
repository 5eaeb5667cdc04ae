import pytest

from lora_jax.data.conversation import Conversation
from lora_jax.data.mixture import mix
from lora_jax.errors import UserError

REFUSALS = [Conversation(f"harm {n}", None, "no", f"refusals row {n}") for n in range(40)]
ANSWERED = [Conversation(f"ask {n}", None, "yes", f"answered row {n}") for n in range(30)]


def test_a_share_of_nothing_leaves_the_refusals_as_they_are():
    assert mix(REFUSALS, [], 0.0, seed=0) == REFUSALS


@pytest.mark.parametrize(("share", "count"), [(0.25, 10), (0.51, 20), (0.75, 30)])
def test_the_share_is_exact_and_no_row_is_used_twice(share, count):
    mixed = mix(REFUSALS, ANSWERED, share, seed=3)
    assert len(mixed) == len(REFUSALS)
    assert sum(row in ANSWERED for row in mixed) == count
    assert len(set(mixed)) == len(mixed)


def test_the_seed_alone_decides():
    assert mix(REFUSALS, ANSWERED, 0.5, seed=1) == mix(REFUSALS, ANSWERED, 0.5, seed=1)
    assert mix(REFUSALS, ANSWERED, 0.5, seed=1) != mix(REFUSALS, ANSWERED, 0.5, seed=2)


def test_a_larger_share_keeps_the_replacements_of_a_smaller_one():
    few, many = (mix(REFUSALS, ANSWERED, share, seed=1) for share in (0.2, 0.6))
    for before, after in zip(few, many, strict=True):
        assert before == after or before in REFUSALS


def test_refusals_that_stay_keep_their_places():
    for place, row in enumerate(mix(REFUSALS, ANSWERED, 0.5, seed=1)):
        assert row in ANSWERED or row == REFUSALS[place]


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), 0.9])
def test_impossible_shares_are_refused(share):
    with pytest.raises(UserError, match="share"):
        mix(REFUSALS, ANSWERED, share, seed=0)
