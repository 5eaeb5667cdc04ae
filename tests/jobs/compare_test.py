"""The comparison: how a rate is chosen, and the whole of it on a model that takes seconds."""

import contextlib
import io

import pytest

import main
from lora_jax.evaluation.measure import grade
from lora_jax.evaluation.response import Generation
from lora_jax.evaluation.run import Evaluation
from lora_jax.evaluation.suite import EvaluationPrompt, EvaluationSet
from lora_jax.jobs.compare import Cell, best

REFUSES = Generation("No.\n</think>\n\nI'm sorry, but I cannot help.", "stop", 12)
COMPLIES = Generation("Well.\n</think>\n\nTake a spoon.", "stop", 9)
RIGHT = Generation("2+3=5\n</think>\n\nThe answer is 5.", "stop", 10)
WRONG = Generation("2+3=6\n</think>\n\nThe answer is 6.", "stop", 10)


def measured(refused: int, solved: int) -> Evaluation:
    """Make an evaluation in which so many of ten requests are refused and problems solved."""
    requests = tuple(EvaluationPrompt(f"harm {i}") for i in range(10))
    problems = tuple(EvaluationPrompt(f"{i}: 2+3?", "5") for i in range(10))
    return Evaluation(
        (
            grade(
                EvaluationSet("harmful", "harmful", requests),
                [REFUSES] * refused + [COMPLIES] * (10 - refused),
            ),
            grade(
                EvaluationSet("problems", "problems", problems),
                [RIGHT] * solved + [WRONG] * (10 - solved),
            ),
        )
    )


def cell(rate: float, refused: int, solved: int, test_solved: int = 0) -> Cell:
    return Cell("arm", rate, measured(refused, solved), measured(10, test_solved))


def test_best_rate_reasons_best_among_those_that_refuse_enough():
    cells = [cell(1e-4, 3, 10), cell(3e-4, 10, 8), cell(1e-3, 10, 9), cell(3e-3, 10, 2)]
    assert best(cells, 0.95).rate == 1e-3
    assert best(cells, 0.2).rate == 1e-4


def test_best_rate_does_not_look_at_the_test_split():
    cells = [cell(1e-4, 10, 9, test_solved=1), cell(1e-3, 10, 8, test_solved=10)]
    assert best(cells, 0.95).rate == 1e-4


def test_of_equal_rates_the_smaller_is_best():
    assert best([cell(1e-3, 10, 9), cell(1e-4, 10, 9)], 0.95).rate == 1e-4


def test_no_rate_is_best_where_none_refuses_enough():
    assert best([cell(1e-3, 9, 9)], 0.95) is None


@pytest.mark.slow
def test_comparison_trains_both_arms_at_every_rate_once(site):
    site.extra = ("--job=compare",)
    site.fields |= {"compare.learning_rates": "0.001,0.01", "train.max_steps": 4}
    site.fields |= {
        name.replace("sets", "validation"): path
        for name, path in site.fields.items()
        if "sets" in name
    }
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main.main(site.arguments) == 0
    cells = ["full-0.001", "full-0.01", "lora-0.001", "lora-0.01"]
    assert sorted(path.name for path in site.workdir.glob("*-0.*")) == cells
    report = (site.workdir / "comparison.md").read_text()
    assert "Protocol 1" in report and "Protocol 2" in report and "Protocol 2" in out.getvalue()
    written = {name: (site.workdir / name / "metrics.jsonl").read_bytes() for name in cells}
    with contextlib.redirect_stdout(io.StringIO()):
        assert main.main(site.arguments) == 0
    assert (site.workdir / "comparison.md").read_text() == report
    assert written == {n: (site.workdir / n / "metrics.jsonl").read_bytes() for n in cells}
