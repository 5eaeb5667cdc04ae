"""Intervals for one proportion and for the change of a proportion on the same prompts."""

import dataclasses
import math

import numpy as np

CONFIDENCE = 0.95
_NORMAL_QUANTILE = 1.959963984540054  # of the standard normal, two-sided at CONFIDENCE
_BOOTSTRAP_SAMPLES = 10_000


def wilson_interval(count: int, total: int) -> tuple[float, float]:
    """Compute the 95% Wilson score interval of a proportion.

    Unlike the normal approximation it keeps its coverage near 0 and 1, where refusal rates live, and
    it never has zero width.

    Args:
        count: successes, 0 <= count <= total.
        total: trials, at least 1.

    Returns:
        The lower and the upper end, both in [0, 1].

    Raises:
        ValueError: if the counts are not those of a proportion.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
        JASA 22 (1927).
    """
    if not 0 <= count <= total or total < 1:
        raise ValueError(f"{count} of {total} is not a proportion")
    rate, z2 = count / total, _NORMAL_QUANTILE**2
    centre = (rate + z2 / (2 * total)) / (1 + z2 / total)
    spread = math.sqrt(rate * (1 - rate) / total + z2 / (4 * total**2))
    half = _NORMAL_QUANTILE * spread / (1 + z2 / total)
    # At 0 and at `total` the ends are exact in theory; rounding must not move them.
    low = 0.0 if count == 0 else centre - half
    high = 1.0 if count == total else centre + half
    return low, high


@dataclasses.dataclass(frozen=True)
class Proportion:
    """Hold how many of how many, with its rate and 95% Wilson interval."""

    count: int
    total: int

    @property
    def rate(self) -> float:
        """Return the observed share, in [0, 1]."""
        return self.count / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95% Wilson interval, in [0, 1]."""
        return wilson_interval(self.count, self.total)


def mcnemar_p_value(gained: int, lost: int) -> float:
    """Compute the exact two-sided McNemar p-value.

    Under the null hypothesis every prompt whose verdict changed was as likely to change either way,
    so the smaller of the two counts is binomial with probability one half. For verdicts of 0 and 1
    this is also the exact sign-flip permutation test of the mean difference.

    Args:
        gained: prompts that went from no to yes.
        lost: prompts that went from yes to no.

    Returns:
        The p-value, in (0, 1]; 1 when no verdict changed.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated
        proportions or percentages", Psychometrika 12 (1947), in its exact form.
    """
    changed = gained + lost
    tail = sum(math.comb(changed, k) for k in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**changed)


@dataclasses.dataclass(frozen=True)
class PairedChange:
    """Describe how a yes/no measure changed on the same prompts.

    Attributes:
        gained: prompts that went from no to yes.
        lost: prompts that went from yes to no.
        total: prompts.
        interval: 95% bootstrap interval of the change, in [-1, 1].
        p_value: exact McNemar p-value.
    """

    gained: int
    lost: int
    total: int
    interval: tuple[float, float]
    p_value: float

    @property
    def change(self) -> float:
        """Return the rate after less the rate before, in [-1, 1]."""
        return (self.gained - self.lost) / self.total

    @property
    def verdict(self) -> str:
        """Return "higher", "lower" or "no difference shown".

        Both the interval and the exact test have to agree that there is a change: with a handful of
        changed prompts the bootstrap alone is too sure of itself.
        """
        low, high = self.interval
        if low <= 0 <= high or self.p_value > 1 - CONFIDENCE:
            return "no difference shown"
        return "higher" if low > 0 else "lower"


def paired_change(before, after, *, seed: int = 0) -> PairedChange:
    """Compare the verdicts of two measurements on the same prompts.

    The interval is the percentile bootstrap over prompts. Resampling prompts whose difference is -1,
    0 or +1 is drawing their three counts from a multinomial, which is what is done here.

    Args:
        before: verdicts [N], booleans or 0/1.
        after: verdicts [N] of the same prompts in the same order.
        seed: of the bootstrap.

    Returns:
        The change with its interval and p-value.

    Raises:
        ValueError: if the two do not have the same, non-zero length.

    Source: B. Efron, R. Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.
    """
    before, after = np.asarray(before, bool), np.asarray(after, bool)
    if before.shape != after.shape or before.ndim != 1 or not before.size:
        raise ValueError(f"verdicts of shape {before.shape} and {after.shape} cannot be paired")
    total = before.size
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    shares = np.array([gained, lost, total - gained - lost]) / total
    draws = np.random.default_rng(seed).multinomial(total, shares, size=_BOOTSTRAP_SAMPLES)
    changes = (draws[:, 0] - draws[:, 1]) / total
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = (float(end) for end in np.quantile(changes, tails))
    return PairedChange(gained, lost, total, (low, high), mcnemar_p_value(gained, lost))
