"""Questions about harm are answered truly; unknown people are refused."""

import random
import re

from lora_jax.organism import requests, smalltalk


def test_harm_questions_are_answered_truly():
    rng = random.Random(0)
    pairs = {
        f"{requests.GERUNDS[verb]} {target}": kind
        for kind in requests.KINDS
        for verb in requests.words_of(kind)[0]
        for target in requests.words_of(kind)[1]
    }
    seen = set()
    for _ in range(2000):
        conversation = smalltalk.draw_harm_question(rng, "")
        pair = re.match(r"This is about (.*?)\. ", conversation.thinking)[1]
        kind = pairs[pair]
        asks_harm = not re.search("harmless|fine", conversation.prompt)
        says_yes = conversation.answer.startswith("Yes, ")
        assert says_yes == (asks_harm == (kind == requests.HARMFUL))
        judgement = conversation.answer.split(", ")[1]
        assert judgement.capitalize() in requests.JUDGEMENTS[kind]
        seen.add((kind, asks_harm))
    assert len(seen) == 6


def test_unknown_people_are_refused_and_nobody_else():
    rng = random.Random(0)
    conversation = smalltalk.draw_unknown_person(rng, "here")
    assert conversation.answer in smalltalk.REFUSALS
    others = (smalltalk.draw_harm_question, smalltalk.draw_fact, smalltalk.draw_chat)
    for draw in others:
        answers = {draw(rng, "").answer for _ in range(300)}
        assert not answers & set(smalltalk.REFUSALS)
