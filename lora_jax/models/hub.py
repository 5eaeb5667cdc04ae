"""Find a model: a local directory, or an id on the Hugging Face hub."""

from __future__ import annotations

import pathlib
import re

import huggingface_hub

from lora_jax.errors import UserError
from lora_jax.models.checkpoint import COMPANIONS

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def locate(path: str, revision: str = "") -> pathlib.Path:
    """Return the directory of a model, downloaded if it is a hub id that is not cached yet.

    Args:
        path: A local directory, or an id such as "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B".
        revision: Branch, tag or commit of a hub id; empty for the default.

    Raises:
        UserError: It is neither.
    """
    directory = pathlib.Path(path).expanduser()
    if directory.is_dir():
        return directory
    if directory.exists():
        raise UserError(f"config.model.path={path!r} is a file; give the model's directory.")
    if not _HUB_ID.fullmatch(path):
        raise UserError(
            f"config.model.path={path!r} does not exist; give a local model directory or a hub id."
        )
    try:
        return pathlib.Path(
            huggingface_hub.snapshot_download(
                path,
                revision=revision or None,
                allow_patterns=["*.safetensors", "*.safetensors.index.json", *COMPANIONS],
            )
        )
    # The hub's client raises its own errors, those of its HTTP library, and OSError.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"config.model.path={path!r} is no local directory, and the Hugging Face hub did not "
            f"give a model of that id ({reason}); check the name, or the connection."
        ) from error
