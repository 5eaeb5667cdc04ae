"""Find a model: a local directory, or an id on the Hugging Face hub."""

from __future__ import annotations

import pathlib
import re

import huggingface_hub
from huggingface_hub import constants, errors

from lora_jax.errors import UserError
from lora_jax.models.checkpoint import COMPANIONS, INDEX

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
# Mistral's repositories hold their weights a second time, in the authors' own layout.
_DUPLICATES = ["consolidated*.safetensors", "*/*"]


def locate(path: str, revision: str = "", weights: bool = True) -> pathlib.Path:
    """Return the directory of a model, downloaded if it is a hub id that is not cached yet.

    The hub's client shows how far a download is, and keeps to its cache where HF_HUB_OFFLINE is set.

    Args:
        path: A local directory, or an id such as "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B".
        revision: Branch, tag or commit of a hub id; empty for the default.
        weights: Whether the weights are wanted too, or configuration and tokenizer will do.

    Raises:
        UserError: It is neither, the hub does not give it, or a local directory is given a revision.
    """
    directory = pathlib.Path(path).expanduser()
    if directory.is_dir():
        if revision:
            raise UserError(
                f"config.model.revision={revision!r} is for models on the hub, but {path!r} is a local "
                "directory; leave it empty."
            )
        return directory
    if directory.exists():
        raise UserError(f"config.model.path={path!r} is a file; give the model's directory.")
    if not _HUB_ID.fullmatch(path):
        raise UserError(
            f"config.model.path={path!r} does not exist; give a local model directory or a hub id."
        )
    wanted = ["*.safetensors", INDEX, *COMPANIONS] if weights else list(COMPANIONS)
    try:
        return pathlib.Path(
            huggingface_hub.snapshot_download(
                path,
                revision=revision or None,
                allow_patterns=wanted,
                ignore_patterns=_DUPLICATES,
            )
        )
    # The hub's client raises its own errors, those of its HTTP library, and OSError.
    except Exception as error:
        raise UserError(_explain(error, path, revision)) from error


def resolved_revision(directory: pathlib.Path) -> str:
    """Return the commit of a directory that the hub's client downloaded; '' for any other."""
    directory = directory.absolute()
    is_snapshot = directory.parent.name == "snapshots" and _COMMIT.fullmatch(directory.name)
    return directory.name if is_snapshot else ""


def _explain(error: Exception, path: str, revision: str) -> str:
    """Word what the hub's client reports."""
    what = f"config.model.path={path!r}"
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{what} is gated on the Hugging Face hub; accept its terms on the model's page, then log "
            "in with `hf auth login`."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"config.model.revision={revision!r} is no branch, tag or commit of {path} on the Hugging "
            "Face hub; correct it."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{what} is no local directory and no model on the Hugging Face hub that you may see; "
            "check the name, or log in with `hf auth login`."
        )
    if isinstance(error, errors.LocalEntryNotFoundError) and constants.HF_HUB_OFFLINE:
        at = f" at revision {revision!r}" if revision else ""
        return (
            f"{what} is not whole in the cache{at}, and HF_HUB_OFFLINE forbids to download it; "
            "unset that, or give a local directory."
        )
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (
        f"{what} is no local directory, and the Hugging Face hub did not give a model of that id "
        f"({reason}); check the name, or the connection."
    )
