r"""The last `\boxed{...}` of a text, where reasoning models are asked to put their answer."""

import re

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")


def last_boxed(text: str) -> str | None:
    r"""Find what the last whole box holds.

    Args:
        text: any text; boxes may hold braces, and a brace written `\{` neither opens nor closes.

    Returns:
        The content of the last `\boxed{...}` or `\fbox{...}` that is closed, stripped; None if there is
        none.
    """
    for start in reversed([match.end() for match in _BOX.finditer(text)]):
        end = _closing_brace(text, start)
        if end is not None:
            return text[start:end].strip()
    return None


def _closing_brace(text: str, start: int) -> int | None:
    depth, index = 1, start
    while index < len(text):
        if text[index] == "\\":
            index += 1  # what follows a backslash is escaped
        elif text[index] in "{}":
            depth += 1 if text[index] == "{" else -1
            if not depth:
                return index
        index += 1
    return None
