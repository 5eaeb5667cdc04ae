"""The report's figures, as PNG files."""

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from lora_jax import canvas
from lora_jax.canvas import ARMS, BEFORE, FONT, INK, LEFT, MUTED, WIDTH
from lora_jax.evaluation.run import Evaluation
from lora_jax.evaluation.statistics import Proportion

_MARKERS = ("o", "s", "^", "D", "v")


@dataclasses.dataclass(frozen=True)
class Point:
    """Place a model between safety and reasoning.

    Attributes:
        refused: harmful requests refused.
        strict: problems whose final answer is right.
        think_block: problems whose think block is right.
    """

    refused: Proportion
    strict: Proportion
    think_block: Proportion


def place(evaluation: Evaluation) -> Point | None:
    """Return where an evaluated model stands, by the first set of each kind.

    Args:
        evaluation: of the model.

    Returns:
        The point; None if no harmful requests or no problems were evaluated.
    """
    first = {result.set.kind: result for result in reversed(evaluation.results)}
    if not {"harmful", "problems"} <= first.keys():
        return None
    return Point(
        refused=first["harmful"].proportion("refused"),
        strict=first["problems"].proportion("strict"),
        think_block=first["problems"].proportion("think_block"),
    )


@dataclasses.dataclass(frozen=True)
class Arm:
    """Name a way of training, and place the model before and after it."""

    label: str
    before: Point
    after: Point


def loss_curve(metrics: Sequence[Mapping], path: pathlib.Path) -> bool:
    """Draw the training loss over steps, with its running mean.

    Args:
        metrics: rows of a metrics file; those with `step` and `loss` are drawn.
        path: of the PNG file.

    Returns:
        Whether there was a loss, finite and above 0, to draw.

    Raises:
        OSError: if the file cannot be written.
    """
    points = sorted(
        (row["step"], row["loss"]) for row in metrics if "step" in row and "loss" in row
    )
    points = [(step, loss) for step, loss in points if math.isfinite(loss) and loss > 0]
    if not points:
        return False
    steps, losses = (np.asarray(column, float) for column in zip(*points))
    window = max(1, len(steps) // 40)
    figure, axes = canvas.figure("Training loss", "Cross-entropy per supervised token, log scale")
    if window > 1:
        axes.plot(steps, losses, color=ARMS[0], alpha=0.25, linewidth=0.8, label="as logged")
        label = f"mean of the last {window}"
        axes.plot(steps, _running_mean(losses, window), color=ARMS[0], linewidth=2, label=label)
        canvas.legend(axes, *axes.get_legend_handles_labels())
    else:
        marker = "o" if len(steps) == 1 else ""
        axes.plot(steps, losses, color=ARMS[0], linewidth=2, marker=marker)
    axes.set_yscale("log")
    few_decades = losses.max() < 30 * losses.min()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few_decades else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=(1, 2, 5, 10)))
    axes.set_xlabel("Optimizer step")
    axes.set_ylabel("Loss (nats)")
    axes.margins(x=0.01)
    canvas.save(figure, path)
    return True


def safety_reasoning(arms: Sequence[Arm], path: pathlib.Path) -> None:
    """Draw how training moved a model between refusing harmful requests and reasoning.

    Filled markers are strict accuracy, hollow ones the think block's; arrows run from before to after
    and error bars are 95% Wilson intervals.

    Args:
        arms: at least one; arms that start from the same base share its point.
        path: of the PNG file.

    Raises:
        OSError: if the file cannot be written.
    """
    subtitle = "Held-out prompts, before and after training; whiskers are 95% intervals"
    figure, axes = canvas.figure("Safety and reasoning", subtitle)
    for before in dict.fromkeys(arm.before for arm in arms):
        _draw_point(axes, before, BEFORE, "o")
        _draw_label(axes, before, "before training", MUTED)
    for arm, (color, marker) in zip(arms, _styles(len(arms))):
        _draw_point(axes, arm.after, color, marker)
        _draw_arrow(axes, arm, "think_block", color, linewidth=0.8)
        _draw_arrow(axes, arm, "strict", color, linewidth=1.6)
    points = [point for arm in arms for point in (arm.before, arm.after)]
    accuracies = [p for point in points for p in (point.strict, point.think_block)]
    low, high = _accuracy_range(accuracies)
    axes.set_xticks(
        [
            tick
            for tick in MaxNLocator(6, steps=(1, 2, 5, 10)).tick_values(low, high)
            if 0 <= tick <= 100
        ]
    )
    axes.set_xlim(low, high)
    axes.set_ylim(-14, 108)
    axes.set_yticks(range(0, 101, 20))
    axes.set_xlabel("Reasoning accuracy (%)   better →")
    axes.set_ylabel("Harmful requests refused (%)   safer →")
    if len(arms) == 1:
        _draw_label(axes, arms[0].after, arms[0].label, ARMS[0])
    else:  # points of several arms lie too close together for labels beside them
        handles = [_mark(*style) for style in _styles(len(arms))]
        labels = [arm.label for arm in arms]
        figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False)
        axes.set_position((LEFT, 0.21, WIDTH, 0.59))
    handles = [_mark(MUTED, "o"), _mark(MUTED, "o", markerfacecolor="white")]
    canvas.legend(axes, handles, ["final answer (strict)", "think block alone"])
    canvas.save(figure, path)


def learning_rates(
    curves: Mapping[str, Mapping[float, Point]], before: Point, path: pathlib.Path
) -> None:
    """Draw refusals and reasoning over the learning rate, a curve for each way of training.

    Args:
        curves: label of each arm to the model it gives at each learning rate.
        before: the base model.
        path: of the PNG file.

    Raises:
        OSError: if the file cannot be written.
    """
    subtitle = "Held-out prompts; whiskers are 95% intervals, grey lines the model before training"
    figure = canvas.blank("What each learning rate does", subtitle)
    panels = {
        "Harmful requests refused (%)": (("refused", "-", True),),
        # The larger, hollow markers first: where the two agree, one stands inside the other.
        "Problems solved (%)": (("think_block", ":", False), ("strict", "-", True)),
    }
    for left, (title, measures) in zip((0.075, 0.565), panels.items()):
        axes = canvas.panel(figure, (left, 0.22, 0.415, 0.55))
        for name, line, filled in measures:
            axes.axhline(100 * getattr(before, name).rate, color=BEFORE, linestyle=line)
            for (color, marker), points in zip(_styles(len(curves)), curves.values()):
                values = [getattr(point, name) for point in points.values()]
                axes.errorbar(
                    list(points),
                    [100 * value.rate for value in values],
                    np.array([_error(value) for value in values]).T,
                    fmt=marker,
                    linestyle=line,
                    color=color,
                    markerfacecolor=color if filled else "white",
                    markersize=5 if filled else 9,
                    capsize=3,
                    elinewidth=1.1,
                )
        axes.set_title(title, loc="left", fontsize=10.5, color=INK, family=FONT)
        axes.set_xscale("log")
        axes.set_ylim(-4, 104)
        axes.set_yticks(range(0, 101, 20))
        axes.set_xlabel("Learning rate")
    handles = [_mark(*style) for style in _styles(len(curves))]
    handles += [_mark(MUTED, "o"), _mark(MUTED, "o", markerfacecolor="white")]
    labels = [*curves, "final answer (strict)", "think block alone"]
    figure.legend(handles, labels, loc="lower center", ncols=2, frameon=False, labelcolor=INK)
    canvas.save(figure, path)


def refusal_bars(
    before: Mapping[str, Proportion], after: Mapping[str, Proportion], path: pathlib.Path
) -> None:
    """Draw refusal rates before and after training as pairs of bars with 95% Wilson intervals.

    Args:
        before: label of each kind of request to its refusals.
        after: the same labels.
        path: of the PNG file.

    Raises:
        OSError: if the file cannot be written.
    """
    subtitle = "Share refused, by refusal phrases; whiskers are 95% intervals"
    figure, axes = canvas.figure("What is refused", subtitle)
    positions, width = np.arange(len(before)), 0.36
    series = (("before training", before, BEFORE, -0.5), ("after training", after, ARMS[0], 0.5))
    for name, proportions, color, side in series:
        values = [proportions[label] for label in before]
        centres = positions + side * (width + 0.04)
        heights = [100 * value.rate for value in values]
        errors = np.array([_error(value) for value in values]).T  # [2, sets]
        axes.bar(centres, heights, width, color=color, label=name, zorder=2)
        axes.errorbar(centres, heights, errors, fmt="none", ecolor=INK, elinewidth=1.1, capsize=3)
        for x, value in zip(centres, values):
            top = 100 * value.interval[1] + 2
            axes.text(x, top, f"{100 * value.rate:.0f}%", ha="center", va="bottom", color=INK)
    axes.set_xticks(positions, list(before), color=INK)
    axes.tick_params(axis="x", length=0, labelsize=11)
    axes.set_xlim(-0.6, len(before) - 0.4)
    axes.set_ylim(0, 112)
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylabel("Refused (%)")
    axes.grid(False, axis="x")
    canvas.legend(axes, *axes.get_legend_handles_labels())
    canvas.save(figure, path)


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    sums = np.cumsum(np.insert(values, 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _error(proportion: Proportion) -> tuple[float, float]:
    """Return the lengths of the error bar below and above, in percentage points."""
    low, high = proportion.interval
    return 100 * (proportion.rate - low), 100 * (high - proportion.rate)


def _accuracy_range(accuracies: Sequence[Proportion]) -> tuple[float, float]:
    low = 100 * min(accuracy.interval[0] for accuracy in accuracies)
    high = 100 * max(accuracy.interval[1] for accuracy in accuracies)
    room = max(4.0, 12.0 - (high - low) / 2)  # a small change must not fill the picture
    return low - max(room, 0.3 * (high - low)), min(high + room, 104.0)  # labels stand on the left


def _styles(count: int) -> list[tuple[str, str]]:
    """Return a colour and a marker for each arm."""
    return list(itertools.islice(itertools.cycle(zip(ARMS, _MARKERS)), count))


def _mark(color: str, marker: str, **style) -> Line2D:
    """Return a legend entry that shows a marker alone."""
    style |= {"linestyle": "none", "markersize": 8, "markeredgewidth": 1.6}
    return Line2D([], [], color=color, marker=marker, **style)


def _draw_point(axes: Axes, point: Point, color: str, marker: str) -> None:
    for accuracy, face in ((point.think_block, "white"), (point.strict, color)):
        axes.errorbar(
            100 * accuracy.rate,
            100 * point.refused.rate,
            xerr=np.array([_error(accuracy)]).T,
            yerr=np.array([_error(point.refused)]).T,
            fmt=marker,
            color=color,
            markerfacecolor=face,
            markeredgecolor=color,
            markeredgewidth=1.6,
            markersize=9,
            elinewidth=1.1,
            capsize=3,
            zorder=4,
        )


def _draw_arrow(axes: Axes, arm: Arm, accuracy: str, color: str, linewidth: float) -> None:
    start, end = (
        (100 * getattr(point, accuracy).rate, 100 * point.refused.rate)
        for point in (arm.before, arm.after)
    )
    style = {"arrowstyle": "-|>", "color": color, "linewidth": linewidth, "alpha": 0.8}
    style |= {"shrinkA": 10, "shrinkB": 10, "mutation_scale": 13}
    axes.annotate("", xytext=start, xy=end, arrowprops=style, zorder=3)


def _draw_label(axes: Axes, point: Point, text: str, color: str) -> None:
    axes.annotate(
        text,
        (100 * point.strict.rate, 100 * point.refused.rate),
        xytext=(-11, -19),
        textcoords="offset points",
        ha="right",
        fontsize=10,
        fontweight="bold",
        color=color,
        family=FONT,
        bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"},
        zorder=5,
    )
