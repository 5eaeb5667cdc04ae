"""Encoded conversations as a stream of equal batches that resumes exactly (grain)."""

import dataclasses
import functools
import math
from collections.abc import Sequence

import grain
import numpy as np

from lora_jax.data.chat_format import EncodedConversation
from lora_jax.errors import UserError

# The length of padded batches is a multiple of this, so that it suits the hardware's tiles.
LENGTH_MULTIPLE = 16

# The rows are in memory already: threads to read them ahead would only compete with the step.
_NO_READ_AHEAD = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)


@dataclasses.dataclass(frozen=True)
class TrainingBatches:
    """Iterate over the batches of one run.

    Each batch is a dict of arrays of one shape [B, T] throughout the run, so a step compiles once:

      tokens         int32  what the model reads; 0 in padding
      targets        int32  the token that follows, within the same row; 0 in padding
      loss_mask      bool   True where the target is supervised
      positions      int32  0, 1, .. from the start of each row
      segment_ids    int32  1, 2, .. for the rows packed side by side; 0 in padding

    `iter()` gives a grain iterator. Its `get_state()` is a JSON-able dict of the position after the
    last batch taken, and `set_state()` continues from there with the very same batches.

    Attributes:
      dataset: The grain dataset behind it.
      shape: (B, T).
      steps_per_epoch: Batches after which every row has been seen once, rounded up.
      total_steps: Batches in the whole run.
    """

    dataset: grain.IterDataset
    shape: tuple[int, int]
    steps_per_epoch: int
    total_steps: int

    def __iter__(self) -> grain.DatasetIterator:
        """Start at the first batch."""
        return iter(self.dataset)


def training_batches(
    encoded: Sequence[EncodedConversation],
    *,
    batch_size: int,
    max_length: int,
    epochs: int,
    seed: int,
    packing: bool,
) -> TrainingBatches:
    """Shuffle, repeat, pad or pack, and batch rows.

    Every epoch has an order of its own. Batches run on over the end of an epoch. Padded, T is the
    longest row rounded up to a multiple of 16, and the rows that do not fill the run's last batch are
    left out, at most B - 1 in all. Packed, T is `max_length`, and the run's last batch is filled up
    with padding, because a line of it may hold many rows.

    Args:
      encoded: The rows, each of at most `max_length` tokens.
      batch_size: B.
      max_length: T of packed batches.
      epochs: How often each row is seen.
      seed: Decides the order of the rows.
      packing: Whether several rows share one line of a batch.

    Returns:
      The batches of the whole run.

    Raises:
      UserError: A number is not positive, or the rows do not fill one batch.
    """
    for name, value in (("batch_size", batch_size), ("epochs", epochs)):
        if value < 1:
            raise UserError(f"{name} is {value}; set it to 1 or more")
    if not packing and len(encoded) * epochs < batch_size:
        raise UserError(
            f"{len(encoded)} rows x {epochs} epochs do not fill one batch of {batch_size}; "
            "lower batch_size or add rows"
        )
    length = max_length if packing else _padded_length(encoded)
    samples = grain.MapDataset.source([_sample(row) for row in encoded])
    # grain shuffles epoch e with seed + e; unhashed, the second epoch of seed 0 would be the first of
    # seed 1.
    shuffled = samples.shuffle(seed=int(np.random.SeedSequence(seed).generate_state(1)[0]))
    lines = grain.experimental.FirstFitPackIterDataset(
        shuffled.repeat(epochs).to_iter_dataset(_NO_READ_AHEAD),
        length_struct=dict.fromkeys(("tokens", "targets", "loss_mask"), length),
        num_packing_bins=batch_size,
        shuffle_bins=False,
        # Padding is packing with one row a line.
        max_sequences_per_bin=None if packing else 1,
    )
    dataset = lines.map(_named).batch(
        batch_size,
        drop_remainder=not packing,
        batch_fn=functools.partial(grain.experimental.batch_and_pad, batch_size=batch_size),
    )
    total = sum(1 for _ in dataset) if packing else len(encoded) * epochs // batch_size
    return TrainingBatches(dataset, (batch_size, length), math.ceil(total / epochs), total)


def _padded_length(encoded: Sequence[EncodedConversation]) -> int:
    # The last token of a row is a target and never read.
    longest = max(len(row.tokens) for row in encoded) - 1
    return math.ceil(longest / LENGTH_MULTIPLE) * LENGTH_MULTIPLE


def _sample(row: EncodedConversation) -> dict[str, np.ndarray]:
    """Shift within the row, so that no row's first token is ever a target of the one before it."""
    return {
        "tokens": row.tokens[:-1],
        "targets": row.tokens[1:],
        "loss_mask": row.supervised[1:],
    }


def _named(packed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        "tokens": packed["tokens"],
        "targets": packed["targets"],
        "loss_mask": packed["loss_mask"],
        "positions": packed["tokens_positions"],
        "segment_ids": packed["tokens_segment_ids"],
    }
