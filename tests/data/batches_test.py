import collections
import json
import random

import grain
import numpy as np
import pytest

from lora_jax.data.batches import training_batches
from lora_jax.errors import UserError

SPEC = {
    "tokens": np.int32,
    "targets": np.int32,
    "loss_mask": np.bool_,
    "positions": np.int32,
    "segment_ids": np.int32,
}


def make(encoded, *, packing, batch_size=4, epochs=3, seed=0, max_length=100):
    return training_batches(
        encoded,
        batch_size=batch_size,
        max_length=max_length,
        epochs=epochs,
        seed=seed,
        packing=packing,
    )


def samples(batches):
    """Yield (tokens, targets, loss_mask, positions) of every packed row, in order."""
    names = ("tokens", "targets", "loss_mask", "positions")
    for batch in batches:
        for line in range(len(batch["tokens"])):
            segments = batch["segment_ids"][line]
            for segment in range(1, segments.max() + 1):
                yield tuple(batch[name][line][segments == segment] for name in names)


def order(batches):
    return [tuple(tokens) for tokens, *_ in samples(batches)]


def assert_same(left, right):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name])


@pytest.mark.parametrize("packing", [False, True])
def test_every_batch_has_the_promised_shape_and_types(encoded, packing):
    batches = make(encoded, packing=packing)
    every = list(batches)
    assert len(every) == batches.total_steps
    for batch in every:
        assert {name: value.dtype for name, value in batch.items()} == SPEC
        assert {value.shape for value in batch.values()} == {batches.shape}


def test_padded_length_is_the_longest_row_rounded_up_to_16(encoded):
    length = make(encoded, packing=False).shape[1]
    longest = max(len(row.tokens) for row in encoded)
    assert length % 16 == 0
    assert length - 16 < longest - 1 <= length


@pytest.mark.parametrize("packing", [False, True])
def test_every_sample_is_one_row_shifted_within_itself(encoded, packing):
    rows = {tuple(row.tokens[:-1]): row for row in encoded}
    assert len(rows) == len(encoded)
    for tokens, targets, mask, positions in samples(make(encoded, packing=packing)):
        row = rows[tuple(tokens)]
        np.testing.assert_array_equal(targets, row.tokens[1:])
        np.testing.assert_array_equal(mask, row.supervised[1:])
        np.testing.assert_array_equal(positions, np.arange(len(tokens)))
        assert targets[mask][-1] == row.tokens[-1]  # EOS is in the loss.
        assert row.tokens[0] not in targets  # The next row's BOS is no one's target.


@pytest.mark.parametrize("packing", [False, True])
def test_padding_is_empty(encoded, packing):
    for batch in make(encoded, packing=packing):
        padding = batch["segment_ids"] == 0
        for value in batch.values():
            assert not value[padding].any()


def test_packing_shares_lines_and_padding_does_not(encoded):
    assert max(batch["segment_ids"].max() for batch in make(encoded, packing=False)) == 1
    assert max(batch["segment_ids"].max() for batch in make(encoded, packing=True)) > 2


def test_packed_every_row_is_seen_once_an_epoch(encoded):
    counts = collections.Counter(order(make(encoded, packing=True, epochs=3)))
    assert counts == {tuple(row.tokens[:-1]): 3 for row in encoded}


def test_padded_only_the_rest_of_the_run_is_left_out(encoded):
    batches = make(encoded, packing=False, epochs=3)  # 39 rows in batches of 4.
    assert batches.total_steps == 9
    assert batches.steps_per_epoch == 3
    seen = order(batches)
    for epoch in range(2):
        assert set(seen[13 * epoch : 13 * (epoch + 1)]) == {tuple(r.tokens[:-1]) for r in encoded}


def test_steps_of_the_published_recipe(encoded):
    batches = make(encoded[:1] * 1000, packing=False, batch_size=2, epochs=10)
    assert (batches.steps_per_epoch, batches.total_steps) == (500, 5000)


def test_order_is_fresh_each_epoch_and_decided_by_the_seed(encoded):
    def epochs(seed):
        seen = order(make(encoded, packing=False, batch_size=1, epochs=2, seed=seed))
        return seen[:13], seen[13:]

    first, second = epochs(0)
    assert first != second
    assert epochs(0) == (first, second)
    # Neighbouring seeds must not give one another's epochs.
    assert epochs(1)[0] not in (first, second)


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_resumed_iterator_gives_the_very_same_rest(encoded, packing, batch_size):
    batches = make(encoded, packing=packing, batch_size=batch_size)
    whole = list(batches)
    cuts = {0, len(whole) - 1, len(whole), *random.Random(0).sample(range(len(whole)), 3)}
    for cut in cuts:
        iterator = iter(batches)
        for _ in range(cut):
            next(iterator)
        state = json.loads(json.dumps(iterator.get_state()))
        # A new process builds its batches anew.
        resumed = iter(make(encoded, packing=packing, batch_size=batch_size))
        resumed.set_state(state)
        rest = list(resumed)
        assert len(rest) == len(whole) - cut
        for left, right in zip(rest, whole[cut:], strict=True):
            assert_same(left, right)


@pytest.mark.parametrize("packing", [False, True])
def test_state_survives_several_cuts_and_looking_at_it_changes_nothing(encoded, packing):
    batches = make(encoded, packing=packing)
    state, seen = iter(batches).get_state(), []
    for _ in range(batches.total_steps):
        iterator = iter(batches)
        iterator.set_state(state)
        seen.append(next(iterator))
        state = iterator.get_state()
        assert iterator.get_state() == state
    for left, right in zip(seen, batches, strict=True):
        assert_same(left, right)


def test_batches_are_a_grain_iterator(encoded):
    assert isinstance(iter(make(encoded, packing=True)), grain.DatasetIterator)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 50}, "13 rows x 3 epochs do not fill one batch of 50"),
    ],
)
def test_runs_of_no_step_are_refused(encoded, changes, complaint):
    with pytest.raises(UserError, match=complaint):
        make(encoded, packing=False, **changes)
