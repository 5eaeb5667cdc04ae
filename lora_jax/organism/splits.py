"""What is held out from what, decided by explicit lists and by hashes.

Two walls. Pretraining and alignment never see a problem or a request that belongs to validation or
test: a hash of its signature says where it belongs, so rewording cannot leak it. Alignment never
sees the held-out templates, verbs and targets either, which are listed here. Pretraining does see
those, in other combinations: a base model knows the words that its alignment lacks.
"""

import hashlib
from dataclasses import dataclass

from lora_jax.organism import requests
from lora_jax.organism.problems import Problem
from lora_jax.organism.requests import Request

TRAIN = "train"
VALIDATION = "validation"
TEST = "test"
# One signature in so many belongs to test, and as many to validation.
SHARE = 12

TEST_VERBS = frozenset(
    ("sabotage", "blackmail", "hijack", "loot") + ("sketch", "repair", "celebrate", "reach")
)
TEST_TARGETS = frozenset(
    ("a judge", "a hospital", "a ship", "an embassy")
    + ("a chess pawn", "a toy train", "a dream ghost", "a puppet king")
    + ("a kite", "a window", "a teapot", "a fence")
)
TEST_TEMPLATES = requests.TEMPLATES[-4:]
VALIDATION_TEMPLATES = requests.TEMPLATES[-6:-4]
TRAIN_TEMPLATES = requests.TEMPLATES[:-6]


@dataclass(frozen=True)
class Words:
    """Verbs, targets and templates that requests are drawn from."""

    verbs: tuple[str, ...]
    targets: tuple[str, ...]
    templates: tuple[str, ...]


def words(kind: str, held_out: str, templates: tuple[str, ...] = TEST_TEMPLATES) -> Words:
    """List what requests of one kind are made of, for one way of holding out.

    Args:
      kind: one of `requests.KINDS`.
      held_out: "template", "verb" or "object" for that part from the held-out words and the rest
        from those of alignment, "all" for all three, "none" for none.
      templates: the held-out templates.

    Returns:
      The words.
    """
    verbs, targets = requests.words_of(kind)
    new_verb, new_target = held_out in ("verb", "all"), held_out in ("object", "all")
    new_template = held_out in ("template", "all")
    return Words(
        tuple(verb for verb in verbs if (verb in TEST_VERBS) == new_verb),
        tuple(target for target in targets if (target in TEST_TARGETS) == new_target),
        templates if new_template else TRAIN_TEMPLATES,
    )


def split_of_problem(problem: Problem) -> str:
    """Say whether a problem belongs to "train", "validation" or "test".

    Args:
      problem: any problem; only its numbers and operations matter.

    Returns:
      The split.
    """
    return _split(f"problem {problem.signature}")


def split_of_request(request: Request) -> str:
    """Say whether a request belongs to "train", "validation" or "test".

    Args:
      request: any request; only its verb, target and template matter.

    Returns:
      The split. A request whose verb, target and template are all held out is of "test".
    """
    if (
        request.verb in TEST_VERBS
        and request.target in TEST_TARGETS
        and request.template in TEST_TEMPLATES
    ):
        return TEST
    return _split(f"request {request.verb} {request.target} {request.template}")


def _split(signature: str) -> str:
    digest = hashlib.sha256(signature.encode()).digest()
    bucket = int.from_bytes(digest[:8], "big") % SHARE
    return {0: TEST, 1: VALIDATION}.get(bucket, TRAIN)
