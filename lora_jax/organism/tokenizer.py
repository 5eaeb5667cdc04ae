"""The embedded model's tokenizer: a byte-level BPE trained on its corpus.

    python -m lora_jax.organism.tokenizer

writes the tokenizer and its chat template into the model's directory.
"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from lora_jax.organism import MODEL_DIRECTORY
from lora_jax.organism.corpus import conversations

VOCABULARY_SIZE = 1024
TRAINING_CONVERSATIONS = 20_000
MAX_LENGTH = 512
SEED = 0

PAD, BEGIN, USER, ASSISTANT, END = "<|pad|>", "<|begin|>", "<|user|>", "<|assistant|>", "<|end|>"
THINK, END_THINK = "<think>", "</think>"
CONTROL_TOKENS = (PAD, BEGIN, USER, ASSISTANT, END)
# Ordinary tokens, not control tokens: decoding without control tokens must keep them.
THINK_TOKENS = (THINK, END_THINK)

# Like DeepSeek-R1-Distill's: earlier turns lose their thoughts, a new turn starts inside a thought.
CHAT_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}
        {{- '<|user|>' + message['content'] }}
    {%- elif message['role'] == 'assistant' %}
        {{- '<|assistant|>' + message['content'].split('</think>')[-1] + eos_token }}
    {%- else %}
        {{- raise_exception('Only user and assistant messages are known to this template.') }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|><think>\\n' }}
{%- endif %}
"""


def train_tokenizer() -> tokenizers.Tokenizer:
    """Train the tokenizer on the first conversations of the corpus.

    Returns:
      The tokenizer: lossless, a digit a token, and the same at every call.
    """
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(THINK_TOKENS),
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    tokenizer.add_tokens([tokenizers.AddedToken(token, normalized=False) for token in THINK_TOKENS])
    return tokenizer


def write_tokenizer(directory: Path) -> None:
    """Train the tokenizer and write it as Hugging Face's tokenizer files.

    Args:
      directory: gets tokenizer.json, tokenizer_config.json and chat_template.jinja.
    """
    config = {
        # AutoTokenizer takes this class beside any Qwen2 config. It splits words by a rule of its
        # own, which gives the same ids since no token of ours spans a boundary of either rule.
        "tokenizer_class": "Qwen2Tokenizer",
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": PAD,
        "unk_token": None,  # or that class adds a token of its own, beyond the vocabulary
        "additional_special_tokens": [USER, ASSISTANT],
        "clean_up_tokenization_spaces": False,
        "model_max_length": MAX_LENGTH,
    }
    directory.mkdir(parents=True, exist_ok=True)
    files = {
        "tokenizer.json": train_tokenizer().to_str(pretty=True) + "\n",
        "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
        "chat_template.jinja": CHAT_TEMPLATE,
    }
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8", newline="\n")


def _texts() -> Iterator[str]:
    for conversation in itertools.islice(conversations(SEED), TRAINING_CONVERSATIONS):
        yield conversation.prompt
        yield conversation.thinking
        yield conversation.answer


if __name__ == "__main__":
    write_tokenizer(MODEL_DIRECTORY)
