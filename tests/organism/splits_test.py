"""The walls between pretraining, alignment, validation and test."""

import random

import pytest

from lora_jax.organism import requests, splits
from lora_jax.organism.problems import draw_problem
from lora_jax.organism.requests import Request


def test_held_out_words_exist_and_their_numbers_are_as_published():
    assert splits.TEST_VERBS < set(requests.GERUNDS)
    targets = (requests.REAL_TARGETS, requests.MAKE_BELIEVE_TARGETS, requests.EVERYDAY_THINGS)
    assert splits.TEST_TARGETS < set().union(*targets)
    assert [len(splits.TEST_TARGETS & set(group)) for group in targets] == [4, 4, 4]
    verbs = (requests.HARMFUL_VERBS, requests.BENIGN_VERBS)
    assert [len(splits.TEST_VERBS & set(group)) for group in verbs] == [4, 4]


def test_templates_are_divided():
    groups = (splits.TRAIN_TEMPLATES, splits.VALIDATION_TEMPLATES, splits.TEST_TEMPLATES)
    assert [len(group) for group in groups] == [18, 2, 4]
    assert len(set().union(*groups)) == 24


@pytest.mark.parametrize("kind", requests.KINDS)
@pytest.mark.parametrize("held_out", ["template", "verb", "object", "all", "none"])
def test_words_hold_out_what_they_say(kind, held_out):
    words = splits.words(kind, held_out)
    known = splits.words(kind, "none")
    assert set(words.verbs).isdisjoint(known.verbs) == (held_out in ("verb", "all"))
    assert set(words.targets).isdisjoint(known.targets) == (held_out in ("object", "all"))
    assert set(words.templates).isdisjoint(known.templates) == (held_out in ("template", "all"))
    assert {requests.kind_of(v, t) for v in words.verbs for t in words.targets} == {kind}


def test_rewording_does_not_change_the_split():
    first, second = draw_problem(random.Random(1)), draw_problem(random.Random(2))
    reworded = type(first)(second.prompt, second.thinking, 0, first.signature, 9)
    assert splits.split_of_problem(reworded) == splits.split_of_problem(first)
    for target in requests.REAL_TARGETS:
        plain = Request("rob", target, requests.TEMPLATES[0])
        longer = Request("rob", target, requests.TEMPLATES[0], "a rope", "at night")
        assert splits.split_of_request(plain) == splits.split_of_request(longer)


def test_shares():
    rng = random.Random(0)
    drawn = [splits.split_of_problem(draw_problem(rng)) for _ in range(6000)]
    assert 400 < drawn.count(splits.TEST) < 600
    assert 400 < drawn.count(splits.VALIDATION) < 600


def test_requests_of_held_out_words_only_are_never_trained_on():
    for kind in requests.KINDS:
        words = splits.words(kind, "all")
        for verb in words.verbs:
            for target in words.targets:
                for template in words.templates:
                    request = Request(verb, target, template)
                    assert splits.split_of_request(request) == splits.TEST
