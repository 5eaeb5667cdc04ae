"""Tables in Markdown."""

from collections.abc import Iterable


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Write a table.

    Args:
        header: names of the columns.
        rows: texts of the cells, as many as there are columns.

    Returns:
        The lines, with line breaks; a bar or a line break inside a cell does not break the table.
    """
    lines = [list(header), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")
