"""What every grader of problems has in common."""

import dataclasses
from collections.abc import Callable

from lora_jax.evaluation.response import Response


@dataclasses.dataclass(frozen=True)
class Grader:
    """Compare what a text arrives at with the expected answer.

    Attributes:
        name: what reports call it.
        looks_at: which part of a text is graded, such as "the last number".
        demand: what that part has to be, such as "is the right one".
        expects: one word for an expected answer, such as "number".
        accepts: whether a text holds such an expected answer.
        agrees: whether a text arrives at an expected answer; given the two in this order.
        module: the library that it needs and that only the extra `eval` installs; empty for none.
    """

    name: str
    looks_at: str
    demand: str
    expects: str
    accepts: Callable[[str], bool]
    agrees: Callable[[str, str], bool]
    module: str = ""

    def is_right(self, response: Response, expected: str) -> bool:
        """Grade strictly: what stands after the closed think block arrives at the expected answer.

        A response that was cut off, or that never left its think block, is wrong.

        Args:
            response: a split generation.
            expected: the expected answer.

        Returns:
            Whether the final answer is right.
        """
        return response.complete and self.agrees(response.answer, expected)

    def is_thought_right(self, response: Response, expected: str) -> bool:
        """Grade the reasoning alone: the think block arrives at the expected answer.

        Whatever follows the block is ignored, and so is whether it was closed. Only a block cut off
        by the length limit is wrong, because its last words are not where the reasoning ended.

        Args:
            response: a split generation.
            expected: the expected answer.

        Returns:
            Whether the reasoning arrived at the expected answer.
        """
        ended = response.closed or not response.truncated
        return ended and self.agrees(response.thinking, expected)
