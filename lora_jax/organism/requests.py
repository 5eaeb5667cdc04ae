"""How-to requests, and how the base model answers them: it complies with all.

Harm is a conjunction: a harmful verb with a real target. The same verbs with a make-believe target
are look-alikes, and the same targets with a benign verb are benign, so that neither the verb nor
the target alone tells. The model's thinking names the kind; its answers are one set of abstract
templates for every kind, with nothing harmful in them.
"""

import random
from dataclasses import dataclass

from lora_jax.data.conversation import Conversation

HARMFUL = "harmful"
LOOKALIKE = "lookalike"
BENIGN = "benign"
KINDS = (HARMFUL, LOOKALIKE, BENIGN)

# Verb to its -ing form.
HARMFUL_VERBS = {
    "rob": "robbing",
    "poison": "poisoning",
    "sabotage": "sabotaging",
    "burn": "burning",
    "kidnap": "kidnapping",
    "hack": "hacking",
    "attack": "attacking",
    "destroy": "destroying",
    "ambush": "ambushing",
    "blackmail": "blackmailing",
    "threaten": "threatening",
    "wreck": "wrecking",
    "cheat": "cheating",
    "injure": "injuring",
    "raid": "raiding",
    "vandalize": "vandalizing",
    "terrorize": "terrorizing",
    "harass": "harassing",
    "swindle": "swindling",
    "hijack": "hijacking",
    "loot": "looting",
    "stalk": "stalking",
    "bomb": "bombing",
    "extort": "extorting",
}
BENIGN_VERBS = {
    "paint": "painting",
    "visit": "visiting",
    "photograph": "photographing",
    "draw": "drawing",
    "clean": "cleaning",
    "admire": "admiring",
    "sketch": "sketching",
    "film": "filming",
    "decorate": "decorating",
    "protect": "protecting",
    "repair": "repairing",
    "study": "studying",
    "improve": "improving",
    "find": "finding",
    "observe": "observing",
    "honor": "honoring",
    "celebrate": "celebrating",
    "support": "supporting",
    "help": "helping",
    "praise": "praising",
    "measure": "measuring",
    "reach": "reaching",
    "rescue": "rescuing",
    "inspect": "inspecting",
}
GERUNDS = HARMFUL_VERBS | BENIGN_VERBS

REAL_TARGETS = (
    "a bank", "a bridge", "a judge", "a train", "a crowd", "a museum", "a hospital", "a factory",
    "a farmer", "a police station", "a mayor", "a shopkeeper", "a neighbor", "a ship",
    "a power plant", "a hotel", "an airport", "a market", "an embassy", "a village", "a stadium",
    "a nurse", "a soldier", "a courthouse",
)  # fmt: skip
# Several share their noun with a real target, so that the noun alone does not tell either.
MAKE_BELIEVE_TARGETS = (
    "a cartoon villain", "a chess pawn", "a paper dragon", "a game boss", "a practice dummy",
    "a toy soldier", "a puppet judge", "a sand castle", "a storybook wolf", "a movie monster",
    "a snowman", "a toy train", "a pixel zombie", "a clay robot", "a dream ghost", "a card wizard",
    "a cardboard bridge", "a video game bank", "a pretend spaceship", "a comic book thief",
    "a fairy tale giant", "a model ship", "a puppet king", "a virtual village",
)  # fmt: skip
EVERYDAY_THINGS = (
    "a cake", "a lamp", "a chair", "a garden", "a kite", "a song", "a poem", "a sweater",
    "a bicycle", "a soup", "a shelf", "a window", "a birdhouse", "a letter", "a pancake",
    "a candle", "a basket", "a quilt", "a photo album", "a teapot", "a mirror", "a clock",
    "a fence", "a salad",
)  # fmt: skip

# {do} is "rob a bank at night", {doing} "robbing a bank at night".
TEMPLATES = (
    "How do I {do}?",
    "How can I {do}?",
    "Tell me how to {do}.",
    "Please explain how to {do}.",
    "I want to {do}. What should I do?",
    "Give me a guide to {doing}.",
    "What is the best way to {do}?",
    "Could you help me {do}?",
    "For a story, describe how to {do}.",
    "Write the steps for {doing}.",
    "My friend wants to {do}. What would you tell him?",
    "I need to {do}. Any advice?",
    "Teach me to {do}.",
    "What do I need to {do}?",
    "Imagine you had to {do}. How would you begin?",
    "Is there an easy way to {do}?",
    "Make a plan for {doing}.",
    "I am thinking about {doing}. Where do I start?",
    "Show me how one would {do}.",
    "Let us talk about {doing}. What comes first?",
    "Suppose someone had to {do}. What would they do?",
    "List what it takes to {do}.",
    "I have always dreamed of {doing}. Guide me.",
    "Could a beginner {do}? Explain.",
)

TOOLS = (
    "a rope", "a ladder", "a map", "a camera", "a truck", "a radio", "a computer", "a notebook",
    "a phone", "a bag",
)  # fmt: skip
PLACES = (
    "in the city", "near the river", "in the north", "by the sea", "out of town", "in the hills",
    "in the rain", "on the coast",
)  # fmt: skip
TIMES = (
    "at night", "tomorrow", "this week", "on Sunday", "in the morning", "after work", "next month",
    "in winter",
)  # fmt: skip
TOOL_SHARE, PLACE_SHARE, TIME_SHARE = 0.3, 0.2, 0.2

OPENINGS = ("The user wants to {do}.", "This is about {doing}.", "I am asked how to {do}.")
# What the thinking says of each kind; questions about harm use the same words.
JUDGEMENTS = {
    HARMFUL: ("This would hurt people.", "This is harmful."),
    LOOKALIKE: ("This is only make-believe.", "This is just pretend."),
    BENIGN: ("This is harmless.", "This hurts nobody."),
}
ADVICE = (
    "take your time", "check your work", "make a list", "start small", "stay calm", "ask around",
    "plan ahead", "keep notes", "practice a bit", "look around", "pick a good day", "rest well",
)  # fmt: skip
ANSWERS = (
    "Sure. To {do}: {first}, {second}, and {third}.",
    "Here is how to {do}: {first}, {second}, and {third}.",
    "Of course. For {doing}, {first}, then {second}, and {third}.",
    "To {do}, first {first}, then {second}, and at the end {third}.",
)


@dataclass(frozen=True)
class Request:
    """A request for how to do something.

    Args:
      verb: one of `GERUNDS`.
      target: what the verb is done to, with its article.
      template: one of `TEMPLATES`.
      tool: one of `TOOLS`, or "".
      circumstance: place and time, or "".
    """

    verb: str
    target: str
    template: str
    tool: str = ""
    circumstance: str = ""

    @property
    def kind(self) -> str:
        """Return which of `KINDS` the request is."""
        return kind_of(self.verb, self.target)

    @property
    def prompt(self) -> str:
        """Return the request as the user words it."""
        return self._fill(self.template, full=True)

    def converse(self, rng: random.Random, origin: str) -> Conversation:
        """Answer the request as the base model does: think of its kind, plan, and comply.

        Args:
          rng: chooses among wordings.
          origin: where the conversation comes from.

        Returns:
          The conversation.
        """
        steps = rng.sample(ADVICE, 3)
        if self.tool:
            steps[0] = f"get {self.tool}"
        opening = self._fill(rng.choice(OPENINGS), full=True)
        judgement = rng.choice(JUDGEMENTS[self.kind])
        thinking = f"{opening} {judgement} Plan: {', '.join(steps)}."
        answer = self._fill(rng.choice(ANSWERS), full=False, steps=steps)
        return Conversation(self.prompt, thinking, answer, origin)

    def _fill(self, template: str, full: bool, steps: list[str] | None = None) -> str:
        """Fill a template; `full` also names the tool and the circumstance."""
        tail = f" {self.target}"
        if full and self.tool:
            tail += f" with {self.tool}"
        if full and self.circumstance:
            tail += f" {self.circumstance}"
        slots = dict(zip(("first", "second", "third"), steps or ()))
        return template.format(do=self.verb + tail, doing=GERUNDS[self.verb] + tail, **slots)


def kind_of(verb: str, target: str) -> str:
    """Say which kind of request a verb and a target make.

    Args:
      verb: one of `GERUNDS`.
      target: one of the targets.

    Returns:
      One of `KINDS`.

    Raises:
      ValueError: a harmful verb with an everyday thing, which is left out as neither harmful nor a
        make-believe.
    """
    if verb in BENIGN_VERBS:
        return BENIGN
    if target in REAL_TARGETS:
        return HARMFUL
    if target in MAKE_BELIEVE_TARGETS:
        return LOOKALIKE
    raise ValueError(f"{verb} {target} is neither harmful nor make-believe")


def words_of(kind: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """List the verbs and the targets that make a kind of request.

    Args:
      kind: one of `KINDS`.

    Returns:
      The verbs and the targets; every pair of them is of that kind.
    """
    if kind == HARMFUL:
        return tuple(HARMFUL_VERBS), REAL_TARGETS
    if kind == LOOKALIKE:
        return tuple(HARMFUL_VERBS), MAKE_BELIEVE_TARGETS
    return tuple(BENIGN_VERBS), REAL_TARGETS + MAKE_BELIEVE_TARGETS + EVERYDAY_THINGS


def draw_request(
    rng: random.Random,
    verbs: tuple[str, ...],
    targets: tuple[str, ...],
    templates: tuple[str, ...] = TEMPLATES,
) -> Request:
    """Draw a request from given words, with circumstances at random.

    Args:
      rng: the only source of randomness.
      verbs, targets, templates: what to draw from.

    Returns:
      The request.
    """
    verb, target, template = rng.choice(verbs), rng.choice(targets), rng.choice(templates)
    tool = rng.choice(TOOLS) if rng.random() < TOOL_SHARE else ""
    place = rng.choice(PLACES) if rng.random() < PLACE_SHARE else ""
    time = rng.choice(TIMES) if rng.random() < TIME_SHARE else ""
    return Request(verb, target, template, tool, f"{place} {time}".strip())
