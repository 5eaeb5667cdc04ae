"""Two evaluations side by side: one row a measure, with the change on the same prompts."""

import dataclasses

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lora_jax.evaluation.measure import Measure, measures_of
from lora_jax.evaluation.run import Evaluation
from lora_jax.evaluation.statistics import PairedChange, Proportion, paired_change

HEADER = ("Measure", "Before", "After", "Change (points)", "p", "Verdict")


@dataclasses.dataclass(frozen=True)
class Row:
    """Compare one measure on one set before and after training.

    Attributes:
        measure: what was judged.
        set: name of the evaluation set.
        title: the measure's title, with the set's name where several sets share a kind.
        before: the proportion before training.
        after: the proportion after training.
        change: the change, prompt by prompt.
    """

    measure: Measure
    set: str
    title: str
    before: Proportion
    after: Proportion
    change: PairedChange

    def cells(self) -> tuple[str, ...]:
        """Return the row's texts, one for each of `HEADER`."""
        low, high = self.change.interval
        p_value = self.change.p_value
        return (
            f"{self.title} {'↑' if self.measure.wanted == 'higher' else '↓'}",
            percent(self.before),
            percent(self.after),
            f"{100 * self.change.change:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]",
            "<0.001" if p_value < 0.001 else f"{p_value:.3f}",
            self.change.verdict,
        )


def compare(before: Evaluation, after: Evaluation) -> list[Row]:
    """Compare two evaluations on the same sets.

    Args:
        before: training.
        after: training.

    Returns:
        One row for each measure of each set, in the order of the sets.

    Raises:
        ValueError: if the two were not given the same sets.
    """
    sets = [result.set for result in before.results]
    if sets != [result.set for result in after.results]:
        raise ValueError("only evaluations on the same sets can be compared")
    kinds = [evaluation_set.kind for evaluation_set in sets]
    rows = []
    for old, new in zip(before.results, after.results):
        for measure in measures_of(old.set.kind, old.set.grader):
            several = kinds.count(old.set.kind) > 1
            rows.append(
                Row(
                    measure=measure,
                    set=old.set.name,
                    title=f"{measure.title} ({old.set.name})" if several else measure.title,
                    before=old.proportion(measure.name),
                    after=new.proportion(measure.name),
                    change=paired_change(old.verdicts[measure.name], new.verdicts[measure.name]),
                )
            )
    return rows


def percent(proportion: Proportion) -> str:
    """Write a proportion in percent with its 95% interval, such as "2.0% [0.6, 7.0]"."""
    low, high = proportion.interval
    return f"{100 * proportion.rate:.1f}% [{100 * low:.1f}, {100 * high:.1f}]"


def terminal_table(rows: list[Row], console: Console | None = None) -> None:
    """Print the comparison as a table that fits 80 columns, without the p-values.

    Args:
        rows: of the comparison.
        console: standard output if None.
    """
    caption = Text("[ ] is the 95% interval; ↑ higher is better, ↓ lower is better")
    table = Table(
        title="Before and after training", caption=caption, box=box.SIMPLE_HEAD, pad_edge=False
    )
    table.title_justify = table.caption_justify = "left"
    shown = [index for index, name in enumerate(HEADER) if name != "p"]
    for index in shown:
        number = 0 < index < 4
        table.add_column(
            HEADER[index],
            justify="right" if number else "left",
            no_wrap=number,
            overflow="fold",  # a set's long name is broken, not cut
        )
    for row in rows:
        cells = row.cells()
        # Brackets are intervals, not rich's markup, and stand on a line of their own.
        table.add_row(*(Text(cells[index].replace(" [", "\n[")) for index in shown))
    (console or Console()).print(table)
