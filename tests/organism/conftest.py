"""Readers of the shipped text that share no code with what wrote it."""

import json
import re

import pytest

from lora_jax.organism import resolve, requests

_IRRELEVANT = re.compile(r"minutes|miles|dollars|years|feet")
_DOUBLE = re.compile(r"doubles?\b|twice")
_TRIPLE = re.compile(r"triples?\b|three times")
_LESS = re.compile(r"loses|sells|drops|gives|takes|lost|throws")


def read_story(prompt):
    """Return the signature of a problem as its story tells it: "27+70*2"."""
    first, *sentences = re.findall(r"[^.?]+[.?]", prompt)[:-1]
    signature = re.search(r"\d+", first)[0]
    for sentence in sentences:
        number = re.search(r"\d+", sentence)
        if _IRRELEVANT.search(sentence):
            continue
        if _DOUBLE.search(sentence):
            signature += "*2"
        elif _TRIPLE.search(sentence):
            signature += "*3"
        else:
            signature += ("-" if _LESS.search(sentence) else "+") + number[0]
    return signature


def solve(signature):
    """Return the equations and the result of a chain of operations, worked from left to right."""
    start, *operations = re.findall(r"^\d+|[-+*]\d+", signature)
    value, equations = int(start), []
    for operation in operations:
        left, number = value, int(operation[1:])
        value = {"+": left + number, "-": left - number, "*": left * number}[operation[0]]
        equations.append(f"{left}{operation}={value}")
    return " ".join(equations), value


def read_request(prompt):
    """Return verb, target and template of a request."""
    for template in requests.TEMPLATES:
        before, gerund, after = re.fullmatch(r"(.*){do(ing)?}(.*)", template).groups()
        if not (prompt.startswith(before) and prompt.endswith(after)):
            continue
        phrase = prompt[len(before) : len(prompt) - len(after)]
        for verb, form in requests.GERUNDS.items():
            form = form if gerund else verb
            _, targets = requests.words_of(
                requests.BENIGN if verb in requests.BENIGN_VERBS else requests.HARMFUL
            )
            for target in (*targets, *requests.MAKE_BELIEVE_TARGETS):
                if re.match(rf"{form} {target}(?= |$)", phrase):
                    return verb, target, template
    raise AssertionError(f"no request: {prompt}")


@pytest.fixture(scope="session")
def shipped():
    """Return the rows of every shipped file by its name in the data directory."""
    directory = resolve("organism:data")
    return {
        path.relative_to(directory).as_posix(): [
            json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()
        ]
        for path in sorted(directory.rglob("*.jsonl"))
    }
