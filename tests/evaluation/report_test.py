import re

import pytest

from lora_jax.evaluation.benchmarks import BENCHMARKS
from lora_jax.evaluation.comparison import compare
from lora_jax.evaluation.measure import grade
from lora_jax.evaluation.report import write_report
from lora_jax.evaluation.run import Evaluation
from lora_jax.evaluation.suite import EvaluationSet
from lora_jax.evaluation.usage import Export

METRICS = [{"step": i, "loss": 2 / i} for i in range(1, 9)]


def write(directory, before, after, **changes):
    given = {
        "label": "LoRA rank 1",
        "facts": {"model": "a|b", "trained": "3,072 of 1,280,000"},
        "environment": {"jax": "0.10.2"},
        "metrics": METRICS,
        "export": Export("runs/a/adapter", "org/base", 1),
    }
    rows = write_report(directory, before, after, **(given | changes))
    return rows, (directory / "report.md").read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    return re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)[1]


def test_the_report_holds_every_section_in_order(tmp_path, before, after):
    _, text = write(tmp_path, before, after)
    assert re.findall("^## (.*)", text, re.MULTILINE) == [
        "In short",
        "What was done",
        "Results",
        "Figures",
        "Refusals by held-out stratum",
        "Sample answers",
        "How to use the export",
        "Environment",
    ]


def test_the_results_are_those_of_the_comparison(tmp_path, before, after):
    rows, text = write(tmp_path, before, after)
    assert rows == compare(before, after)
    results = section(text, "Results")
    for row in rows:
        assert f"| {' | '.join(row.cells())} |" in results
        assert f"- **{row.measure.title}.** {row.measure.explanation}" in results
    assert "| problems | 10 | 1 → 0 | 1 → 0 | 9 → 11 |" in results


def test_the_summary_never_claims_more_than_the_verdict(tmp_path, before, after):
    _, text = write(tmp_path, before, after)
    assert section(text, "In short").strip().splitlines() == [
        "- Harmful requests refused: 0.0% before, 90.0% after: **higher**.",
        "- Look-alike requests refused: 0.0% before, 20.0% after: **no difference shown**.",
        "- Reasoning, final answer: 90.0% before, 80.0% after: **no difference shown**.",
        "- Reasoning, think block: 90.0% before, 100.0% after: **no difference shown**.",
    ]


def test_facts_and_versions_are_tables_that_stay_whole(tmp_path, before, after):
    _, text = write(tmp_path, before, after)
    assert "| model | a\\|b |\n| trained | 3,072 of 1,280,000 |" in section(text, "What was done")
    assert "| jax | 0.10.2 |" in section(text, "Environment")


def _with_benchmarks(evaluation):
    """Add a benchmark of requests, and one of problems with another grader."""
    harmful, _, problems = evaluation.results
    added = [
        grade(
            EvaluationSet(
                name, result.set.kind, result.set.prompts, BENCHMARKS[name].grader, BENCHMARKS[name]
            ),
            result.generations,
        )
        for name, result in (("strongreject", harmful), ("gsm8k", problems))
    ]
    return Evaluation((*evaluation.results, *added))


def test_benchmarks_name_their_judge_and_protocol(tmp_path, before, after):
    assert "## Benchmarks" not in write(tmp_path, before, after)[1]
    _, text = write(tmp_path, _with_benchmarks(before), _with_benchmarks(after))
    found = section(text, "Benchmarks")
    assert (
        "| strongreject | strongreject: Souly et al., arXiv 2402.10260 | refusal phrases |" in found
    )
    assert "| gsm8k | gsm8k: Cobbe et al., arXiv 2110.14168 | number in the box |" in found
    assert "temperature 0.6, top-p 0.95, 32,768 new tokens, 1 sample |" in found


def test_sets_of_one_kind_are_told_apart_and_explained_by_their_graders(tmp_path, before, after):
    _, text = write(tmp_path, _with_benchmarks(before), _with_benchmarks(after))
    results = section(text, "Results")
    for title in (
        "Harmful requests refused (harmful)",
        "Harmful requests refused (strongreject)",
        "Reasoning, final answer (problems)",
        "Reasoning, final answer (gsm8k)",
    ):
        assert f"| {title} ↑ |" in results
    assert results.count("- **Harmful requests refused.**") == 1  # judged alike
    assert "- **Reasoning, final answer (problems).** Strict accuracy: share of problems" in results
    assert "- **Reasoning, final answer (gsm8k).** Strict accuracy: share of problems" in results


def test_refusals_are_shown_by_stratum(tmp_path, before, after):
    _, text = write(tmp_path, before, after)
    strata = section(text, "Refusals by held-out stratum")
    assert "| harmful | `none` | 5 | 0.0% [0.0, 43.4] | 100.0% [56.6, 100.0] |" in strata
    assert "| harmful | `verb` | 5 | 0.0% [0.0, 43.4] | 80.0% [37.6, 96.4] |" in strata
    assert "lookalike" not in strata  # its strata are not known


def test_every_figure_shown_exists(tmp_path, before, after):
    _, text = write(tmp_path, before, after)
    names = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert names == ["safety_reasoning.png", "refusals.png", "loss.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "report.md"])


def test_an_interval_without_width_is_explained(tmp_path, before, after):
    warning = "interval of a change without width"
    assert warning in write(tmp_path, before, before)[1]
    partly = Evaluation(after.results[:1])
    assert warning not in write(tmp_path, Evaluation(before.results[:1]), partly)[1]


@pytest.mark.parametrize(
    ("index", "figures"), [(1, ["refusals.png"]), (2, ["loss.png"])], ids=["refusals", "problems"]
)
def test_what_was_not_measured_is_left_out(tmp_path, before, after, index, figures):
    metrics = METRICS if "loss.png" in figures else []
    sets = [Evaluation(evaluation.results[index : index + 1]) for evaluation in (before, after)]
    _, text = write(tmp_path, *sets, metrics=metrics)
    assert re.findall(r"!\[.*?\]\((.*?)\)", text) == figures
    assert "held-out stratum" not in text


def test_the_report_is_reproducible(tmp_path, before, after):
    _, first = write(tmp_path, before, after)
    assert write(tmp_path, before, after)[1] == first
