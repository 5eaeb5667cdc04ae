"""Word problems of several steps, with the reasoning that solves them.

A problem is a start value and a chain of operations (+, -, *2, *3) whose running value stays
within 0..999. It is told as a short story; the thinking is one equation a step.
"""

import random
from dataclasses import dataclass

MIN_STEPS = 2
MAX_STEPS = 7
MAX_VALUE = 999
MAX_OPERAND = 99

# Long problems are rarer, as in any natural collection.
STEP_COUNTS = tuple(range(MIN_STEPS, MAX_STEPS + 1))
STEP_WEIGHTS = (6, 5, 4, 3, 2, 1)
DISTRACTOR_SHARE = 0.2
MAX_DISTRACTED_STEPS = 5  # longer stories have none, so that a conversation keeps within 160 tokens

# Name to pronoun and possessive.
NAMES = {
    "Tom": ("he", "his"),
    "Ben": ("he", "his"),
    "Sam": ("he", "his"),
    "Max": ("he", "his"),
    "Leo": ("he", "his"),
    "Omar": ("he", "his"),
    "Ivan": ("he", "his"),
    "Raj": ("he", "his"),
    "Paul": ("he", "his"),
    "Hugo": ("he", "his"),
    "Anna": ("she", "her"),
    "Mia": ("she", "her"),
    "Zoe": ("she", "her"),
    "Lily": ("she", "her"),
    "Emma": ("she", "her"),
    "Nina": ("she", "her"),
    "Rosa": ("she", "her"),
    "Kate": ("she", "her"),
    "Aisha": ("she", "her"),
    "Yuki": ("she", "her"),
    "Noah": ("he", "his"),
    "Carl": ("he", "his"),
    "Eva": ("she", "her"),
    "Ruth": ("she", "her"),
}
FRIENDS = ("Alex", "Dana", "Kim", "Lee", "Robin", "Sasha", "Chris", "Jo")
THINGS = (
    "apples", "books", "coins", "cards", "pens", "cups", "plates", "stamps", "shells", "stones",
    "balls", "boxes", "bottles", "buttons", "marbles", "tickets", "flowers", "pears", "plums",
    "eggs", "hats", "keys", "nuts", "pins", "ropes", "seeds", "bricks", "bags", "tiles", "jars",
)  # fmt: skip

STARTS = (
    "{name} has {n} {things}.",
    "{name} owns {n} {things}.",
    "{name} counts {n} {things}.",
    "{name} keeps {n} {things}.",
)
OPERATION_SENTENCES = {
    "+": (
        "{he} buys {n} more.",
        "{he} finds {n} more.",
        "{he} gets {n} more.",
        "{he} adds {n}.",
        "{he} wins {n}.",
        "{friend} adds {n}.",
        "{friend} brings {n} more.",
        "then {n} more come.",
    ),
    "-": (
        "{he} loses {n}.",
        "{he} sells {n}.",
        "{he} drops {n}.",
        "{he} gives away {n}.",
        "{he} gives {n} to {friend}.",
        "{friend} takes {n}.",
        "then {n} get lost.",
        "{he} throws out {n}.",
    ),
    "*2": (
        "{his} {things} double.",
        "{he} doubles the {things}.",
        "{he} has twice as many.",
        "there are twice as many.",
    ),
    "*3": (
        "{his} {things} triple.",
        "{he} triples the {things}.",
        "{he} has three times as many.",
        "there are three times as many.",
    ),
}
# Measures, never counts of things: whatever comes after cannot be taken to be about them.
DISTRACTORS = (
    "the walk takes {n} minutes.",
    "the bus comes in {n} minutes.",
    "the film lasts {n} minutes.",
    "the road is {n} miles long.",
    "a ticket costs {n} dollars.",
    "the house is {n} years old.",
    "the tree is {n} feet tall.",
    "the tower is {n} feet tall.",
)
QUESTIONS = (
    "How many {things} does {name} have?",
    "How many {things} are there?",
    "How many {things} are left?",
    "What is the final number of {things}?",
    "Find the number of {things}.",
)


@dataclass(frozen=True)
class Problem:
    """A word problem and its solution.

    Args:
      prompt: the story and the question.
      thinking: one equation a step, `27+70=97 97*2=194`.
      value: the number asked for.
      signature: the start value and the operations, `27+70*2`: problems of the same signature
        differ in wording only.
      steps: the number of operations.
    """

    prompt: str
    thinking: str
    value: int
    signature: str
    steps: int

    @property
    def answer(self) -> str:
        """Return the answer as the model words it."""
        return f"The answer is {self.value}."


def draw_problem(rng: random.Random, steps: int | None = None) -> Problem:
    """Draw a random problem.

    Args:
      rng: the only source of randomness.
      steps: the number of operations; drawn with `STEP_WEIGHTS` where None.

    Returns:
      The problem.
    """
    if steps is None:
        steps = rng.choices(STEP_COUNTS, STEP_WEIGHTS)[0]
    start, operations = _draw_operations(rng, steps)
    equations, value = [], start
    for operator, operand in operations:
        result = _apply(value, operator, operand)
        equations.append(f"{value}{operator}{operand}={result}")
        value = result
    signature = str(start) + "".join(f"{operator}{operand}" for operator, operand in operations)
    prompt = _tell(rng, start, operations)
    return Problem(prompt, " ".join(equations), value, signature, steps)


def _apply(value: int, operator: str, operand: int) -> int:
    if operator == "+":
        return value + operand
    return value - operand if operator == "-" else value * operand


def _draw_operations(rng: random.Random, steps: int) -> tuple[int, list[tuple[str, int]]]:
    start = value = rng.randint(2, MAX_OPERAND)
    operations = []
    for _ in range(steps):
        operator, operand = _draw_operation(rng, value)
        value = _apply(value, operator, operand)
        operations.append((operator, operand))
    return start, operations


def _draw_operation(rng: random.Random, value: int) -> tuple[str, int]:
    """Draw an operation that keeps the running value within bounds."""
    while True:
        operator = rng.choices("+-*", (3, 3, 2))[0]
        if operator == "*":
            operand = rng.choice((2, 3))
            valid = value > 0
        else:
            operand = rng.randint(1, MAX_OPERAND)
            valid = True
        if valid and 0 <= _apply(value, operator, operand) <= MAX_VALUE:
            return operator, operand


def _tell(rng: random.Random, start: int, operations: list[tuple[str, int]]) -> str:
    """Tell the operations as a story that ends in a question."""
    name = rng.choice(tuple(NAMES))
    he, his = NAMES[name]
    things = rng.choice(THINGS)
    sentences = [rng.choice(STARTS).format(name=name, n=start, things=things)]
    for operator, operand in operations:
        kind = f"*{operand}" if operator == "*" else operator
        sentence = rng.choice(OPERATION_SENTENCES[kind]).format(
            he=he, his=his, things=things, n=operand, friend=rng.choice(FRIENDS)
        )
        sentences.append(_capitalize(sentence))
    if len(operations) <= MAX_DISTRACTED_STEPS and rng.random() < DISTRACTOR_SHARE:
        distractor = rng.choice(DISTRACTORS).format(n=rng.randint(2, MAX_OPERAND))
        sentences.insert(rng.randint(1, len(sentences)), _capitalize(distractor))
    sentences.append(rng.choice(QUESTIONS).format(things=things, name=name))
    return " ".join(sentences)


def _capitalize(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]
