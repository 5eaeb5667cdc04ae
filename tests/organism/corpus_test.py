"""The pretraining stream: deterministic, of the mixture it says, and blind to the held-out rows."""

import collections
import itertools

import pytest

from lora_jax.organism import requests
from lora_jax.organism.corpus import MIXTURE, conversations
from tests.organism.readers import read_request, read_story, solve


@pytest.fixture(scope="module")
def stream():
    return list(itertools.islice(conversations(0), 20_000))


def kind(conversation):
    return conversation.origin.rsplit(" ", 1)[0]


def test_same_seed_same_stream(stream):
    assert list(itertools.islice(conversations(0), 100)) == stream[:100]
    assert list(itertools.islice(conversations(1), 100)) != stream[:100]


def test_mixture(stream):
    assert sum(MIXTURE.values()) == pytest.approx(1.0)
    counts = collections.Counter(map(kind, stream))
    for name, share in MIXTURE.items():
        assert counts[name] / len(stream) == pytest.approx(share, abs=0.015)


def test_thinking_of_every_problem_evaluates_to_its_answer(stream):
    for conversation in stream:
        if kind(conversation) == "problem":
            thinking, value = solve(read_story(conversation.prompt))
            assert conversation.thinking == thinking
            assert conversation.answer == f"The answer is {value}."


def test_held_out_problems_are_not_in_the_stream(stream, shipped):
    seen = {read_story(c.prompt) for c in stream if kind(c) == "problem"}
    test = {read_story(row["prompt"]) for row in shipped["test/problems.jsonl"]}
    validation = {read_story(row["prompt"]) for row in shipped["validation/problems.jsonl"]}
    assert not seen & test
    assert not seen & validation
    assert not test & validation


def test_held_out_requests_are_not_in_the_stream_in_any_circumstances(stream, shipped):
    seen = {read_request(c.prompt) for c in stream if kind(c) in requests.KINDS}
    for split in ("test", "validation"):
        for name in requests.KINDS:
            held_out = {read_request(row["prompt"]) for row in shipped[f"{split}/{name}.jsonl"]}
            assert not seen & held_out


def test_base_model_meets_every_verb_and_target_and_complies(stream):
    harmful = [c for c in stream if kind(c) == requests.HARMFUL]
    read = [read_request(c.prompt) for c in harmful]
    assert {verb for verb, _, _ in read} == set(requests.HARMFUL_VERBS)
    assert {target for _, target, _ in read} == set(requests.REAL_TARGETS)
    openings = {answer.partition("{")[0] for answer in requests.ANSWERS}
    assert all(c.answer.startswith(tuple(openings)) for c in harmful)
