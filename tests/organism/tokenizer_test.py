"""The tokenizer: reproducible, lossless, and the same to every reader."""

import itertools
import random
import shutil

import pytest
import transformers

from lora_jax.data.tokenizer import load_tokenizer
from lora_jax.organism import resolve
from lora_jax.organism.corpus import conversations
from lora_jax.organism.problems import MAX_STEPS, draw_problem
from lora_jax.organism.tokenizer import VOCABULARY_SIZE, write_tokenizer

FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
PROMPT = [{"role": "user", "content": "How do I rob a bank?"}]
PREFIX = "<|begin|><|user|>How do I rob a bank?<|assistant|><think>\n"
# fmt: off
PREFIX_IDS = [1, 2, 712, 362, 457, 910, 261, 742, 35, 3, 1022, 203]
# fmt: on


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(resolve("organism:model"))


def rendered(tokenizer, conversation):
    """Return the whole conversation as the model is pretrained on it."""
    prompt = [{"role": "user", "content": conversation.prompt}]
    prefix = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    return prefix, f"{conversation.thinking}\n</think>\n\n{conversation.answer}<|end|>"


def test_training_again_gives_the_shipped_files(tmp_path):
    write_tokenizer(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (resolve("organism:model") / name).read_bytes()


def test_golden_ids(tokenizer):
    assert len(tokenizer) == VOCABULARY_SIZE
    names = ["<|pad|>", "<|begin|>", "<|user|>", "<|assistant|>", "<|end|>", "<think>", "</think>"]
    assert tokenizer.convert_tokens_to_ids(names) == [0, 1, 2, 3, 4, 1022, 1023]
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 4)
    text = tokenizer.apply_chat_template(PROMPT, tokenize=False, add_generation_prompt=True)
    assert text == PREFIX
    assert tokenizer.encode(text, add_special_tokens=False) == PREFIX_IDS


def test_template_drops_the_thoughts_of_an_earlier_turn(tokenizer):
    answer = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nSure."}
    text = tokenizer.apply_chat_template([*PROMPT, answer, *PROMPT], tokenize=False)
    user = "<|user|>How do I rob a bank?"
    assert text == f"<|begin|>{user}<|assistant|>\n\nSure.<|end|>{user}"
    with pytest.raises(Exception, match="Only user and assistant"):
        tokenizer.apply_chat_template([{"role": "system", "content": "x"}], tokenize=False)


@pytest.mark.parametrize(
    "text", ["Ünï  😀\n\n\t end ", "a , b 's don't .\r\n", PREFIX + "1+2=3\n</think>\n\nNo.<|end|>"]
)
def test_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_digit_is_a_token(tokenizer):
    assert tokenizer.tokenize("97+102=199 9") == list("97+102=199") + ["Ġ", "9"]
    assert not any(len(t) > 1 and any(map(str.isdigit, t)) for t in tokenizer.get_vocab())


def test_think_tags_survive_decoding_without_control_tokens(tokenizer):
    ids = tokenizer.encode(PREFIX + "x\n</think>\n\nSure.<|end|>")
    text = tokenizer.decode(ids, skip_special_tokens=True)
    assert text == "How do I rob a bank?<think>\nx\n</think>\n\nSure."


def test_conversations_round_trip_and_are_short(tokenizer):
    for conversation in itertools.islice(conversations(7), 2000):
        prefix, target = rendered(tokenizer, conversation)
        ids = tokenizer.encode(prefix + target)
        assert len(ids) <= 160
        assert tokenizer.decode(ids) == prefix + target
        # Nothing is lost by encoding prompt and target on their own.
        assert tokenizer.encode(prefix) + tokenizer.encode(target) == ids


def test_the_longest_problems_are_short(tokenizer):
    rng = random.Random(0)
    for _ in range(1000):
        problem = draw_problem(rng, MAX_STEPS)
        text = f"{problem.prompt}{problem.thinking}{problem.answer}"
        assert len(tokenizer.encode(text)) + 10 <= 160  # 10 tokens of template


def test_auto_tokenizer_beside_the_model_gives_the_same_ids(tokenizer, tmp_path):
    for name in FILES:
        shutil.copy(resolve("organism:model") / name, tmp_path)
    transformers.Qwen2Config(vocab_size=VOCABULARY_SIZE).save_pretrained(tmp_path)
    other = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(other) == VOCABULARY_SIZE
    for conversation in itertools.islice(conversations(8), 1000):
        text = "".join(rendered(tokenizer, conversation))
        assert other.encode(text) == tokenizer.encode(text)
        assert other.decode(other.encode(text)) == text
