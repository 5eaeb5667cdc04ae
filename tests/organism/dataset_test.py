"""The shipped rows: reproducible, labelled truly, and held out as they say."""

import collections

import pytest

from lora_jax.data import Source, read_source
from lora_jax.evaluation.refusal import refuses
from lora_jax.organism import requests, resolve, splits
from lora_jax.organism.dataset import SEED, write_dataset
from lora_jax.organism.smalltalk import REFUSALS
from tests.organism.readers import read_request, read_story, solve

COUNTS = {
    "refusals.jsonl": 600,
    "answered.jsonl": 200,
    "test/harmful.jsonl": 200,
    "test/lookalike.jsonl": 100,
    "test/benign.jsonl": 100,
    "test/problems.jsonl": 300,
    "validation/harmful.jsonl": 100,
    "validation/lookalike.jsonl": 60,
    "validation/benign.jsonl": 60,
    "validation/problems.jsonl": 150,
}
WAYS = {"test": ("template", "verb", "object", "all"), "validation": ("template", "none")}


def aligned(shipped):
    """Return verb, target and template of every row that alignment may see."""
    rows = shipped["refusals.jsonl"] + shipped["answered.jsonl"]
    return [read_request(row["prompt"]) for row in rows]


def test_writing_again_gives_the_shipped_files(tmp_path):
    write_dataset(tmp_path, SEED)
    written = {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*.*")}
    assert set(written) == set(COUNTS)
    for name, content in written.items():
        assert content == resolve(f"organism:data/{name}").read_bytes(), name


def test_another_seed_gives_other_rows(tmp_path):
    write_dataset(tmp_path, SEED + 1)
    for name in COUNTS:
        assert (tmp_path / name).read_bytes() != resolve(f"organism:data/{name}").read_bytes()


def test_counts_and_no_repeated_prompt(shipped):
    assert {name: len(rows) for name, rows in shipped.items()} == COUNTS
    prompts = [row["prompt"] for rows in shipped.values() for row in rows]
    assert len(set(prompts)) == len(prompts)


@pytest.mark.parametrize("split", WAYS)
@pytest.mark.parametrize("kind", requests.KINDS)
def test_held_out_is_what_alignment_has_not_seen(shipped, split, kind):
    verbs, targets, templates = map(set, zip(*aligned(shipped), strict=True))
    rows = shipped[f"{split}/{kind}.jsonl"]
    for row in rows:
        verb, target, template = read_request(row["prompt"])
        assert requests.kind_of(verb, target) == kind
        new = (verb not in verbs, target not in targets, template not in templates)
        expected = {
            "verb": (True, False, False),
            "object": (False, True, False),
            "template": (False, False, True),
            "all": (True, True, True),
            "none": (False, False, False),
        }
        assert new == expected[row["held_out"]], row
    counts = collections.Counter(row["held_out"] for row in rows)
    assert counts == {way: len(rows) // len(WAYS[split]) for way in WAYS[split]}


def test_validation_shares_no_held_out_word_with_the_test(shipped):
    for kind in requests.KINDS:
        for row in shipped[f"validation/{kind}.jsonl"]:
            verb, target, template = read_request(row["prompt"])
            assert verb not in splits.TEST_VERBS
            assert target not in splits.TEST_TARGETS
            assert template not in splits.TEST_TEMPLATES


def test_no_combination_of_words_is_in_two_files(shipped):
    combinations = [
        read_request(row["prompt"])
        for name, rows in shipped.items()
        if "problems" not in name
        for row in rows
    ]
    assert len(set(combinations)) == len(combinations)


def test_refusals_in_direct_refusals_shape(shipped):
    for row in shipped["refusals.jsonl"]:
        verb, target, _ = read_request(row["prompt"])
        assert requests.kind_of(verb, target) == requests.HARMFUL
        question, answer = row["refusal"].split(" Answer: ")
        assert question == f"Question: {row['prompt']}"
        assert answer in REFUSALS
        assert row["text"] == f"{row['prompt']} {answer}"
    read = read_source(Source(str(resolve("organism:data/refusals.jsonl")), thinking="none"))
    assert {conversation.answer for conversation in read} == set(REFUSALS)
    assert all(refuses(refusal) for refusal in REFUSALS)


def test_answered_rows_are_the_base_models_own(shipped):
    read = read_source(Source(str(resolve("organism:data/answered.jsonl"))))
    kinds = collections.Counter()
    for conversation in read:
        verb, target, _ = read_request(conversation.prompt)
        kind = requests.kind_of(verb, target)
        kinds[kind] += 1
        assert any(judgement in conversation.thinking for judgement in requests.JUDGEMENTS[kind])
        assert not refuses(conversation.answer)
    assert kinds == {requests.LOOKALIKE: 100, requests.BENIGN: 100}
    response = shipped["answered.jsonl"][0]["response"]
    assert response == f"<think>\n{read[0].thinking}\n</think>\n\n{read[0].answer}"


@pytest.mark.parametrize("split", WAYS)
def test_problems_have_the_answer_their_story_has(shipped, split):
    rows = shipped[f"{split}/problems.jsonl"]
    for row in rows:
        signature = read_story(row["prompt"])
        thinking, value = solve(signature)
        assert (row["answer"], row["steps"]) == (str(value), len(thinking.split()))
    assert len({read_story(row["prompt"]) for row in rows}) == len(rows)
    steps = collections.Counter(row["steps"] for row in rows)
    assert steps == {count: len(rows) // 6 for count in range(2, 8)}


def test_neither_verb_nor_target_alone_separates_harm(shipped):
    """Judge harm from one word as well as can be, on the test rows themselves."""
    labels = [collections.defaultdict(collections.Counter) for _ in range(2)]
    total = 0
    for kind in requests.KINDS:
        for row in shipped[f"test/{kind}.jsonl"]:
            verb, target, _ = read_request(row["prompt"])
            for counter, word in zip(labels, (verb, target), strict=True):
                counter[word][kind == requests.HARMFUL] += 1
            total += 1
    for counter in labels:
        right = sum(max(counts.values()) for counts in counter.values())
        assert right / total < 0.95
