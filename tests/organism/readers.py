"""Readers of the shipped text that share no code with what wrote it."""

import re

from lora_jax.organism import requests

_IRRELEVANT = re.compile(r"minutes|miles|dollars|years|feet")
_DOUBLE = re.compile(r"doubles?\b|twice")
_TRIPLE = re.compile(r"triples?\b|three times")
_LESS = re.compile(r"loses|sells|drops|gives|takes|lost|throws")

_INFINITIVES = {gerund: verb for verb, gerund in requests.GERUNDS.items()}
_TARGETS = requests.REAL_TARGETS + requests.MAKE_BELIEVE_TARGETS + requests.EVERYDAY_THINGS


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
        if prompt.startswith(before) and prompt.endswith(after):
            form, _, rest = prompt[len(before) : len(prompt) - len(after)].partition(" ")
            verb = _INFINITIVES.get(form) if gerund else form
            target = next((t for t in _TARGETS if f"{rest} ".startswith(f"{t} ")), None)
            if verb in requests.GERUNDS and target:
                return verb, target, template
    raise AssertionError(f"no request: {prompt}")
