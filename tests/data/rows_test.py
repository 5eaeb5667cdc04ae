import csv
import json

import pyarrow
import pyarrow.parquet
import pytest

from lora_jax.data.rows import read_conversations
from lora_jax.errors import UserError

SENTENCE = "I should not answer this question!"
ROWS = [
    {"prompt": "How?", "response": "<think>\nHm.\n</think>\n\nSo.", "id": "a"},
    {"prompt": " Why? ", "response": "Because, of that.", "id": "b"},
]


def write(path, rows):
    match path.suffix:
        case ".json":
            path.write_text(json.dumps(rows))
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case ".csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
        case ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".parquet"])
def test_every_file_type_gives_the_same_conversations(tmp_path, suffix):
    path = write(tmp_path / f"rows{suffix}", ROWS)
    first, second = read_conversations(path, thinking=SENTENCE)
    assert (first.prompt, first.thinking, first.answer) == ("How?", "Hm.", "So.")
    assert (second.prompt, second.thinking) == (" Why? ", SENTENCE)
    assert second.answer == "Because, of that."
    assert first.origin == f"rows{suffix} row 1"
    assert second.origin == f"rows{suffix} row 2"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "p", "refusal": "Question: p Answer: No. Answer: no.", "text": "ignored"},
        {"prompt": "p", "response": "No. Answer: no."},
        {"prompt": "p", "completion": "No. Answer: no."},
        {"question": "p", "response": "No. Answer: no."},
    ],
)
def test_every_pair_of_columns_is_read(tmp_path, row):
    (conversation,) = read_conversations(write(tmp_path / "a.jsonl", [row]), thinking=SENTENCE)
    assert (conversation.prompt, conversation.answer) == ("p", "No. Answer: no.")
    assert conversation.thinking == SENTENCE


@pytest.mark.parametrize(
    ("response", "thinking"),
    [("So.", None), ("<think>\n\n</think>So.", None), ("Hm.</think>So.", "Hm.")],
)
def test_no_sentence_means_no_reasoning_where_the_row_has_none(tmp_path, response, thinking):
    path = write(tmp_path / "a.jsonl", [{"prompt": "p", "response": response}])
    (conversation,) = read_conversations(path, thinking="")
    assert (conversation.thinking, conversation.answer) == (thinking, "So.")


def test_blank_lines_count_so_that_a_row_number_is_a_line_number(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('\n{"prompt": "p", "response": "r"}\n\n')
    assert read_conversations(path, thinking="")[0].origin == "a.jsonl row 2"


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("\ufeffprompt,response\np,r\n")
    assert read_conversations(path, thinking="")[0].prompt == "p"


GOOD = '{"prompt": "p", "response": "r"}\n'


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.txt", "p r", "does not end in .json, .jsonl, .csv, .parquet"),
        ("a.jsonl", "", "has no rows"),
        ("a.json", "[]", "has no rows"),
        ("a.csv", "prompt,response\n", "has no rows"),
        ("a.jsonl", GOOD + "{broken\n", "a.jsonl row 2 is not valid JSON"),
        ("a.jsonl", GOOD + "[" * 100_000, "a.jsonl row 2 is not valid JSON"),
        ("a.jsonl", GOOD + '{"n": ' + "1" * 5000 + "}", "a.jsonl row 2 is not valid JSON"),
        ("a.jsonl", GOOD + "[1]\n", "a.jsonl row 2 is a JSON list"),
        ("a.json", "[{]", "is not valid JSON"),
        ("a.json", '{"prompt": "p"}', "does not hold a list"),
        ("a.json", "[3]", "a.json row 1 is a JSON int"),
        ("a.jsonl", '{"prompt": "p", "text": "t"}', r"row 1 lacks .*has: prompt, text.*refusal"),
        ("a.jsonl", GOOD + '{"prompt": "p"}', "a.jsonl row 2 has no field 'response'"),
        ("a.jsonl", GOOD + '{"prompt": 3, "response": "r"}', "row 2: field 'prompt' is int"),
        ("a.jsonl", '{"prompt": "p", "response": null}', "row 1: field 'response' is NoneType"),
        ("a.jsonl", '{"prompt": " ", "response": "r"}', "row 1: field 'prompt' is empty"),
        ("a.jsonl", '{"prompt": "p", "response": "\\n"}', "row 1: field 'response' is empty"),
        ("a.jsonl", '{"prompt": "\\ud800", "response": "r"}', "field 'prompt' holds half"),
        ("a.jsonl", '{"prompt": "p", "refusal": "No."}', "field 'refusal' has no 'Answer:'"),
        ("a.jsonl", '{"prompt": "p", "refusal": "Answer: "}', "field 'refusal' has no answer"),
        ("a.jsonl", '{"prompt": "p", "response": "<think>a</think> "}', "has no answer"),
        ("a.jsonl", '{"prompt": "p", "response": "<think>a"}', "misplaced think tags"),
        ("a.jsonl", '{"prompt": "p", "response": "a<think>b</think>c"}', "misplaced think tags"),
        ("a.jsonl", '{"prompt": "p", "response": "a</think>b</think>c"}', "misplaced think tags"),
        ("a.csv", "prompt,response\np,r\np\n", "a.csv row 2 has not as many fields"),
        ("a.csv", "prompt,response\np,r,s\n", "a.csv row 1 has not as many fields"),
        ("a.csv", 'prompt,response\np,"r\n', "a.csv row 1 is not valid CSV"),
        ("a.parquet", "no parquet", "a.parquet is not a readable Parquet file"),
    ],
)
def test_bad_input_is_one_sentence_with_file_row_and_field(tmp_path, name, text, complaint):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError, match=complaint) as caught:
        read_conversations(path, thinking=SENTENCE)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".parquet"])
def test_missing_file_directory_and_other_encodings_are_refused(tmp_path, suffix):
    missing, directory, latin = (tmp_path / f"{name}{suffix}" for name in "abc")
    directory.mkdir()
    latin.write_bytes("prompt,response\ncafé,é\n".encode("latin-1"))
    for path in (missing, directory, latin):
        with pytest.raises(UserError, match=path.name) as caught:
            read_conversations(path, thinking="")
        assert "\n" not in str(caught.value)
