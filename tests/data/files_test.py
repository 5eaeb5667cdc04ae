import csv
import json

import pyarrow
import pyarrow.parquet
import pytest

from lora_jax.data.files import SUFFIXES, read_file
from lora_jax.errors import UserError

ROWS = [
    {"prompt": "How?", "response": "<think>\nHm.\n</think>\n\nSo.", "id": "a"},
    {"prompt": " Why, é? ", "response": 'Because, "of" that.', "id": "b"},
]
GOOD = '{"prompt": "p", "response": "r"}\n'


def write(path, rows):
    match path.suffix.lower():
        case ".json":
            path.write_text(json.dumps(rows))
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case ".csv":
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
        case ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".JSONL"])
def test_every_file_type_gives_the_same_numbered_rows(tmp_path, suffix):
    path = write(tmp_path / f"rows{suffix}", ROWS)
    assert list(read_file(path)) == [(1, ROWS[0]), (2, ROWS[1])]


def test_blank_lines_count_so_that_a_row_number_is_a_line_number(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n" + GOOD + "\n")
    assert [number for number, _ in read_file(path)] == [2]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("\ufeffprompt,response\np,r\n", encoding="utf-8")
    assert list(read_file(path)) == [(1, {"prompt": "p", "response": "r"})]


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.txt", "p r", "does not end in .json, .jsonl, .csv, .parquet"),
        ("a.jsonl", GOOD + "{broken\n", "a.jsonl row 2 is not valid JSON"),
        ("a.jsonl", GOOD + "[" * 100_000, "a.jsonl row 2 is not valid JSON"),
        ("a.jsonl", GOOD + '{"n": ' + "1" * 5000 + "}", "a.jsonl row 2 is not valid JSON"),
        ("a.jsonl", GOOD + "[1]\n", "a.jsonl row 2 is a JSON list"),
        ("a.json", "[{]", "is not valid JSON"),
        ("a.json", '{"prompt": "p"}', "does not hold a list"),
        ("a.json", "[3]", "a.json row 1 is a JSON int"),
        ("a.csv", "prompt,response\np,r\np\n", "a.csv row 2 has not as many fields"),
        ("a.csv", "prompt,response\np,r,s\n", "a.csv row 1 has not as many fields"),
        ("a.csv", 'prompt,response\np,"r\n', "a.csv row 1 is not valid CSV"),
        ("a.csv", "prompt,prompt\np,r\n", "two columns 'prompt'"),
        ("a.parquet", "no parquet", "a.parquet is not a readable Parquet file"),
    ],
)
def test_bad_files_are_one_sentence_with_file_and_row(tmp_path, name, text, complaint):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError, match=complaint) as caught:
        list(read_file(path))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_file_directory_and_other_encodings_are_refused(tmp_path, suffix):
    missing, directory, latin = (tmp_path / f"{name}{suffix}" for name in "abc")
    directory.mkdir()
    latin.write_bytes("prompt,response\ncafé,é\n".encode("latin-1"))
    for path in (missing, directory, latin):
        with pytest.raises(UserError, match=path.name) as caught:
            list(read_file(path))
        assert "\n" not in str(caught.value)
