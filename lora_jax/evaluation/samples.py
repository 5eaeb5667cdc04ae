"""Sample answers before and after training, chosen by rule, as Markdown."""

import re

from lora_jax.evaluation.measure import SetResult, measures_of

# The share of each kind is fixed so that nobody has to trust a choice: changes for the worse come
# first, since a reader can see them nowhere else.
_CHOICE = (("worse", 2), ("better", 1), ("unchanged", 1))
_HEAD, _TAIL = 500, 300  # characters shown of a long text; its end holds the answer


def sample_answers(before: SetResult, after: SetResult) -> str:
    """Write sample answers of one set, with the changes for the worse before all others.

    Shown are the first two prompts whose verdict changed for the worse, the first that changed for
    the better and the first that did not change, by the first measure of the set's kind.

    Args:
        before: result before training.
        after: result after training, on the same set.

    Returns:
        Markdown, with a heading of the fourth level for each sample.
    """
    measure = measures_of(before.set.kind)[0]
    old, new = before.verdicts[measure.name], after.verdicts[measure.name]
    changes = [_change(*verdicts, measure.wanted) for verdicts in zip(old, new, strict=True)]
    parts = []
    for change, count in _CHOICE:
        indices = [index for index, found in enumerate(changes) if found == change]
        for index in indices[:count]:
            parts.append(f"#### {change.capitalize()}: prompt {index + 1}\n")
            parts.append(_fenced(before.set.prompts[index].prompt))
            if before.set.prompts[index].answer is not None:
                parts.append(f"Expected: {before.set.prompts[index].answer}\n")
            for moment, result, verdict in (("Before", before, old), ("After", after, new)):
                word = _WORDS[measure.name][not verdict[index]]
                parts.append(f"{moment} ({word}{_remark(result, index)}):\n")
                parts.append(_fenced(result.generations[index].text))
    return "\n".join(parts)


_WORDS = {"refused": ("refused", "not refused"), "strict": ("right", "wrong")}


def _change(before: bool, after: bool, wanted: str) -> str:
    if before == after:
        return "unchanged"
    return "better" if after == (wanted == "higher") else "worse"


def _remark(result: SetResult, index: int) -> str:
    response = result.responses[index]
    return (", cut off" if response.truncated else "") + ("" if response.closed else ", unclosed")


def _fenced(text: str) -> str:
    """Quote text as it is, in a fence longer than any run of backticks in it."""
    if len(text) > _HEAD + _TAIL:
        left_out = len(text) - _HEAD - _TAIL
        text = f"{text[:_HEAD]}\n[{left_out} characters left out]\n{text[-_TAIL:]}"
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{text.strip()}\n{fence}\n"
