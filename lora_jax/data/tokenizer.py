"""The tokeniser of a Hugging Face directory."""

import pathlib

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lora_jax.errors import UserError


def load_tokenizer(path: str | pathlib.Path) -> PreTrainedTokenizerBase:
    """Load the tokeniser of a local Hugging Face directory.

    It is built from `tokenizer.json` exactly as that file describes it. The class that
    `tokenizer_config.json` names is not used: some classes rebuild the tokeniser from its vocabulary
    with rules of their own, and no code that comes with a checkpoint is ever run.

    Args:
      path: A directory with `tokenizer.json` and `tokenizer_config.json`.

    Returns:
      A tokeniser that has an end-of-sequence token.

    Raises:
      UserError: The directory or its tokeniser is missing, broken, or has no end-of-sequence token.
    """
    directory = pathlib.Path(path)
    if not directory.is_dir():
        raise UserError(
            f"{directory} is not a directory; give a local Hugging Face model directory"
        )
    if not (directory / "tokenizer.json").is_file():
        raise UserError(
            f"{directory} has no tokenizer.json; add the one that belongs to the checkpoint"
        )
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # The Rust reader raises bare Exception on a broken file.
        raise UserError(
            f"the tokenizer in {directory} cannot be read ({_first_line(error)}); "
            "fetch the checkpoint's tokenizer files again"
        ) from error
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"the tokenizer in {directory} has no end-of-sequence token, so a model could not learn "
            "to stop; set eos_token in its tokenizer_config.json"
        )
    return tokenizer


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
