"""The lengths of the rows, drawn."""

import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from lora_jax import canvas

BINS = 40


def length_histogram(
    prompts: Sequence[int], rows: Sequence[int], max_length: int, path: pathlib.Path
) -> None:
    """Draw how long rows are, with their prompts, against the longest allowed.

    Args:
        prompts: tokens of each row's prompt.
        rows: tokens of each row, prompt and target, before any is dropped or cut.
        max_length: tokens that a row may have.
        path: of the PNG file.

    Raises:
        OSError: if the file cannot be written.
    """
    over = sum(length > max_length for length in rows)
    subtitle = f"{len(rows):,} rows, median {np.median(rows):,.0f} tokens, longest {max(rows):,}"
    figure, axes = canvas.figure("Length of the training rows", f"{subtitle}; {over:,} too long")
    bins = np.histogram_bin_edges([0, max(rows) + 1], BINS)
    axes.hist(rows, bins, color=canvas.ARMS[0], alpha=0.85, label="row", zorder=2)
    axes.hist(prompts, bins, color=canvas.BEFORE, histtype="step", linewidth=1.6, label="prompt")
    if over or max_length < 1.5 * max(rows):
        axes.axvline(max_length, color=canvas.ARMS[1], linewidth=1.6, label="max_length")
    canvas.legend(axes, *axes.get_legend_handles_labels())
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("Tokens")
    axes.set_ylabel("Rows")
    axes.margins(x=0.01)
    canvas.save(figure, path)
