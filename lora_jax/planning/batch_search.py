"""The largest batch that fits, in few compilations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

PRECISION = 1 / 32  # Of the answer, where batches are so large that one sequence more is nothing.


class Point(Protocol):
    """What the search asks of a batch that was tried.

    Attributes:
        batch_size: Its size.
        fits: Whether it fits.
        used: Bytes that it uses.
    """

    batch_size: int
    fits: bool
    used: int


def largest_batch(
    first: Point, attempt: Callable[[int], Point], *, ways: int, fixed: int, limit: int
) -> Point | None:
    """Find the largest batch that fits.

    Memory grows with the batch along a line, nearly: the next batch to try is where the line through
    what is known meets the limit. What is known to fit and not to fit bounds it from both sides.

    Args:
        first: A batch that was tried.
        attempt: Tries another batch.
        ways: Every batch is a multiple of it.
        fixed: Bytes that no batch changes.
        limit: Bytes that there are.

    Returns:
        What was found for the largest batch that fits, which one larger by `PRECISION`, or by `ways`,
        does not; None if not even the smallest does.
    """
    low, high = (first, None) if first.fits else (None, first)
    used = {0: fixed, first.batch_size // ways: first.used}
    while True:
        below = low.batch_size // ways if low else 0
        above = high.batch_size // ways if high else None
        apart = max(1, int(below * PRECISION))
        if above is not None and above - below <= apart:
            return low
        near = sorted(used, key=lambda parts: abs(used[parts] - limit))[:2]
        guess = max(below + apart, _meets(*((parts, used[parts]) for parts in near), limit))
        # Without a bound above, a line through noise must not lead astray.
        guess = min(guess, 8 * below if above is None else above - 1)
        point = attempt(guess * ways)
        used[guess] = point.used
        low, high = (point, high) if point.fits else (low, point)


def _meets(one: tuple[int, int], other: tuple[int, int], limit: int) -> int:
    """Return where the line through two points reaches the limit, rounded down."""
    slope = (other[1] - one[1]) / (other[0] - one[0])
    return int(other[0] + (limit - other[1]) / slope) if slope > 0 else 2 * max(one[0], other[0])
