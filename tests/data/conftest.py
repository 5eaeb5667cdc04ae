"""Tokenisers small enough to train for the tests, and conversations to encode with them."""

import functools
import pathlib

import pytest
import tokenizers
from transformers import PreTrainedTokenizerFast

from lora_jax import data

SHARED = pathlib.Path(__file__).parents[3] / "shared/data"

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

CHATML_TURN = "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
CHATML_START = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
# A default system prompt, as in Qwen2.5.
QWEN25_TEMPLATE = (
    "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\\nHelp.<|im_end|>\\n' }}{% endif %}"
    f"{{% for m in messages %}}{CHATML_TURN}{{% endfor %}}{CHATML_START}{{% endif %}}"
)
# A think block in every assistant's turn and a switch, as in Qwen3.
QWEN3_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% set parts = m.content.split('</think>') %}"
    "{% set thought = parts[0].split('<think>')[-1].strip('\\n') if parts | length > 1 else '' %}"
    "{{ '<|im_start|>assistant\\n<think>\\n' + thought + '\\n</think>\\n\\n' }}"
    "{{ parts[-1].lstrip('\\n') + '<|im_end|>\\n' }}"
    f"{{% else %}}{CHATML_TURN}{{% endif %}}{{% endfor %}}{CHATML_START}"
    "{% if enable_thinking is defined and not enable_thinking %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"
)
# A date and trimmed turns, as in Llama 3.1.
LLAMA3_HEADER = "'<|start_header_id|>' + {} + '<|end_header_id|>\\n\\n'"
LLAMA3_TEMPLATE = (
    "{{ bos_token + " + LLAMA3_HEADER.format("'system'") + "}}"
    "{{ 'Today Date: ' + (date_string or '26 Jul 2024') + '<|eot_id|>' }}"
    "{% for m in messages %}{{ " + LLAMA3_HEADER.format("m.role") + " + m.content | trim }}"
    "{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ " + LLAMA3_HEADER.format("'assistant'") + " }}{% endif %}"
)

CHATML_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
FAMILIES = {
    "qwen2.5": (QWEN25_TEMPLATE, CHATML_TOKENS, None, "<|im_end|>"),
    "qwen3": (QWEN3_TEMPLATE, CHATML_TOKENS, None, "<|im_end|>"),
    # As in the base models, whose end of text is not the end of a turn.
    "qwen2.5 base": (QWEN25_TEMPLATE, CHATML_TOKENS, None, "<|endoftext|>"),
    "llama3": (
        LLAMA3_TEMPLATE,
        [
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eot_id|>",
        ],
        "<|begin_of_text|>",
        "<|end_of_text|>",
    ),
}


def train_tokenizer(prefix: str = "<think>\n") -> PreTrainedTokenizerFast:
    """Train a byte-level BPE with R1-Distill's markers, whose template opens with `prefix`."""
    template = R1_TEMPLATE.replace("PREFIX", prefix.replace("\n", "\\n"))
    special = ["<bos>", "<eos>", "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"]
    return _train(template, special, "<bos>", "<eos>")


def _train(template, special, bos, eos):
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        show_progress=False,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=special,
    )
    bpe.train_from_iterator(TEXT, trainer)
    if bos is not None:  # Like many real ones, it adds a BOS of its own unless told not to.
        bpe.post_processor = tokenizers.processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, special.index(bos))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=bos,
        eos_token=eos,
        pad_token=eos,
        chat_template=template,
    )


@pytest.fixture(scope="session")
def make_tokenizer():
    return train_tokenizer


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer()


@pytest.fixture(scope="session")
def family():
    """Give tokenisers with the markers of a family of models, by its name."""
    return functools.cache(lambda name: _train(*FAMILIES[name]))


@pytest.fixture(scope="session")
def published():
    """Give the tokeniser of a published model, by the name of its directory."""

    @functools.cache
    def load(name):
        directory = SHARED / "models" / name
        if not (directory / "tokenizer.json").is_file():
            pytest.skip(f"{directory}/tokenizer.json is absent")
        return data.load_tokenizer(directory)

    return load


@pytest.fixture(scope="session")
def conversation():
    return data.Conversation("How do I bake bread?", "Mix flour.", "Bake it.", "a.jsonl row 1")


@pytest.fixture(scope="session")
def encoded(tokenizer):
    """Give 13 rows of different lengths, each with tokens of its own."""
    chat_format = data.ChatFormat(tokenizer)
    return [
        chat_format.encode(
            data.Conversation(f"bake {n}", "wait " * (n % 5), f"{n} " * n, f"row {n}")
        )
        for n in range(1, 14)
    ]
