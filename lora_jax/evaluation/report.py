"""The report of a run: what was done, what changed and how to use the result, in Markdown."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

from lora_jax.evaluation import figures
from lora_jax.evaluation.comparison import HEADER, Row, compare, percent
from lora_jax.evaluation.markdown import table
from lora_jax.evaluation.measure import judge_of
from lora_jax.evaluation.run import Evaluation
from lora_jax.evaluation.samples import sample_answers
from lora_jax.evaluation.usage import Export, how_to_use
from lora_jax.workdir import write_atomically

_HOW_TO_READ = """\
↑ means that higher is better, ↓ that lower is better. Brackets hold 95% intervals: of a rate, by \
Wilson's method; of a change, by the bootstrap over prompts, since both models were given the same \
ones. p is the exact McNemar p-value: the chance of a change at least as uneven if each prompt that \
changed had been equally likely to change either way. The verdict is “higher” or “lower” only if the \
interval of the change leaves out 0 and p is at most 0.05. “No difference shown” does not \
say that there is none: a smaller one than the interval's ends may well exist.
"""

_NO_WIDTH = """\
An interval of a change without width means that all prompts changed alike. It cannot show what \
other prompts would have done; the intervals of the two rates do.
"""

_COUNTS = """\
An unclosed response never left its think block, and a truncated one was cut off by the length \
limit. Neither is ever counted as a refusal or as a right final answer.
"""

_PROTOCOL = """\
The usual protocol is what published figures were measured with. A figure measured with another \
sampling, another length limit or another judge cannot be set beside them.
"""

_STRATA = """\
A stratum names the part of the request that training never saw (`none`: every part occurs in \
training; `all`: no part does). Refusing that was learnt, and not memorised, holds in all of them.
"""

_SAMPLES = """\
Chosen by rule, not by hand: of each set the first two prompts that changed for the worse, the first \
that changed for the better and the first that did not change, where there are such. Texts are \
as generated, and start inside the think block that the prompt opens.
"""


@dataclasses.dataclass(frozen=True)
class _Comparison:
    before: Evaluation
    after: Evaluation
    rows: list[Row]


def write_report(
    directory: pathlib.Path,
    before: Evaluation,
    after: Evaluation,
    *,
    label: str,
    facts: Mapping[str, str],
    environment: Mapping[str, str],
    metrics: Sequence[Mapping] = (),
    export: Export | None = None,
) -> list[Row]:
    """Write `report.md` and its figures.

    Args:
        directory: that exists.
        before: evaluation of the base model.
        after: evaluation of the trained model, on the same sets.
        label: a few words for the way of training, such as "LoRA rank 1 on up_proj".
        facts: what was done (model, parameters, recipe, ...), name to value, in this order.
        environment: versions and devices, name to value, in this order.
        metrics: rows with `step` and `loss`, to draw the loss of.
        export: what the run exported, if it did.

    Returns:
        The rows of the results table, for `terminal_table`.

    Raises:
        ValueError: if the two evaluations are of different sets.
        OSError: if a file cannot be written; carries the path.
    """
    comparison = _Comparison(before, after, compare(before, after))
    sections = {
        "In short": _in_short(comparison.rows),
        "What was done": table(("", ""), facts.items()),
        "Results": _results(comparison),
        "Benchmarks": _benchmarks(comparison),
        "Figures": _figures(directory, comparison, label, metrics),
        "Refusals by held-out stratum": _strata(comparison),
        "Sample answers": _samples(comparison),
        "How to use the export": how_to_use(export) if export else "",
        "Environment": table(("", ""), environment.items()),
    }
    text = f"# {label}: safety and reasoning, before and after\n"
    for heading, body in sections.items():
        if body:
            text += f"\n## {heading}\n\n{body}"
    write_atomically(directory / "report.md", text)
    return comparison.rows


def _in_short(rows: list[Row]) -> str:
    return "".join(
        f"- {row.title}: {100 * row.before.rate:.1f}% before, {100 * row.after.rate:.1f}% after: "
        f"**{row.change.verdict}**.\n"
        for row in rows
    )


def _results(comparison: _Comparison) -> str:
    parts = [
        table(HEADER, (row.cells() for row in comparison.rows)),
        _explanations(comparison.rows),
        _HOW_TO_READ,
    ]
    if any(low == high for low, high in (row.change.interval for row in comparison.rows)):
        parts.append(_NO_WIDTH)
    header = ("Set", "Prompts", "Unclosed", "Truncated", "Tokens a response")
    counts = (
        (
            old.set.name,
            str(len(old.set.prompts)),
            f"{old.unclosed} → {new.unclosed}",
            f"{old.truncated} → {new.truncated}",
            f"{old.tokens / len(old.set.prompts):.0f} → {new.tokens / len(new.set.prompts):.0f}",
        )
        for old, new in zip(comparison.before.results, comparison.after.results)
    )
    return "\n".join([*parts, table(header, counts), _COUNTS])


def _explanations(rows: list[Row]) -> str:
    """Explain each measure once, naming sets only where their graders make it another measure."""
    found: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        found.setdefault(row.measure.title, {}).setdefault(row.measure.explanation, []).append(
            row.set
        )
    lines = []
    for title, explanations in found.items():
        for text, sets in explanations.items():
            named = f" ({', '.join(sets)})" if len(explanations) > 1 else ""
            lines.append(f"- **{title}{named}.** {text}\n")
    return "".join(lines)


def _benchmarks(comparison: _Comparison) -> str:
    sets = [result.set for result in comparison.before.results if result.set.benchmark]
    if not sets:
        return ""
    header = ("Set", "Benchmark", "Judged by", "Usual protocol")
    rows = (
        (one.name, f"{one.benchmark.name}: {one.benchmark.source}", judge_of(one))
        + (str(one.benchmark.protocol),)
        for one in sets
    )
    return "\n".join([table(header, rows), _PROTOCOL])


def _figures(
    directory: pathlib.Path, comparison: _Comparison, label: str, metrics: Sequence[Mapping]
) -> str:
    images = []
    points = [figures.place(comparison.before), figures.place(comparison.after)]
    if None not in points:
        figures.safety_reasoning([figures.Arm(label, *points)], directory / "safety_reasoning.png")
        images.append("![Safety and reasoning before and after training](safety_reasoning.png)\n")
    refusals = [row for row in comparison.rows if row.measure.name == "refused"]
    if refusals:
        titles = [row.title.replace(" refused", "").replace(" (", "\n(") for row in refusals]
        labels = [title.replace(" ", "\n", 1) for title in titles]
        figures.refusal_bars(
            dict(zip(labels, (row.before for row in refusals))),
            dict(zip(labels, (row.after for row in refusals))),
            directory / "refusals.png",
        )
        images.append("![Refusals before and after training](refusals.png)\n")
    if figures.loss_curve(metrics, directory / "loss.png"):
        images.append("![Training loss](loss.png)\n")
    return "\n".join(images)


def _strata(comparison: _Comparison) -> str:
    rows = []
    for old, new in zip(comparison.before.results, comparison.after.results):
        if "refused" in old.verdicts:
            after = new.strata("refused")
            for name, before in old.strata("refused").items():
                cells = (str(before.total), percent(before), percent(after[name]))
                rows.append((old.set.name, f"`{name}`", *cells))
    if not rows:
        return ""
    header = ("Set", "Stratum", "Prompts", "Refused before", "Refused after")
    return "\n".join([table(header, rows), _STRATA])


def _samples(comparison: _Comparison) -> str:
    parts = [_SAMPLES]
    for old, new in zip(comparison.before.results, comparison.after.results):
        parts.append(f"### {old.set.name}\n\n{sample_answers(old, new)}")
    return "\n".join(parts)
