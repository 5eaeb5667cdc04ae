import json

import datasets
import pytest

from lora_jax.data.source import Source, read_source
from lora_jax.errors import UserError
from tests.data.conftest import SHARED

SENTENCE = "I should not answer this question!"
ROWS = [
    {"prompt": "How?", "response": "<think>\nHm.\n</think>\n\nSo."},
    {"prompt": "Who?", "response": "<think></think>You."},
    {"prompt": "Why?", "response": "Because."},
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(path)


def thinking_of(source):
    return [row.thinking for row in read_source(source)]


def test_rows_come_in_order_and_say_where_they_are_from(file):
    rows = read_source(Source(file, thinking="none"))
    assert [(row.prompt, row.answer) for row in rows] == [
        ("How?", "So."),
        ("Who?", "You."),
        ("Why?", "Because."),
    ]
    assert [row.origin for row in rows] == [f"rows.jsonl row {n}" for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("own_or_fixed", ["Hm.", "", SENTENCE]),
        ("fixed", [SENTENCE] * 3),
        ("empty", [""] * 3),
        ("none", [None] * 3),
    ],
)
def test_the_think_block_holds_what_is_asked_for(file, rule, expected):
    assert thinking_of(Source(file, thinking=rule, fixed_thinking=SENTENCE)) == expected


def test_a_row_without_reasoning_of_its_own_is_named_with_the_choices(file, tmp_path):
    with pytest.raises(UserError, match=r"rows.jsonl row 3 has no reasoning.*own_or_fixed"):
        read_source(Source(file))
    path = tmp_path / "own.json"
    path.write_text(json.dumps(ROWS[:2]))
    assert thinking_of(Source(path)) == ["Hm.", ""]


def test_named_columns_are_read_in_every_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("ask,say,prompt\nHow?,So.,x\nWhy?,Because.,y\n")
    rows = read_source(Source(path, prompt="ask", response="say", thinking="none"))
    assert [(row.prompt, row.answer) for row in rows] == [("How?", "So."), ("Why?", "Because.")]


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def test_a_directory_is_read_as_a_dataset_with_splits(cache, tmp_path):
    messages = [
        {"role": "user", "content": "Hi?"},
        {"role": "assistant", "content": "No.", "reasoning_content": "Hm."},
    ]
    one, two = tmp_path / "one", tmp_path / "two"
    for path, row in ((one / "train.jsonl", ROWS[0]), (two / "test.jsonl", {"messages": messages})):
        path.parent.mkdir()
        path.write_text(json.dumps(row) + "\n")
    (row,) = read_source(Source(one))
    assert (row.prompt, row.thinking, row.origin) == ("How?", "Hm.", "one train row 1")
    (row,) = read_source(Source(two, split="test"))
    assert (row.prompt, row.thinking, row.origin) == ("Hi?", "Hm.", "two test row 1")
    with pytest.raises(UserError, match="split 'validation' of dataset .*one"):
        read_source(Source(one, split="validation"))
    with pytest.raises(UserError, match="split 'train' of subset 'math' of dataset .*one"):
        read_source(Source(one, subset="math"))


def test_a_name_on_the_hub_is_asked_for_with_split_subset_and_revision(monkeypatch):
    asked = []

    def load_dataset(*args, **kwargs):
        asked.append((args, kwargs))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    rows = read_source(Source("owner/name", thinking="none"))
    assert rows[2].origin == "owner/name train row 3"
    source = Source("owner/name", "test[:9]", "math", "v1", thinking="none")
    assert read_source(source)[0].origin == "owner/name test[:9] row 1"
    assert asked == [
        (("owner/name", None), {"split": "train", "revision": None}),
        (("owner/name", "math"), {"split": "test[:9]", "revision": "v1"}),
    ]


def test_a_dataset_that_is_not_cached_is_refused_offline(monkeypatch, cache):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="dataset 'owner/name' cannot be loaded .*connection"):
        read_source(Source("owner/name"))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"thinking": "maybe"}, "choose one of own, own_or_fixed, fixed, empty, none"),
        ({"thinking": "fixed"}, "fixed_thinking is ''"),
        ({"thinking": "own_or_fixed", "fixed_thinking": " "}, "fixed_thinking is ' '"),
        ({"thinking": "fixed", "fixed_thinking": "<think>a</think>"}, "without its tags"),
        ({"split": "test"}, "is a file, which has no split 'test'"),
        ({"subset": "math"}, "is a file, which has no subset 'math'"),
        ({"revision": "v1"}, "is a file, which has no revision 'v1'"),
        ({"response": "reply"}, "rows.jsonl row 1 has no field 'reply'"),
    ],
)
def test_bad_sources_are_refused(file, changes, complaint):
    with pytest.raises(UserError, match=complaint):
        read_source(Source(file, **changes))


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("absent.jsonl", "absent.jsonl cannot be read"),
        ("absent", "does not exist"),
        ("notes.txt", "notes.txt does not end in"),
        ("empty.jsonl", "has no rows"),
    ],
)
def test_paths_that_lead_nowhere_are_refused(tmp_path, name, complaint):
    (tmp_path / "notes.txt").write_text("p r")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UserError, match=complaint) as caught:
        read_source(Source(tmp_path / name, thinking="none"))
    assert "\n" not in str(caught.value)


def test_a_directory_without_data_and_one_with_a_revision_are_refused(cache, tmp_path):
    with pytest.raises(UserError, match="cannot be loaded"):
        read_source(Source(tmp_path))
    with pytest.raises(UserError, match="is a directory, which has no revision"):
        read_source(Source(tmp_path, revision="v1"))


def test_star_1_is_read_with_its_reasoning():
    path = SHARED / "safety_sft/STAR-1.json"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    rows = read_source(Source(path))
    assert len(rows) == 1000
    assert rows[0].prompt == "Is it worth me being alive?"
    assert rows[0].thinking.startswith("Okay, so the user is asking")
    assert rows[0].answer.startswith("I'm really sorry")
    assert not any("think>" in text for row in rows for text in (row.thinking, row.answer))
