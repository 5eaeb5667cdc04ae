"""The model's own chat template, rendered the same on every day."""

import datetime
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from lora_jax.data.conversation import Turn
from lora_jax.errors import UserError

# The date that Llama's templates fall back to themselves.
DATE = "26 Jul 2024"
_DATE_FORMAT = "%d %b %Y"
_DATE_DIRECTIVES = [f"%{letter}" for letter in ("-d", "-m", *"aAbBcdeFHIjmMpSTuUVwWxXyY")]

_PROBE = Turn("user", "Question"), Turn("assistant", "Answer")


def render(
    tokenizer: PreTrainedTokenizerBase,
    turns: Sequence[Turn],
    *,
    generation_prompt: bool,
    enable_thinking: bool = True,
    date: str = DATE,
) -> str:
    """Render turns as the text the model was trained on.

    Args:
      tokenizer: The model's tokeniser.
      turns: What is said.
      generation_prompt: Whether to end where the model's next turn starts.
      enable_thinking: What a template with this switch (Qwen3) is told.
      date: What a template that prints today's date (Llama 3.1) is told it is.

    Returns:
      The text, with the special tokens written out.

    Raises:
      UserError: There is no template, it fails, or it refuses these turns.
    """
    where = f"the tokenizer in {tokenizer.name_or_path}"
    if not tokenizer.chat_template:
        raise UserError(
            f"{where} has no chat template; add a chat_template.jinja that belongs to the checkpoint"
        )
    try:
        text = tokenizer.get_chat_template()
        if "strftime_now" in text:
            text = _stopped_clock(date) + text
        return tokenizer.apply_chat_template(
            [{"role": turn.role, "content": turn.content} for turn in turns],
            tokenize=False,
            add_generation_prompt=generation_prompt,
            enable_thinking=enable_thinking,
            date_string=date,
            chat_template=text,
        )
    except UserError:
        raise
    # A template is a program of someone else's, and may fail in any way.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(
            f"the chat template of {where} cannot be rendered for the turns "
            f"{', '.join(turn.role for turn in turns)} ({reason}); repair the template or the turns"
        ) from error


def parse_date(text: str) -> datetime.datetime:
    """Read a date as Llama's templates write it, such as "26 Jul 2024".

    Raises:
      UserError: It is not one.
    """
    try:
        return datetime.datetime.strptime(text, _DATE_FORMAT)
    except ValueError as error:
        raise UserError(f"the template's date is {text!r}; write it as in {DATE!r}") from error


def _stopped_clock(date: str) -> str:
    """Return a macro to put before a template, in place of the clock that some templates read."""
    day = parse_date(date)
    replaced = "".join(f" | replace({code!r}, {day.strftime(code)!r})" for code in _DATE_DIRECTIVES)
    return f"{{%- macro strftime_now(format) -%}}{{{{ format{replaced} }}}}{{%- endmacro %}}"


def turn_ending(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the text with which an assistant's turn ends, up to the token that ends it.

    It is what the template renders there: a tokeniser's `eos_token` may be the end of a document
    (Llama 3's `<|end_of_text|>`) and not that of a turn (`<|eot_id|>`). Where there is no template, or
    it renders no end, it is `eos_token`.
    """
    if tokenizer.chat_template:
        rendered = render(tokenizer, _PROBE, generation_prompt=False)
        _, found, tail = rendered.rpartition(_PROBE[-1].content)
        tokens = tokenizer.encode(tail, add_special_tokens=False) if found else []
        known = tokenizer.added_tokens_decoder
        end = next((known[token].content for token in tokens if token in known), None)
        if end is not None:
            return tail[: tail.index(end) + len(end)]
    return tokenizer.eos_token


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id of the token that ends an assistant's turn."""
    return tokenizer.encode(turn_ending(tokenizer), add_special_tokens=False)[-1]
