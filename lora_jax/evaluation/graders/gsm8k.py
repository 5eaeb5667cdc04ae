"""Grade GSM8K: the number in the box, after the marker ####, or written last."""

import re

from lora_jax.evaluation.graders.boxed import last_boxed
from lora_jax.evaluation.graders.grader import Grader
from lora_jax.evaluation.graders.number import last_number

MARKER = "####"

# What LaTeX puts between the digits of a number: thin spaces, and braces around the comma.
_SPACING = re.compile(r"\\[,!;: ]|\{(,)\}|(?<=[0-9])[ \u00a0\u202f](?=[0-9]{3}\b)")


def agrees(text: str, expected: str) -> bool:
    r"""Compare the number that a text arrives at with the expected one.

    The number is the last one in the last `\boxed{...}`; without a box the first one behind the last
    marker `####`, which is how GSM8K's own solutions end; without either the last one of the text.
    Currency signs, units, thousands' commas, LaTeX's spacing and trailing zeros do not matter.

    Args:
        text: an answer or a think block.
        expected: the expected number.

    Returns:
        Whether there is such a number and it is the expected one.
    """
    found = last_boxed(text)
    if found is None and MARKER in text:
        found = text.rpartition(MARKER)[2].strip().partition("\n")[0]
    number = _number(text if found is None else found)
    return number is not None and number == _number(expected)


def _number(text: str):
    return last_number(_SPACING.sub(r"\1", text))


GSM8K = Grader(
    name="number in the box",
    looks_at="the number in the last box (without one, behind ####, else the last number)",
    demand="is the right one",
    expects="number",
    accepts=lambda expected: _number(expected) is not None,
    agrees=agrees,
)
