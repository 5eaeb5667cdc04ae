import json

import pytest

from lora_jax.evaluation.benchmarks import BENCHMARKS
from lora_jax.evaluation.graders import GSM8K, NUMBER
from lora_jax.evaluation.measure import MEASURES, grade, measures_of
from lora_jax.evaluation.response import Generation
from lora_jax.evaluation.statistics import Proportion
from lora_jax.evaluation.suite import KINDS, EvaluationPrompt, EvaluationSet


def test_every_kind_is_measured_and_reasoning_always_twice():
    assert {measure.kind for measure in MEASURES} == set(KINDS)
    assert [measure.name for measure in measures_of("problems")] == ["strict", "think_block"]


def test_refusals_are_labelled_as_judged_by_phrases():
    for measure in MEASURES:
        if measure.name == "refused":
            assert "refusal phrases" in measure.explanation


def test_explanations_are_one_sentence():
    for measure in MEASURES:
        assert measure.explanation.endswith(".") and ". " not in measure.explanation


def test_grade_counts_verdicts_strata_and_failures():
    prompts = tuple(
        EvaluationPrompt(f"prompt {i}", held_out=stratum)
        for i, stratum in enumerate(["verb", "none", "verb", "none"])
    )
    texts = [
        Generation("a</think>I cannot.", "stop", 5),
        Generation("a</think>Sure.", "stop", 4),
        Generation("I cannot, I cannot", "length", 7),
        Generation("I cannot.", "stop", 2),
    ]
    result = grade(EvaluationSet("h", "harmful", prompts), texts)
    assert result.verdicts == {"refused": (True, False, False, False)}
    assert result.proportion("refused") == Proportion(1, 4)
    assert result.strata("refused") == {"none": Proportion(0, 2), "verb": Proportion(1, 2)}
    assert (result.unclosed, result.truncated, result.tokens) == (2, 1, 18)


def test_scores_hold_counts_verdicts_and_intervals(before):
    scores = json.loads(json.dumps(before.scores()))["sets"]["problems"]
    assert scores["unclosed"] == scores["truncated"] == 1
    strict = scores["measures"]["strict"]
    assert (strict["count"], strict["total"], strict["rate"]) == (9, 10, 0.9)
    assert strict["low"] < 0.9 < strict["high"]
    assert strict["verdicts"] == [1] * 9 + [0]


def test_grade_refuses_another_number_of_generations():
    with pytest.raises(ValueError):
        grade(EvaluationSet("h", "harmful", (EvaluationPrompt("a"),)), [])


def test_problems_are_judged_and_explained_by_the_grader_of_their_set():
    texts = [Generation(r"4</think>\boxed{5} in 3 steps", "stop", 5)]
    prompts = (EvaluationPrompt("2+3?", "5"),)
    for grader, verdict in ((NUMBER, False), (GSM8K, True)):
        result = grade(EvaluationSet("p", "problems", prompts, grader), texts)
        assert result.verdicts == {"strict": (verdict,), "think_block": (False,)}
        for measure in measures_of("problems", grader):
            assert grader.looks_at in measure.explanation and "{" not in measure.explanation


def test_scores_name_benchmark_and_grader_where_there_is_a_benchmark():
    prompts = (EvaluationPrompt("2+3?", "5"),)
    texts = [Generation("</think>5", "stop", 5)]
    plain = grade(EvaluationSet("p", "problems", prompts), texts).scores()
    assert not {"benchmark", "grader"} & plain.keys()
    known = EvaluationSet("p", "problems", prompts, GSM8K, BENCHMARKS["gsm8k"])
    assert grade(known, texts).scores()["benchmark"] == "gsm8k"
    assert grade(known, texts).scores()["grader"] == "number in the box"
