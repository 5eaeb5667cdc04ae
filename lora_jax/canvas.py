"""The one style of all figures: an empty canvas, axes on it, and a PNG file in the end."""

import io
import pathlib

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lora_jax.workdir import write_atomically

INK, MUTED, GRID = "#1f2933", "#6b7683", "#e4e7eb"
BEFORE = "#8793a1"
ARMS = (
    "#0b6e99",
    "#c8553d",
    "#5b8c3e",
    "#7a4f9e",
    "#c58f00",
)  # told apart by colour-blind readers
FONT = "DejaVu Sans"  # ships with matplotlib, so that figures look alike everywhere
LEFT, WIDTH = 0.105, 0.865  # of the axes, in shares of the figure


def figure(title: str, subtitle: str) -> tuple[Figure, Axes]:
    """Start a figure with one panel.

    Args:
        title: in bold, on top.
        subtitle: below it, in grey.
    """
    page = blank(title, subtitle)
    return page, panel(page, (LEFT, 0.13, WIDTH, 0.67))


def blank(title: str, subtitle: str) -> Figure:
    """Start a figure without panels; the arguments are those of `figure`."""
    page = Figure(figsize=(7.6, 4.9), dpi=160, facecolor="white")
    FigureCanvasAgg(page)
    page.text(LEFT, 0.935, title, fontsize=15, fontweight="bold", color=INK, family=FONT)
    page.text(LEFT, 0.885, subtitle, fontsize=10, color=MUTED, family=FONT)
    return page


def panel(page: Figure, box: tuple[float, float, float, float]) -> Axes:
    """Add axes to a figure.

    Args:
        page: the figure.
        box: left, bottom, width and height, in shares of the figure.
    """
    axes = page.add_axes(box)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelcolor=INK, labelsize=10, length=0)
    axes.xaxis.label.set(color=INK, fontsize=10.5, family=FONT)
    axes.yaxis.label.set(color=INK, fontsize=10.5, family=FONT)
    return axes


def legend(axes: Axes, handles, labels) -> None:
    """Put a legend above the axes, on the right, in one line."""
    axes.legend(
        handles,
        labels,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=len(handles),
        frameon=False,
        fontsize=10,
        labelcolor=INK,
        borderaxespad=0.2,
        handletextpad=0.5,
        columnspacing=1.4,
    )


def save(page: Figure, path: pathlib.Path) -> None:
    """Write a figure as a PNG file, at once or not at all.

    Raises:
        OSError: if the file cannot be written; carries the path.
    """
    content = io.BytesIO()
    page.savefig(content, format="png", metadata={"Software": None})
    write_atomically(path, content.getvalue())
