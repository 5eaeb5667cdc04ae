import math

import numpy as np
import pytest

from lora_jax.evaluation.statistics import (
    Proportion,
    mcnemar_p_value,
    paired_change,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe, Statistics in Medicine 17 (1998), table I
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_equals_published_values(count, total, low, high):
    # Published to four decimals, with the quantile 1.96.
    assert wilson_interval(count, total) == pytest.approx((low, high), abs=6e-5)


def test_wilson_interval_solves_its_definition():
    for count, total in ((3, 7), (90, 100), (1, 200)):
        for end in wilson_interval(count, total):
            score = abs(count / total - end) / math.sqrt(end * (1 - end) / total)
            assert score == pytest.approx(1.959964, abs=1e-5)


@pytest.mark.parametrize("total", [1, 3, 100])
def test_wilson_interval_at_the_ends_mirrors_and_has_width(total):
    low, high = wilson_interval(0, total)
    assert low == 0.0 < high < 1.0
    assert wilson_interval(total, total) == pytest.approx((1 - high, 1.0))


@pytest.mark.parametrize(("count", "total"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_interval_refuses_what_is_no_proportion(count, total):
    with pytest.raises(ValueError, match="not a proportion"):
        wilson_interval(count, total)


def test_proportion_has_rate_and_interval():
    assert Proportion(3, 4).rate == 0.75
    assert Proportion(3, 4).interval == wilson_interval(3, 4)


@pytest.mark.parametrize(
    ("gained", "lost", "expected"),
    [
        (0, 0, 1.0),
        (1, 1, 1.0),
        (5, 0, 2 / 2**5),
        (0, 6, 2 / 2**6),
        (2, 8, 2 * (1 + 10 + 45) / 2**10),
        (4, 4, 1.0),
    ],
)
def test_mcnemar_p_value_in_closed_form(gained, lost, expected):
    assert mcnemar_p_value(gained, lost) == pytest.approx(expected)


def test_mcnemar_p_value_is_the_sign_flip_permutation_test():
    gained, lost = 5, 2
    differences = np.array([1] * gained + [-1] * lost)
    flips = np.array(np.meshgrid(*[[-1, 1]] * len(differences))).reshape(len(differences), -1)
    sums = np.abs(differences @ flips)
    assert mcnemar_p_value(gained, lost) == pytest.approx(np.mean(sums >= abs(differences.sum())))


def test_paired_change_counts_both_ways():
    change = paired_change([0, 0, 0, 1, 1], [1, 1, 0, 0, 1])
    assert (change.gained, change.lost, change.total) == (2, 1, 5)
    assert change.change == pytest.approx(0.2)


def test_paired_change_interval_equals_resampling_the_prompts():
    rng = np.random.default_rng(1)
    before = rng.random(80) < 0.7
    after = np.where(rng.random(80) < 0.3, ~before, before)
    interval = paired_change(before, after).interval
    differences = after.astype(int) - before.astype(int)
    picks = rng.integers(0, 80, size=(10_000, 80))
    expected = np.quantile(differences[picks].mean(axis=1), [0.025, 0.975])
    assert interval == pytest.approx(expected, abs=0.02)  # one prompt is 0.0125


def test_paired_change_covers_the_truth_in_95_percent_of_draws():
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(300):
        before = rng.random(100) < 0.5
        after = np.where(before, rng.random(100) < 0.8, rng.random(100) < 0.5)
        low, high = paired_change(before, after).interval
        covered += low <= 0.15 <= high  # 0.5 * 0.5 gained less 0.5 * 0.2 lost
    assert 0.91 <= covered / 300 <= 0.98


def test_paired_change_depends_on_the_seed_alone():
    before, after = np.arange(50) % 3 == 0, np.arange(50) % 2 == 0
    assert paired_change(before, after, seed=3) == paired_change(before, after, seed=3)


@pytest.mark.parametrize(
    ("gained", "lost", "verdict"),
    [
        (30, 0, "higher"),
        (0, 30, "lower"),
        (0, 0, "no difference shown"),
        (5, 4, "no difference shown"),
        # The bootstrap leaves out 0 here, but four coin tosses often fall alike.
        (4, 0, "no difference shown"),
    ],
)
def test_verdict_needs_the_interval_and_the_exact_test(gained, lost, verdict):
    before = [0] * gained + [1] * lost + [1] * 70
    after = [1] * gained + [0] * lost + [1] * 70
    assert paired_change(before, after).verdict == verdict


def test_bootstrap_alone_would_have_called_four_prompts_a_change():
    change = paired_change([0] * 4 + [1] * 70, [1] * 74)
    assert change.interval[0] > 0 and change.p_value == pytest.approx(0.125)


@pytest.mark.parametrize(("before", "after"), [([], []), ([1], [1, 0]), ([[1]], [[1]])])
def test_paired_change_refuses_what_cannot_be_paired(before, after):
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_change(before, after)
