"""The tokeniser of a Hugging Face directory, and the tokens at which its model stops."""

import json
import pathlib

import tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lora_jax.data.template import end_of_turn
from lora_jax.errors import UserError


def load_tokenizer(path: str | pathlib.Path) -> PreTrainedTokenizerBase:
    """Load the tokeniser of a local Hugging Face directory.

    It is built from `tokenizer.json` exactly as that file describes it. The class that
    `tokenizer_config.json` names is not used: some classes rebuild the tokeniser from its vocabulary
    with rules of their own, and no code that comes with a checkpoint is ever run.

    Args:
      path: A directory with `tokenizer.json` and `tokenizer_config.json`.

    Returns:
      A tokeniser that has an end-of-sequence token, and no token that its file lacks.

    Raises:
      UserError: The directory or its tokeniser is missing or broken, or its special tokens are.
    """
    directory = pathlib.Path(path)
    if not directory.is_dir():
        raise UserError(
            f"{directory} is not a directory; give a local Hugging Face model directory"
        )
    file = directory / "tokenizer.json"
    if not file.is_file():
        raise UserError(
            f"{directory} has no tokenizer.json; add the one that belongs to the checkpoint"
        )
    if (directory / "tokenizer_config.json").is_file():
        _read_object(directory / "tokenizer_config.json")
    try:
        described = tokenizers.Tokenizer.from_file(str(file))
        tokenizer = PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # The Rust reader raises bare Exception on a broken file.
        raise UserError(
            f"the tokenizer in {directory} cannot be read ({_first_line(error)}); "
            "fetch the checkpoint's tokenizer files again"
        ) from error
    _check_special_tokens(tokenizer, described, directory)
    return tokenizer


def stop_tokens(tokenizer: PreTrainedTokenizerBase, path: str | pathlib.Path) -> tuple[int, ...]:
    """Collect the tokens at which a model may stop.

    Args:
      tokenizer: Its tokeniser.
      path: Its directory; `generation_config.json` may be absent.

    Returns:
      The ids, ascending: what `generation_config.json` names, the tokeniser's end of sequence, and the
      end of a turn as the chat template renders it.

    Raises:
      UserError: `generation_config.json` is broken, or names what are not tokens.
    """
    file = pathlib.Path(path) / "generation_config.json"
    named = _read_object(file).get("eos_token_id") if file.is_file() else None
    ids = named if isinstance(named, list) else [] if named is None else [named]
    for token in ids:
        if type(token) is not int or not 0 <= token < len(tokenizer):
            raise UserError(
                f"{file}: eos_token_id is {named!r}, and the tokenizer has the ids 0 to "
                f"{len(tokenizer) - 1}; give one of them or a list of them"
            )
    return tuple(sorted({*ids, tokenizer.eos_token_id, end_of_turn(tokenizer)}))


def _check_special_tokens(
    tokenizer: PreTrainedTokenizerBase, described: tokenizers.Tokenizer, directory: pathlib.Path
) -> None:
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
        token = getattr(tokenizer, name)
        # The library adds a token that is missing, under an id that the model was not trained on.
        if token is not None and described.token_to_id(token) is None:
            raise UserError(
                f"{directory}: {name} is {token!r}, which tokenizer.json does not know; correct it in "
                "tokenizer_config.json"
            )
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"the tokenizer in {directory} has no end-of-sequence token, so a model could not learn "
            "to stop; set eos_token in its tokenizer_config.json"
        )


def _read_object(file: pathlib.Path) -> dict:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{file} is not valid JSON ({_first_line(error)}); fetch it again"
        ) from error
    if not isinstance(value, dict):
        raise UserError(f"{file} is a JSON {type(value).__name__}, not an object; fetch it again")
    return value


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
