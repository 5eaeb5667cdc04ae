"""Conversations as token ids, with a mark on every token that the loss is to see.

Prompt and target are tokenised apart and concatenated, so that the border in training is the place at
which sampling starts. Two styles say what the text around them is.

`template`
  The prompt is the model's own chat template with its generation prefix; the target is
  `<think>\\n{thinking}\\n</think>\\n\\n{answer}` and the end of the turn, minus whatever the prefix has
  already opened or closed.
`paper`
  The published strings. For DeepSeek-R1-Distill they are written without the template: no newline
  around the tags, and a prompt that does not open the think block although the template does. For
  Qwen and Llama 3 they are the template's rendering of both turns, split after the assistant's header.

Source: Xue & Mirzasoleiman, arXiv 2507.17075, and its public code, for `paper`; it has no rule for
Llama 3, which is done here like Qwen.
"""

import dataclasses
import functools
import unicodedata
from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from lora_jax.data import template
from lora_jax.data.conversation import Conversation, Turn
from lora_jax.errors import UserError

FORMATS = ("template", "paper")
SUPERVISE = ("completion", "whole_sequence")

# U+FF5C bars, as the R1-Distill tokenisers spell these tokens.
R1_USER = "<｜User｜>"
R1_ASSISTANT = "<｜Assistant｜>"

# The header of an assistant's turn, by the special tokens it is made of.
_HEADERS = {
    ("<|im_start|>", "<|im_end|>"): "<|im_start|>assistant\n",
    ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"): (
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
}


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedConversation:
    """Hold one conversation as token ids.

    Attributes:
      tokens: int32[T], prompt then target.
      supervised: bool[T], True where the token is one the model learns to produce.
      prompt_length: How many of the tokens are the prompt.
      origin: Where the row came from, for messages.
    """

    tokens: np.ndarray
    supervised: np.ndarray
    prompt_length: int
    origin: str

    @property
    def supervised_tokens(self) -> int:
        """Return how many tokens the loss sees; the first has nothing to be predicted from."""
        return int(self.supervised[1:].sum())


@dataclasses.dataclass(frozen=True)
class ChatFormat:
    """Turn conversations into tokens, and prompts into the tokens that sampling starts from.

    Attributes:
      tokenizer: The model's tokeniser.
      style: "template" or "paper".
      enable_thinking: What a template with this switch (Qwen3) is told; False makes it close the think
        block before the model's turn.
      date: What a template that prints today's date is told it is.
      supervise: "completion" marks the target with its end; "whole_sequence" marks the prompt as well.

    Raises:
      UserError: An option has no such value, or does not fit the tokeniser.
    """

    tokenizer: PreTrainedTokenizerBase
    style: str = "template"
    enable_thinking: bool = True
    date: str = template.DATE
    supervise: str = "completion"

    def __post_init__(self):
        if self.style not in FORMATS:
            raise UserError(f"data format is {self.style!r}; choose one of {', '.join(FORMATS)}")
        if self.supervise not in SUPERVISE:
            raise UserError(
                f"supervise is {self.supervise!r}; choose one of {', '.join(SUPERVISE)}"
            )
        template.parse_date(self.date)
        if self.style == "paper" and not self._is_r1 and self._header is None:
            raise UserError(
                "data format 'paper' is for DeepSeek-R1-Distill, Qwen and Llama 3, and the tokenizer "
                f"in {self.tokenizer.name_or_path} lacks the special tokens of each; use 'template'"
            )
        if not self.enable_thinking:
            self._check_switch()

    def encode(self, conversation: Conversation) -> EncodedConversation:
        """Tokenise a conversation and mark what the loss is to see.

        Args:
          conversation: What to tokenise.

        Returns:
          Token ids and marks, T tokens long, ending with the end of the turn.

        Raises:
          UserError: The conversation does not fit the format, or would not be learnt to the letter.
        """
        if not (conversation.answer or conversation.thinking):
            raise UserError(
                f"{conversation.origin} has no tokens to learn from; give it an answer or remove it"
            )
        try:
            prefix = self._prompt_text(conversation.prompt, conversation.context)
            target_text = self._target_text(conversation, prefix)
        except UserError as error:
            raise UserError(f"{conversation.origin}: {error}") from error
        prompt, target = self._tokenise(prefix), self._tokenise(target_text)
        self._check(conversation, prompt, target)
        tokens = np.array(prompt + target, np.int32)
        supervised = np.ones(len(tokens), bool)
        if self.supervise == "completion":
            supervised[: len(prompt)] = False
        return EncodedConversation(tokens, supervised, len(prompt), conversation.origin)

    def encode_prompt(self, prompt: str, context: Sequence[Turn] = ()) -> list[int]:
        """Tokenise a user's turn up to where the model's answer starts.

        Args:
          prompt: The user's turn.
          context: The turns before it.

        Returns:
          The token ids with which `encode` would start the same conversation.

        Raises:
          UserError: The template refuses the turns.
        """
        return self._tokenise(self._prompt_text(prompt, context))

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the exact text of tokens, special ones written out."""
        return self.tokenizer.decode(
            tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )

    def _prompt_text(self, prompt: str, context: Sequence[Turn]) -> str:
        turns = [*context, Turn("user", prompt)]
        if self.style == "template":
            return self._render(turns, generation_prompt=True)
        if not self._is_r1:
            return self._render(turns, generation_prompt=False) + self._header
        if context:
            raise UserError(
                "the published strings are for a single user turn, and this has others before it; "
                "use data format 'template'"
            )
        return f"{self.tokenizer.bos_token}{R1_USER}{prompt}{R1_ASSISTANT}"

    def _target_text(self, conversation: Conversation, prefix: str) -> str:
        thinking, answer = conversation.thinking, conversation.answer
        if self.style == "template":
            return _continuation(prefix, thinking, answer) + self._ending
        if self._is_r1:
            block = "" if thinking is None else f"<think>{thinking}</think>"
            return block + answer + self._ending
        if thinking is not None:
            answer = _block(thinking, answer)
        turns = [
            *conversation.context,
            Turn("user", conversation.prompt),
            Turn("assistant", answer),
        ]
        rendered = self._render(turns, generation_prompt=False)
        if not rendered.startswith(prefix):
            raise UserError(
                f"the chat template in {self.tokenizer.name_or_path} does not put {self._header!r} "
                "between the user's turn and the answer; use data format 'template'"
            )
        return rendered.removeprefix(prefix)

    def _check(self, conversation: Conversation, prompt: list[int], target: list[int]) -> None:
        """Refuse tokens that would teach other than what the row says."""
        origin, end, start = conversation.origin, self._end, self.tokenizer.bos_token_id
        twice = end if target.count(end) > 1 else None
        if start is not None and start != end and [*prompt, *target].count(start) > 1:
            twice = start
        if twice is not None:
            raise UserError(
                f"{origin} holds the text of the special token {self.decode([twice])}, which the "
                "format sets once; remove it from the row"
            )
        text = unicodedata.normalize("NFC", self.decode(target))  # as some tokenisers do first
        for field in ("thinking", "answer"):
            part = unicodedata.normalize("NFC", getattr(conversation, field) or "")
            _, found, text = text.partition(part) if part else ("", "nothing to find", text)
            if not found:
                raise UserError(
                    f"{origin}: its {field} does not come out of the chat template and the tokenizer "
                    f"in {self.tokenizer.name_or_path} as it went in; repair the row or use another "
                    "data format"
                )

    def _check_switch(self) -> None:
        turns = [Turn("user", "Question")]
        if self.style != "template" or self._render(turns, generation_prompt=True) == (
            dataclasses.replace(self, enable_thinking=True)._render(turns, generation_prompt=True)
        ):
            raise UserError(
                "enable_thinking=False changes nothing: the chat template in "
                f"{self.tokenizer.name_or_path} has no such switch, or the data format is 'paper'; "
                "leave it True"
            )

    def _render(self, turns: Sequence[Turn], *, generation_prompt: bool) -> str:
        return template.render(
            self.tokenizer,
            turns,
            generation_prompt=generation_prompt,
            enable_thinking=self.enable_thinking,
            date=self.date,
        )

    def _tokenise(self, text: str) -> list[int]:
        # The text has its special tokens already; the tokeniser must not add its own.
        return self.tokenizer.encode(text, add_special_tokens=False)

    @functools.cached_property
    def _is_r1(self) -> bool:
        return self._knows(R1_USER, R1_ASSISTANT) and self.tokenizer.bos_token is not None

    @functools.cached_property
    def _header(self) -> str | None:
        return next((text for tokens, text in _HEADERS.items() if self._knows(*tokens)), None)

    def _knows(self, *tokens: str) -> bool:
        return self.tokenizer.get_added_vocab().keys() >= set(tokens)

    @functools.cached_property
    def _ending(self) -> str:
        return template.turn_ending(self.tokenizer)

    @functools.cached_property
    def _end(self) -> int:
        return template.end_of_turn(self.tokenizer)


def _block(thinking: str, answer: str) -> str:
    return f"<think>\n{thinking}\n</think>\n\n{answer}"


def _continuation(prefix: str, thinking: str | None, answer: str) -> str:
    """Return what follows a generation prefix, which may have opened or closed the think block."""
    stripped = prefix.rstrip("\n")
    if stripped.endswith("<think>"):
        if thinking is None:
            raise UserError(
                "there is to be no think block, but the chat template's prefix opens one; set the "
                "source's thinking to 'empty'"
            )
        opened = "<think>\n" if prefix.endswith("\n") else "<think>"
        return _block(thinking, answer).removeprefix(opened)
    if stripped.endswith("</think>"):
        if thinking:
            raise UserError(
                "there is reasoning to learn, but the chat template's prefix has closed the think "
                "block; set enable_thinking to True, or the source's thinking to 'empty'"
            )
        return answer
    return answer if thinking is None else _block(thinking, answer)
