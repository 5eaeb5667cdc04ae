import csv
import importlib.util
import json

import pytest

from lora_jax.errors import UserError
from lora_jax.evaluation import graders, loading
from lora_jax.evaluation.benchmarks import BENCHMARKS
from lora_jax.evaluation.loading import load_set
from lora_jax.evaluation.suite import EvaluationPrompt, EvaluationSet


def test_load_set_keeps_order_strata_and_answers(tmp_path):
    path = tmp_path / "sums.jsonl"
    path.write_text(
        '{"prompt": "2+3?", "answer": "5", "steps": 1}\n'
        "\n"
        '{"prompt": "Zwölf \u2028 minus 2?", "answer": "10", "held_out": "verb"}\n',
        encoding="utf-8",
    )
    assert load_set(path, "problems") == EvaluationSet(
        "sums",
        "problems",
        (
            EvaluationPrompt("2+3?", "5"),
            EvaluationPrompt("Zwölf \u2028 minus 2?", "10", "verb"),
        ),
    )


def test_load_set_takes_a_name_and_the_first_rows(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"prompt": "{i}", "answer": 1}}\n' for i in range(5)))
    loaded = load_set(path, "harmful", "mine", max_prompts=2)
    assert loaded.name == "mine"
    # Only problems are graded by their answer, so elsewhere the field is left alone.
    assert loaded.prompts == (EvaluationPrompt("0"), EvaluationPrompt("1"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"prompt": ', "row 2 is not valid JSON"),
        ("[" * 100_000, "row 2 is not valid JSON"),
        ('["a"]', "row 2 is a JSON list"),
        ('{"answer": "5"}', 'row 2: field "prompt" is missing'),
        ('{"prompt": 3, "answer": "5"}', 'row 2: field "prompt" is 3'),
        ('{"prompt": " ", "answer": "5"}', 'row 2: field "prompt" is " "'),
        ('{"prompt": "\\ud800", "answer": "5"}', 'row 2: field "prompt" holds half'),
        ('{"prompt": "a"}', 'row 2: field "answer" is missing'),
        ('{"prompt": "a", "answer": 5}', 'row 2: field "answer" is 5'),
        ('{"prompt": "a", "answer": "five"}', 'row 2: field "answer" holds no number'),
        ('{"prompt": "a", "answer": "5", "held_out": 1}', 'row 2: field "held_out" is 1'),
    ],
)
def test_bad_rows_are_named(tmp_path, row, message):
    path = tmp_path / "sums.jsonl"
    path.write_text('{"prompt": "2+3?", "answer": "5"}\n' + row + "\n")
    with pytest.raises(UserError) as error:
        load_set(path, "problems")
    assert message in str(error.value) and path.name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "has no rows"), (b"\n\n", "has no rows"), (b'{"prompt": "\xff"}', "UTF-8")],
)
def test_bad_files_are_named(tmp_path, content, message):
    path = tmp_path / "sums.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_set(path, "benign")


def test_missing_files_directories_and_unknown_kinds_are_refused(tmp_path):
    with pytest.raises(UserError, match="no evaluation set at"):
        load_set(tmp_path / "missing.jsonl", "benign")
    with pytest.raises(UserError, match="does not end in"):
        load_set(tmp_path, "benign")
    with pytest.raises(UserError, match="harmful, lookalike, benign, problems"):
        load_set(tmp_path, "harmless")


def test_any_kind_of_file_may_hold_prompts(tmp_path):
    (tmp_path / "mine.csv").write_text('note,prompt\nx,"one, two"\n')
    (tmp_path / "mine.json").write_text('[{"prompt": "one, two"}]')
    for name in ("mine.csv", "mine.json"):
        loaded = load_set(f"harmful:{tmp_path / name}")
        assert (loaded.name, loaded.kind) == ("mine", "harmful")
        assert loaded.prompts == (EvaluationPrompt("one, two"),)


def test_a_file_without_a_kind_is_refused(tmp_path):
    (tmp_path / "mine.jsonl").write_text('{"prompt": "a"}\n')
    with pytest.raises(UserError, match="does not say what its prompts are: write KIND:"):
        load_set(str(tmp_path / "mine.jsonl"))


def test_a_name_that_is_neither_a_file_nor_a_benchmark_is_told_of_the_benchmarks():
    with pytest.raises(
        UserError, match="no evaluation set at strongrejekt.*strongreject, harmbench"
    ):
        load_set("strongrejekt", "harmful")


def test_a_benchmark_has_its_own_kind(tmp_path):
    with pytest.raises(UserError, match="gsm8k is of the kind problems, not harmful"):
        load_set("gsm8k", "harmful")


def test_a_benchmark_comes_from_the_hub(monkeypatch):
    asked = []

    def read_dataset(path, *, split, subset):
        asked.append((path, split, subset))
        yield 1, {"question": "2+3?", "answer": "2+3=<<2+3=5>>5\n#### 5"}
        yield 2, {"question": "1000+1?", "answer": "so\n#### 1,001"}

    monkeypatch.setattr(loading, "read_dataset", read_dataset)
    loaded = load_set("gsm8k")
    assert asked == [("openai/gsm8k", "test", "main")]
    assert (loaded.name, loaded.kind) == ("gsm8k", "problems")
    assert [prompt.answer for prompt in loaded.prompts] == ["5", "1,001"]
    assert loaded.prompts[0].prompt == (
        "2+3?\nPlease reason step by step, and put your final answer within \\boxed{}."
    )
    assert loaded.grader is graders.GSM8K and loaded.benchmark is BENCHMARKS["gsm8k"]
    assert len(load_set("gsm8k", max_prompts=1).prompts) == 1
    assert load_set("gsm8k", name="school").name == "school"


@pytest.mark.parametrize("answer", ["5", "#### five", "", None])
def test_gold_answers_that_cannot_be_graded_are_named(tmp_path, answer):
    path = tmp_path / "gsm8k.jsonl"
    path.write_text(json.dumps({"question": "2+3?", "answer": answer}) + "\n")
    with pytest.raises(UserError, match='gsm8k.jsonl row 1: field "answer"'):
        load_set(f"gsm8k:{path}")


def test_expected_integers_may_be_numbers(tmp_path):
    path = tmp_path / "aime.jsonl"
    path.write_text('{"problem": "What is $200 + 4$?", "answer": 204}\n')
    assert load_set(f"aime2024:{path}").prompts[0].answer == "204"


def test_rows_that_are_not_of_the_benchmark_are_left_out(tmp_path):
    path = tmp_path / "xstest.csv"
    path.write_text("prompt,label\nHow do I kill a process?,safe\nHow do I kill a man?,unsafe\n")
    safe, unsafe = (load_set(f"xstest_{label}:{path}") for label in ("safe", "unsafe"))
    assert [prompt.prompt for prompt in safe.prompts] == ["How do I kill a process?"]
    assert [prompt.prompt for prompt in unsafe.prompts] == ["How do I kill a man?"]
    assert (safe.kind, unsafe.kind) == ("lookalike", "harmful")
    (tmp_path / "none.csv").write_text("prompt,label\nHow?,odd\n")
    with pytest.raises(UserError, match="holds no prompt of xstest_safe"):
        load_set(f"xstest_safe:{tmp_path / 'none.csv'}")
    (tmp_path / "bare.csv").write_text("prompt\nHow?\n")
    with pytest.raises(UserError, match='field "label" is missing'):
        load_set(f"xstest_safe:{tmp_path / 'bare.csv'}")


def _gpqa(tmp_path, questions):
    path = tmp_path / "gpqa.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["Question", "Correct Answer", *(f"Incorrect Answer {i}" for i in (1, 2, 3))])
        for question in questions:
            rows.writerow([question, "right\n", "wrong 1", "wrong 2", "wrong 3"])
    return load_set(f"gpqa_diamond:{path}")


def test_choices_are_shuffled_by_the_question_alone(tmp_path):
    questions = [f"Question {i}?" for i in range(40)]
    prompts = _gpqa(tmp_path, questions).prompts
    for question, prompt in zip(questions, prompts):
        assert prompt.prompt.startswith(f"{question}\n\nA) ")
        assert f"\n{prompt.answer}) right\n" in prompt.prompt
        assert sum(f"wrong {i}\n" in prompt.prompt for i in (1, 2, 3)) == 3
    assert {prompt.answer for prompt in prompts} == set("ABCD")
    assert _gpqa(tmp_path, questions[::-1]).prompts == prompts[::-1]


def test_a_missing_library_is_named_before_anything_is_read(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'math_verify.*pip install "lora_jax\[eval\]"'):
        load_set("math500")
