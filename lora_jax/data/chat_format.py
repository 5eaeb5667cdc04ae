"""Conversations as token ids, with a mark on every token the loss is to see.

Prompt and target are tokenised apart and concatenated, so that the boundary in training is the
boundary at which sampling starts. Two named formats say what the text around them is.

`template`
  The prompt is the tokeniser's own chat template with its generation prefix; the target is
  `<think>\\n{thinking}\\n</think>\\n\\n{answer}` and the end-of-sequence token, minus whatever the
  prefix has already opened.
`paper`
  The strings published for DeepSeek-R1-Distill: no newline around the tags, and a prompt that does
  not open the think block although the model's template does.

Source: Xue & Mirzasoleiman, arXiv 2507.17075, and its public code, for `paper`.
"""

import dataclasses

import jinja2
import numpy as np
from transformers import PreTrainedTokenizerBase

from lora_jax.data.conversation import Conversation
from lora_jax.errors import UserError

FORMATS = ("template", "paper")
SUPERVISE = ("completion", "whole_sequence")

# Some templates print today's date into the prompt; a fixed one keeps training and sampling equal on
# every day. It is the date those templates fall back to themselves.
TEMPLATE_DATE = "26 Jul 2024"

# U+FF5C bars, as the R1-Distill tokenisers spell these tokens.
R1_USER = "<｜User｜>"
R1_ASSISTANT = "<｜Assistant｜>"


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedConversation:
    """Hold one conversation as token ids.

    Attributes:
      tokens: int32[T], prompt then target, the last one the end-of-sequence token.
      supervised: bool[T], True where the token is one the model learns to produce.
      prompt_length: How many of the tokens are the prompt.
      origin: Where the row came from, for messages.
    """

    tokens: np.ndarray
    supervised: np.ndarray
    prompt_length: int
    origin: str


def encode(
    conversation: Conversation,
    tokenizer: PreTrainedTokenizerBase,
    format: str,
    supervise: str = "completion",
) -> EncodedConversation:
    """Tokenise a conversation and mark what the loss is to see.

    Args:
      conversation: What to tokenise.
      tokenizer: The model's tokeniser.
      format: "template" or "paper".
      supervise: "completion" marks the target with its end-of-sequence token; "whole_sequence" marks
        the prompt as well.

    Returns:
      Token ids and marks, T tokens long.

    Raises:
      UserError: The format does not fit the tokeniser, or the target holds no text.
    """
    if supervise not in SUPERVISE:
        raise UserError(f"supervise is {supervise!r}; choose one of {', '.join(SUPERVISE)}")
    prefix = _prompt_text(conversation.prompt, tokenizer, format)
    prompt = _prompt_tokens(prefix, tokenizer, format)
    target = _tokenise(_target_text(conversation, prefix, format), tokenizer)
    if not target:
        raise UserError(
            f"{conversation.origin} has no tokens to learn from; give it an answer or remove it"
        )
    tokens = np.array([*prompt, *target, tokenizer.eos_token_id], np.int32)
    supervised = np.ones(len(tokens), bool)
    if supervise == "completion":
        supervised[: len(prompt)] = False
    return EncodedConversation(tokens, supervised, len(prompt), conversation.origin)


def encode_prompt(prompt: str, tokenizer: PreTrainedTokenizerBase, format: str) -> list[int]:
    """Tokenise a user's turn up to where the model's answer starts.

    Args:
      prompt: The user's turn.
      tokenizer: The model's tokeniser.
      format: "template" or "paper".

    Returns:
      The token ids with which `encode` would start the same conversation.

    Raises:
      UserError: The format does not fit the tokeniser.
    """
    return _prompt_tokens(_prompt_text(prompt, tokenizer, format), tokenizer, format)


def _prompt_text(prompt: str, tokenizer: PreTrainedTokenizerBase, format: str) -> str:
    if format == "template":
        return _rendered_template(prompt, tokenizer)
    if format == "paper":
        _require_r1_markers(tokenizer)
        return f"{R1_USER}{prompt}{R1_ASSISTANT}"
    raise UserError(f"data format is {format!r}; choose one of {', '.join(FORMATS)}")


def _prompt_tokens(prefix: str, tokenizer: PreTrainedTokenizerBase, format: str) -> list[int]:
    tokens = _tokenise(prefix, tokenizer)
    # A template renders its own beginning-of-sequence token; the published strings leave it to the
    # tokeniser.
    return [tokenizer.bos_token_id, *tokens] if format == "paper" else tokens


def _target_text(conversation: Conversation, prefix: str, format: str) -> str:
    thinking, answer = conversation.thinking, conversation.answer
    if format == "paper":
        return answer if thinking is None else f"<think>{thinking}</think>{answer}"
    opened = prefix.rstrip("\n").endswith("<think>")
    if thinking is None and not opened:
        return answer
    block = f"<think>\n{thinking or ''}\n</think>\n\n{answer}"
    if not opened:
        return block
    return block.removeprefix("<think>\n" if prefix.endswith("\n") else "<think>")


def _tokenise(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def _rendered_template(prompt: str, tokenizer: PreTrainedTokenizerBase) -> str:
    if not tokenizer.chat_template:
        raise UserError(
            f"the tokenizer in {tokenizer.name_or_path} has no chat template; "
            "add a chat_template.jinja that belongs to the checkpoint"
        )
    try:
        return tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            date_string=TEMPLATE_DATE,
        )
    except jinja2.TemplateError as error:
        raise UserError(
            f"the chat template in {tokenizer.name_or_path} cannot be rendered ({error}); "
            "repair its chat_template"
        ) from error


def _require_r1_markers(tokenizer: PreTrainedTokenizerBase) -> None:
    absent = {None, tokenizer.unk_token_id}
    markers = tokenizer.convert_tokens_to_ids([R1_USER, R1_ASSISTANT])
    if tokenizer.bos_token_id is None or absent.intersection(markers):
        raise UserError(
            "data format 'paper' fits DeepSeek-R1-Distill models only, and the tokenizer in "
            f"{tokenizer.name_or_path} lacks their {R1_USER} and {R1_ASSISTANT}; "
            "use format 'template'"
        )
