"""Grade mathematics with math-verify, in a process of its own."""

import re

from lora_jax.evaluation.graders.boxed import last_boxed
from lora_jax.evaluation.graders.grader import Grader
from lora_jax.evaluation.graders.verifier import Verifier

# Without a box math-verify looks for the answer itself; it stands near the end, and searching a whole
# think block of a hundred thousand characters would take minutes.
_TAIL = 1000

_verifier = Verifier()


def agrees(text: str, expected: str) -> bool:
    r"""Compare the expression that a text arrives at with the expected one.

    The expression is what the last `\boxed{...}` holds; without a box it is what math-verify finds near
    the end of the text. It is right if it is written like the expected one, or if math-verify shows the
    two equal; a comparison that takes too long, or too much memory, counts as not shown.

    Args:
        text: an answer or a think block.
        expected: in LaTeX, without dollar signs.

    Returns:
        Whether the two agree.
    """
    found = last_boxed(text)
    if found is None:
        return bool(text) and _verifier.equal(text[-_TAIL:], f"${expected}$")
    return _spelling(found) == _spelling(expected) or _verifier.equal(f"${found}$", f"${expected}$")


def _spelling(expression: str) -> str:
    """Return an expression without what only changes its looks."""
    expression = re.sub(
        r"\\(?:left|right|displaystyle)(?![a-zA-Z])|\\[,!;: ]|[\s$]", "", expression
    )
    return expression.replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac").rstrip(".")


MATHEMATICS = Grader(
    name="math-verify",
    looks_at="the expression in the last box (without one, the last that math-verify finds)",
    demand="equals the expected one by math-verify",
    expects="expression",
    accepts=lambda expected: bool(expected.strip()),
    agrees=agrees,
    module="math_verify",
)
