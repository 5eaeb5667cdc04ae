"""Grade responses to problems whose answer is a number: the final answer, and the think block."""

import decimal
import re

from lora_jax.evaluation.response import Response

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


def is_right(response: Response, answer: str) -> bool:
    """Grade strictly: the last number after the closed think block is the expected one.

    A response that was cut off, or that never left its think block, is wrong.

    Args:
        response: a split generation.
        answer: text whose last number is the expected one.

    Returns:
        Whether the final answer is right.
    """
    return response.complete and _same(response.answer, answer)


def is_thought_right(response: Response, answer: str) -> bool:
    """Grade the reasoning alone: the last number of the think block is the expected one.

    Whatever follows the block is ignored, and so is whether it was closed. Only a block cut off by
    the length limit is wrong, because its last number is not where the reasoning ended.

    Args:
        response: a split generation.
        answer: text whose last number is the expected one.

    Returns:
        Whether the reasoning arrived at the expected number.
    """
    ended = response.closed or not response.truncated
    return ended and _same(response.thinking, answer)


def _same(text: str, answer: str) -> bool:
    number = last_number(text)
    return number is not None and number == last_number(answer)
