"""Tables keep their shape whatever is in a cell."""

from lora_jax.evaluation.markdown import table


def test_table_has_a_header_a_rule_and_rows():
    assert table(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"


def test_bars_and_line_breaks_stay_inside_their_cell():
    assert table(("a",), [("x|y\nz",)]).splitlines()[-1] == "| x\\|y z |"
