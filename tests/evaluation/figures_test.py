import dataclasses
import io
import math

import numpy as np
import pytest
from matplotlib import image

from lora_jax.evaluation.figures import (
    Arm,
    Point,
    learning_rates,
    loss_curve,
    place,
    refusal_bars,
    safety_reasoning,
)
from lora_jax.evaluation.statistics import Proportion

BEFORE = Point(Proportion(2, 100), Proportion(178, 200), Proportion(182, 200))
AFTER = Point(Proportion(99, 100), Proportion(175, 200), Proportion(181, 200))


def pixels(path) -> np.ndarray:
    return image.imread(io.BytesIO(path.read_bytes()), format="png")


def test_loss_curve_draws_the_losses(tmp_path):
    falling = [{"step": i, "loss": 2 / i} for i in range(1, 101)]
    rising = [{"step": i, "loss": 2 / (101 - i)} for i in range(1, 101)]
    assert loss_curve(falling, tmp_path / "a.png") and loss_curve(rising, tmp_path / "b.png")
    assert pixels(tmp_path / "a.png").shape == pixels(tmp_path / "b.png").shape
    assert not np.array_equal(pixels(tmp_path / "a.png"), pixels(tmp_path / "b.png"))


def test_loss_curve_leaves_out_what_cannot_be_drawn(tmp_path):
    rows = [{"step": i, "loss": 2 / i} for i in range(1, 9)]
    noise = [{"step": 9, "loss": math.nan}, {"step": 9, "loss": 0.0}, {"step": 9, "rate": 1}]
    loss_curve(rows, tmp_path / "a.png")
    loss_curve(noise + rows[::-1], tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("rows", [[], [{"step": 1}], [{"step": 1, "loss": math.nan}]])
def test_loss_curve_without_losses_writes_nothing(tmp_path, rows):
    assert not loss_curve(rows, tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_one_logged_loss_can_be_seen(tmp_path):
    loss_curve([{"step": 1, "loss": 1.0}], tmp_path / "a.png")
    loss_curve([{"step": 1, "loss": 1.0}, {"step": 2, "loss": 1.0}], tmp_path / "b.png")
    assert not np.array_equal(pixels(tmp_path / "a.png"), pixels(tmp_path / "b.png"))


def test_safety_reasoning_shows_where_training_led(tmp_path):
    safety_reasoning([Arm("rank 1", BEFORE, AFTER)], tmp_path / "a.png")
    worse = Point(AFTER.refused, Proportion(20, 200), AFTER.think_block)
    safety_reasoning([Arm("rank 1", BEFORE, worse)], tmp_path / "b.png")
    assert not np.array_equal(pixels(tmp_path / "a.png"), pixels(tmp_path / "b.png"))


@pytest.mark.parametrize("count", [0, 4])
def test_safety_reasoning_takes_extremes_and_many_arms(tmp_path, count):
    extreme = Point(*[Proportion(count, 4)] * 3)
    arms = [Arm(f"arm {i}", extreme, AFTER) for i in range(7)]
    safety_reasoning(arms, tmp_path / "a.png")
    assert pixels(tmp_path / "a.png").min() < 0.5  # something is drawn on the white


def test_place_reads_the_three_proportions(after):
    expected = Point(Proportion(9, 10), Proportion(8, 10), Proportion(10, 10))
    assert place(after) == expected


@pytest.mark.parametrize("measure", ["refused", "strict", "think_block"])
def test_learning_rates_show_every_measure(tmp_path, measure):
    points = {1e-4: BEFORE, 1e-3: AFTER}
    learning_rates({"rank 1": points}, BEFORE, tmp_path / "a.png")
    moved = dataclasses.replace(AFTER, **{measure: Proportion(20, 100)})
    learning_rates({"rank 1": points | {1e-3: moved}}, BEFORE, tmp_path / "b.png")
    assert not np.array_equal(pixels(tmp_path / "a.png"), pixels(tmp_path / "b.png"))


def test_refusal_bars_grow_with_the_rate(tmp_path):
    before = {"Harmful": Proportion(0, 50), "Benign": Proportion(0, 50)}
    blue = []
    for count in (10, 50):
        path = tmp_path / f"{count}.png"
        refusal_bars(before, before | {"Harmful": Proportion(count, 50)}, path)
        red, _, violet = np.moveaxis(pixels(path)[..., :3], -1, 0)
        blue.append(np.sum(violet - red > 0.4))
    assert blue[1] > 3 * blue[0]


def test_figures_are_reproducible(tmp_path):
    for name in ("a.png", "b.png"):
        safety_reasoning([Arm("rank 1", BEFORE, AFTER)], tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
