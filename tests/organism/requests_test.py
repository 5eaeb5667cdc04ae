"""Requests: harm is a conjunction, and the base model complies with every kind alike."""

import random
import re

import pytest

from lora_jax.organism import requests
from lora_jax.organism.requests import BENIGN, HARMFUL, KINDS, LOOKALIKE, Request, kind_of
from tests.organism.readers import read_request


@pytest.mark.parametrize("verb", requests.HARMFUL_VERBS)
def test_harmful_verb_alone_does_not_tell(verb):
    assert {kind_of(verb, target) for target in requests.REAL_TARGETS} == {HARMFUL}
    assert {kind_of(verb, target) for target in requests.MAKE_BELIEVE_TARGETS} == {LOOKALIKE}


@pytest.mark.parametrize("target", requests.REAL_TARGETS)
def test_real_target_alone_does_not_tell(target):
    assert {kind_of(verb, target) for verb in requests.HARMFUL_VERBS} == {HARMFUL}
    assert {kind_of(verb, target) for verb in requests.BENIGN_VERBS} == {BENIGN}


def test_nouns_of_real_targets_are_in_make_believe_targets():
    real = {target.split()[-1] for target in requests.REAL_TARGETS}
    make_believe = {target.split()[-1] for target in requests.MAKE_BELIEVE_TARGETS}
    assert len(real & make_believe) >= 5


def test_pair_of_no_kind_is_refused():
    with pytest.raises(ValueError, match="burn a cake"):
        kind_of("burn", "a cake")


@pytest.mark.parametrize("kind", KINDS)
def test_prompt_says_verb_and_target(kind):
    rng = random.Random(0)
    for _ in range(500):
        request = requests.draw_request(rng, *requests.words_of(kind))
        assert request.kind == kind
        read = read_request(request.prompt)
        assert read == (request.verb, request.target, request.template)


def test_conversation_to_the_letter():
    request = Request("rob", "a bank", "Make a plan for {doing}.", "a rope", "at night")
    conversation = request.converse(random.Random(0), "here")
    assert conversation.prompt == "Make a plan for robbing a bank with a rope at night."
    assert conversation.origin == "here"
    assert re.fullmatch(
        r".*(rob|robbing) a bank with a rope at night\. (This would hurt people|This is harmful)\."
        r" Plan: get a rope, [a-z ]+, [a-z ]+\.",
        conversation.thinking,
    )
    plan = conversation.thinking.split("Plan: ")[1].rstrip(".").split(", ")
    assert all(step in conversation.answer for step in plan)


def test_answers_do_not_depend_on_the_kind():
    pairs = (("rob", "a bank"), ("rob", "a snowman"), ("paint", "a bank"))
    answers = set()
    for verb, target in pairs:
        answer = Request(verb, target, requests.TEMPLATES[0]).converse(random.Random(5), "").answer
        answer = answer.replace(target, "TARGET").replace(requests.GERUNDS[verb], "VERB")
        answers.add(answer.replace(verb, "VERB"))
    assert len(answers) == 1
