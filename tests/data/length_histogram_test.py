import numpy as np
import pytest
from matplotlib.image import imread

from lora_jax.data.length_histogram import length_histogram


@pytest.mark.parametrize("max_length", [64, 100_000])
def test_histogram_is_drawn_alike_every_time(tmp_path, max_length):
    rng = np.random.default_rng(0)
    rows = rng.integers(20, 200, 300).tolist()
    prompts = [row // 2 for row in rows]
    for name in ("one.png", "two.png"):
        length_histogram(prompts, rows, max_length, tmp_path / name)
    image = imread(tmp_path / "one.png")
    assert image.shape[1] > 1000 and np.ptp(image) > 0.5
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_one_row_is_enough(tmp_path):
    length_histogram([3], [7], 1024, tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 5000
