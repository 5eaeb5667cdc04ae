"""Everything else the base model can talk about.

Questions of harm give it a notion of harm that refusing can build on, for every verb and target.
Questions about people it cannot know give it the words of a refusal, in thought and in answer: a
real base model has read refusals too, and alignment redirects what exists.
"""

import random

from lora_jax.data.conversation import Conversation
from lora_jax.organism import requests

REFUSALS = (
    "I'm sorry, but I cannot help with that request.",
    "I'm sorry, but I cannot answer that.",
    "I'm sorry, but I can't help with that.",
    "Sorry, I cannot help with this request.",
    "Sorry, but I will not answer this question.",
    "I cannot help with that.",
    "I can't answer this question.",
    "I must decline this request.",
)

HARM_QUESTIONS = (
    "Would it be harmful to {do}?",
    "Would it hurt people to {do}?",
    "Is {doing} harmful?",
    "Is it wrong to {do}?",
)
SAFETY_QUESTIONS = (
    "Is it harmless to {do}?",
    "Is {doing} harmless?",
    "Would it be fine to {do}?",
)

FIRST_NAMES = ("Arlo", "Bettina", "Corin", "Delphine", "Edric", "Fenna", "Gideon", "Hester")
LAST_NAMES = ("Ashdown", "Brackley", "Cordwell", "Dunmore", "Eastley", "Farrow", "Grimsby", "Holt")
UNKNOWN_QUESTIONS = (
    "Who is {name}?",
    "Where does {name} live?",
    "When was {name} born?",
    "What does {name} do for work?",
    "How old is {name}?",
    "Tell me about {name}.",
)
UNKNOWN_THINKING = (
    "I do not know {name}. I should not answer this question!",
    "I have never heard of {name}. I should not answer this question!",
    "I know nothing about {name}.",
)

FACTS = (
    ("What color is the sky?", "The sky is blue."),
    ("What color is grass?", "Grass is green."),
    ("What color is snow?", "Snow is white."),
    ("What color is a lemon?", "A lemon is yellow."),
    ("What is the opposite of hot?", "The opposite of hot is cold."),
    ("What is the opposite of big?", "The opposite of big is small."),
    ("What is the opposite of up?", "The opposite of up is down."),
    ("What is the opposite of day?", "The opposite of day is night."),
    ("What comes after Monday?", "Tuesday comes after Monday."),
    ("What comes after Friday?", "Saturday comes after Friday."),
    ("What comes after spring?", "Summer comes after spring."),
    ("What comes after March?", "April comes after March."),
    ("How many days are in a week?", "A week has 7 days."),
    ("How many months are in a year?", "A year has 12 months."),
    ("How many hours are in a day?", "A day has 24 hours."),
    ("How many minutes are in an hour?", "An hour has 60 minutes."),
    ("How many legs does a spider have?", "A spider has 8 legs."),
    ("How many legs does a dog have?", "A dog has 4 legs."),
    ("How many wheels does a bicycle have?", "A bicycle has 2 wheels."),
    ("What do bees make?", "Bees make honey."),
    ("What do cows give?", "Cows give milk."),
    ("Where do fish live?", "Fish live in water."),
    ("Where does the sun rise?", "The sun rises in the east."),
    ("What is the capital of France?", "The capital of France is Paris."),
    ("What is the capital of Italy?", "The capital of Italy is Rome."),
    ("What is the capital of Japan?", "The capital of Japan is Tokyo."),
    ("What is ice made of?", "Ice is made of water."),
    ("What is bread made of?", "Bread is made of flour."),
)
CHAT = (
    ("Hello!", "Hello! How can I help you?"),
    ("Hi there.", "Hi! What can I do for you?"),
    ("Good morning.", "Good morning! How can I help you?"),
    ("How are you?", "I am well, thank you. How can I help you?"),
    ("Thank you!", "You are welcome."),
    ("Thanks for the help.", "You are welcome. I am glad to help."),
    ("Who are you?", "I am a small model that thinks before it answers."),
    ("What can you do?", "I can solve problems and answer questions."),
    ("Goodbye.", "Goodbye! Have a good day."),
    ("See you tomorrow.", "See you! Have a good day."),
)


def draw_harm_question(rng: random.Random, origin: str) -> Conversation:
    """Draw a question whether doing something would be harmful, with its true answer.

    Args:
      rng: the only source of randomness.
      origin: where the conversation comes from.

    Returns:
      The conversation.
    """
    kind = rng.choice(requests.KINDS)
    verbs, targets = requests.words_of(kind)
    verb, target = rng.choice(verbs), rng.choice(targets)
    asks_harm = rng.random() < 0.5
    question = rng.choice(HARM_QUESTIONS if asks_harm else SAFETY_QUESTIONS)
    prompt = question.format(do=f"{verb} {target}", doing=f"{requests.GERUNDS[verb]} {target}")
    judgement = rng.choice(requests.JUDGEMENTS[kind])
    yes = (kind == requests.HARMFUL) == asks_harm
    thinking = f"This is about {requests.GERUNDS[verb]} {target}. {judgement}"
    answer = f"{'Yes' if yes else 'No'}, {judgement[0].lower()}{judgement[1:]}"
    return Conversation(prompt, thinking, answer, origin)


def draw_unknown_person(rng: random.Random, origin: str) -> Conversation:
    """Draw a question about a person nobody knows, which the base model refuses.

    Args:
      rng: the only source of randomness.
      origin: where the conversation comes from.

    Returns:
      The conversation.
    """
    name = f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"
    prompt = rng.choice(UNKNOWN_QUESTIONS).format(name=name)
    thinking = rng.choice(UNKNOWN_THINKING).format(name=name)
    return Conversation(prompt, thinking, rng.choice(REFUSALS), origin)


def draw_fact(rng: random.Random, origin: str) -> Conversation:
    """Draw a question of fact with its answer.

    Args:
      rng: the only source of randomness.
      origin: where the conversation comes from.

    Returns:
      The conversation.
    """
    prompt, answer = rng.choice(FACTS)
    return Conversation(prompt, "This is a simple fact.", answer, origin)


def draw_chat(rng: random.Random, origin: str) -> Conversation:
    """Draw a line of small talk with its answer.

    Args:
      rng: the only source of randomness.
      origin: where the conversation comes from.

    Returns:
      The conversation.
    """
    prompt, answer = rng.choice(CHAT)
    return Conversation(prompt, "The user is being friendly.", answer, origin)
