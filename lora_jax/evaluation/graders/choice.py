"""Grade multiple choice by the letter that a text settles on."""

import re

from lora_jax.evaluation.graders.boxed import last_boxed
from lora_jax.evaluation.graders.grader import Grader

LETTERS = "ABCD"

_WRAPPING = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mathsf)\s*|[\s$(){}\[\]*.:]")
_BOXED_LETTER = re.compile(rf"([{LETTERS}])(?:[).:,\s}}].*)?", re.DOTALL)
# "answer is (C)", "Answer: **C**", "the correct choice is C": nothing but wrapping before the letter.
_STATED = re.compile(
    r"\b(?:answer|(?:correct|right|best)\s+(?:choice|option))\b\W*(?:(?:is|would be|must be|should be)\b\W*)?"
    rf"(?:(?:option|choice)\b\W*)?(?-i:([{LETTERS}]))(?![\w'\u2019])(?!\s+[a-z])",
    re.IGNORECASE,
)
# (C), **C**, or a C on a line of its own; an article ("A dog") is none of these.
_LONE = re.compile(
    rf"\(([{LETTERS}])\)|\*\*\(?([{LETTERS}])[).:]?\*\*|^\W*([{LETTERS}])\W*$", re.MULTILINE
)


def chosen_letter(text: str) -> str | None:
    r"""Find the letter that a text settles on, by the first of three rungs that gives one.

    1. The last `\boxed{...}`, if it holds a letter: `\boxed{C}`, `\boxed{\text{(C)}}`, `\boxed{C. 12 eV}`.
    2. The last letter that is called the answer or the right choice: "the answer is (C)", "Answer: C".
    3. The last letter that stands alone: in parentheses, in bold, or on a line of its own.

    Args:
        text: an answer or a think block.

    Returns:
        One of `LETTERS`; None if no rung gives one.
    """
    boxed = last_boxed(text)
    if boxed is not None:
        letter = _BOXED_LETTER.fullmatch(boxed) or _BOXED_LETTER.fullmatch(_WRAPPING.sub("", boxed))
        if letter:
            return letter[1]
    for rung in (_STATED, _LONE):
        found = rung.findall(text)
        if found:
            return "".join(found[-1])
    return None


CHOICE = Grader(
    name="multiple choice",
    looks_at="the chosen letter (in the last box; without one, called the answer; else alone)",
    demand="is the right one",
    expects="letter",
    accepts=lambda expected: expected in LETTERS,
    agrees=lambda text, expected: chosen_letter(text) == expected,
)
