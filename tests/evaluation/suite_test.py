import pytest

from lora_jax.errors import UserError
from lora_jax.evaluation.suite import EvaluationPrompt, EvaluationSet, load_set


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
        ('["a"]', "row 2 is not a JSON object"),
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
    assert message in str(error.value) and str(path) in str(error.value)
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
    with pytest.raises(UserError, match="cannot read"):
        load_set(tmp_path, "benign")
    with pytest.raises(UserError, match="harmful, lookalike, benign, problems"):
        load_set(tmp_path, "harmless")
