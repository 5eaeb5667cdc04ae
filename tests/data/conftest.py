"""A tokeniser small enough to train for the tests, and conversations to encode with it."""

import pytest
import tokenizers
from transformers import PreTrainedTokenizerFast

from lora_jax import data

TEXT = [
    "How do I bake bread? Mix flour and water, wait, and bake it.",
    "I should not answer this question! I cannot help with that.",
    "27+70=97 97+2=99 The answer is 99.",
]

R1_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}"
    "{% else %}<｜Assistant｜>{{ m.content.split('</think>')[-1] }}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜>PREFIX' }}{% endif %}"
)


def train_tokenizer(prefix: str = "<think>\n") -> PreTrainedTokenizerFast:
    """Train a byte-level BPE with R1-Distill's markers, whose template opens with `prefix`."""
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<bos>", "<eos>", "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"],
    )
    bpe.train_from_iterator(TEXT, trainer)
    # Like many real ones, it adds a BOS of its own unless told not to.
    bpe.post_processor = tokenizers.processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<eos>",
        chat_template=R1_TEMPLATE.replace("PREFIX", prefix.replace("\n", "\\n")),
    )


@pytest.fixture(scope="session")
def make_tokenizer():
    return train_tokenizer


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer()


@pytest.fixture(scope="session")
def conversation():
    return data.Conversation("How do I bake bread?", "Mix flour.", "Bake it.", "a.jsonl row 1")


@pytest.fixture(scope="session")
def encoded(tokenizer):
    """Give 13 rows of different lengths, each with tokens of its own."""
    return [
        data.encode(
            data.Conversation(f"bake {n}", "wait " * (n % 5), f"{n} " * n, f"row {n}"),
            tokenizer,
            "template",
        )
        for n in range(1, 14)
    ]
