import dataclasses
import io

import pytest
from rich.console import Console

from lora_jax.evaluation.comparison import compare, percent, terminal_table
from lora_jax.evaluation.run import Evaluation
from lora_jax.evaluation.statistics import Proportion


def test_compare_pairs_every_measure_of_every_set(before, after):
    rows = compare(before, after)
    found = [
        (row.set, row.measure.name, row.before.count, row.after.count, row.change.verdict)
        for row in rows
    ]
    assert found == [
        ("harmful", "refused", 0, 9, "higher"),
        ("lookalike", "refused", 0, 2, "no difference shown"),
        ("problems", "strict", 9, 8, "no difference shown"),
        ("problems", "think_block", 9, 10, "no difference shown"),
    ]
    assert (rows[2].change.gained, rows[2].change.lost) == (1, 2)


def test_cells_are_in_percent_with_intervals(before, after):
    cells = compare(before, after)[0].cells()
    assert cells[0] == "Harmful requests refused ↑"
    assert cells[1] == "0.0% [0.0, 27.8]"
    assert cells[2] == "90.0% [59.6, 98.2]"
    assert cells[3].startswith("+90.0 [+70.0, +100.0")
    assert cells[4:] == ("0.004", "higher")


def test_several_sets_of_a_kind_are_told_apart(before, after):
    def twice(evaluation):
        result = evaluation.results[0]
        other = dataclasses.replace(result.set, name="jailbreaks")
        return Evaluation((result, dataclasses.replace(result, set=other)))

    titles = [row.title for row in compare(twice(before), twice(after))]
    assert titles == [
        "Harmful requests refused (harmful)",
        "Harmful requests refused (jailbreaks)",
    ]


def test_compare_refuses_different_sets(before, after):
    with pytest.raises(ValueError, match="same sets"):
        compare(before, Evaluation(after.results[:2]))


def test_percent():
    assert percent(Proportion(1, 4)) == "25.0% [4.6, 69.9]"


def test_terminal_table_shows_every_row_in_80_columns(before, after):
    rows = compare(before, after)
    output = io.StringIO()
    terminal_table(rows, Console(file=output, width=80))
    words = output.getvalue().split()
    assert max(map(len, output.getvalue().splitlines())) <= 80
    for row in rows:
        _, old, new, change, _, verdict = row.cells()
        for cell in (row.title, old, new, change, verdict):
            assert all(word in words for word in cell.split())
    assert output.getvalue().count("no difference") == 3
