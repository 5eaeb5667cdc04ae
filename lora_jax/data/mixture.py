"""Several sources mixed by count or by share, reproducibly."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from lora_jax.data.conversation import Conversation
from lora_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Take:
    """Say how much of a source goes into the mixture; neither field set is all of it.

    Attributes:
      count: So many rows.
      share: This share of the whole mixture's rows, exact.
    """

    count: int | None = None
    share: Fraction | None = None


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Hold the rows of a training set.

    Attributes:
      rows: Of all sources, one source after the other, each in its own order.
      counts: Rows by source.
    """

    rows: list[Conversation]
    counts: dict[str, int]


def parse_take(text: str) -> Take:
    """Read how much of a source to take.

    Args:
      text: "all", "0" to leave the source out, a count such as "250", or a share of the whole mixture
        such as "25%" or "12.5%".

    Returns:
      The same as numbers.

    Raises:
      UserError: It is none of these.
    """
    if text == "all":
        return Take()
    if re.fullmatch(r"[0-9]{1,18}", text):
        return Take(count=int(text))
    match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,9})?)%", text)
    share = Fraction(match[1]) / 100 if match else None
    if share is None or not 0 < share <= 1:
        raise UserError(
            f"take is {text!r}; give 'all', '0' to leave the source out, a count such as '250', or a "
            "share of the mixture such as '25%'"
        )
    return Take(share=share)


def mix(
    sources: Mapping[str, Sequence[Conversation]], take: Mapping[str, str], seed: int
) -> Mixture:
    """Draw rows from several sources, none of them twice.

    Which rows of a source are drawn depends on its name, its length and the seed alone: another source
    changes nothing, and a larger count keeps the rows of a smaller one. Shares are of the finished
    mixture. Beside F rows that are counted, shares that add up to P make it F / (1 - P) rows long.
    Without any, they have to add up to 100%, and it is the longest mixture of which no source falls
    short of its share.

    Args:
      sources: Rows by the source's name, in the order of the mixture. One that is left out need not be
        here.
      take: How much of each, as `parse_take` reads it.
      seed: Decides the draw.

    Returns:
      The rows and their counts, without the sources that are left out.

    Raises:
      UserError: A source has fewer rows than are asked for, or the shares make no mixture.
    """
    takes = {name: parse_take(text) for name, text in take.items()}
    for name in [*sources, *(name for name in takes if takes[name] != Take(count=0))]:
        if name not in sources or name not in takes:
            missing = "rows" if name in takes else "take"
            raise UserError(f"source {name!r} has no {missing}; give both or neither")
    available = {name: len(rows) for name, rows in sources.items()}
    counts = _count(available, {name: takes[name] for name in sources})
    rows = []
    for name, count in counts.items():
        if count > available[name]:
            raise UserError(
                f"source {name!r} is to give {count} rows (take {take[name]!r}) and has "
                f"{available[name]}; take less of it"
            )
        rows += [sources[name][place] for place in _draw(name, available[name], count, seed)]
    if not rows:
        raise UserError("no source gives any rows; take some of at least one")
    return Mixture(rows, {name: count for name, count in counts.items() if count})


def _count(available: Mapping[str, int], takes: Mapping[str, Take]) -> dict[str, int]:
    """Return how many rows each source is to give."""
    shares = {name: one.share for name, one in takes.items() if one.share is not None}
    counts = {
        name: available[name] if one.count is None else one.count
        for name, one in takes.items()
        if name not in shares
    }
    if shares:
        counted, whole = sum(counts.values()), sum(shares.values())
        if counted and whole < 1:
            total = counted / (1 - whole)
        elif not counted and whole == 1:
            total = Fraction(math.floor(min(available[name] / shares[name] for name in shares)))
        else:
            needed = "less than 100% beside the counted rows" if counted else "100% by themselves"
            raise UserError(
                f"the shares of {', '.join(shares)} add up to {float(100 * whole):.6g}%; "
                f"they have to make {needed}"
            )
        counts |= _largest_remainder({name: share * total for name, share in shares.items()})
    return {name: counts[name] for name in takes}


def _largest_remainder(exact: Mapping[str, Fraction]) -> dict[str, int]:
    """Round to whole numbers that keep the rounded sum; of equal remainders the first goes up."""
    counts = {name: math.floor(value) for name, value in exact.items()}
    missing = math.floor(sum(exact.values()) + Fraction(1, 2)) - sum(counts.values())
    by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[:missing]:
        counts[name] += 1
    return counts


def _draw(name: str, available: int, count: int, seed: int) -> list[int]:
    """Return which rows of a source are taken, ascending."""
    generator = np.random.default_rng([seed, *name.encode()])
    return sorted(generator.permutation(available)[:count].tolist())
