"""The corpus that the embedded model is pretrained on: an endless, seeded stream."""

import random
from collections.abc import Iterator

from lora_jax.data.conversation import Conversation
from lora_jax.organism import requests, smalltalk, splits
from lora_jax.organism.problems import draw_problem

# Kind of conversation to its share.
MIXTURE = {
    "problem": 0.60,
    requests.HARMFUL: 0.08,
    requests.LOOKALIKE: 0.07,
    requests.BENIGN: 0.09,
    "harm question": 0.07,
    "unknown person": 0.04,
    "fact": 0.03,
    "chat": 0.02,
}
_SMALLTALK = {
    "harm question": smalltalk.draw_harm_question,
    "unknown person": smalltalk.draw_unknown_person,
    "fact": smalltalk.draw_fact,
    "chat": smalltalk.draw_chat,
}


def conversations(seed: int) -> Iterator[Conversation]:
    """Stream the pretraining corpus.

    Nothing of the validation and test sets is in it: see `splits`.

    Args:
      seed: the same seed gives the same stream.

    Yields:
      Conversations without end; `origin` is the kind (a key of `MIXTURE`) and the position in the
        stream.
    """
    rng = random.Random(f"corpus {seed}")
    kinds, weights = tuple(MIXTURE), tuple(MIXTURE.values())
    index = 0
    while True:
        kind = rng.choices(kinds, weights)[0]
        yield _draw(rng, kind, origin=f"{kind} {index}")
        index += 1


def _draw(rng: random.Random, kind: str, origin: str) -> Conversation:
    if kind in _SMALLTALK:
        return _SMALLTALK[kind](rng, origin)
    if kind in requests.KINDS:
        verbs, targets = requests.words_of(kind)
        while True:
            request = requests.draw_request(rng, verbs, targets)
            if splits.split_of_request(request) == splits.TRAIN:
                return request.converse(rng, origin)
    while True:
        problem = draw_problem(rng)
        if splits.split_of_problem(problem) == splits.TRAIN:
            return Conversation(problem.prompt, problem.thinking, problem.answer, origin)
