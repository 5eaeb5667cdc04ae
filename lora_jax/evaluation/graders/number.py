"""Grade by the last number that a text writes."""

import decimal
import re

from lora_jax.evaluation.graders.grader import Grader

# A minus sign after a digit, a letter or a bracket subtracts ("97-2"); elsewhere it is a sign.
_NUMBER = re.compile(r"(?:(?<![\w)\]}.])-)?[0-9]+(?:,[0-9]{3}(?![0-9]))*(?:\.[0-9]+)?")


def last_number(text: str) -> decimal.Decimal | None:
    """Find the last number written in digits.

    Args:
        text: any text; "1,319" and "12.50" are one number each, and "97-2=95" ends in 95.

    Returns:
        The number, exactly as written; None if there is none.
    """
    numbers = _NUMBER.findall(text.replace("\u2212", "-"))
    return decimal.Decimal(numbers[-1].replace(",", "")) if numbers else None


def same_number(text: str, expected: str) -> bool:
    """Return whether two texts end in the same number; False where there is none."""
    number = last_number(text)
    return number is not None and number == last_number(expected)


NUMBER = Grader(
    name="last number",
    looks_at="the last number",
    demand="is the right one",
    expects="number",
    accepts=lambda expected: last_number(expected) is not None,
    agrees=same_number,
)
