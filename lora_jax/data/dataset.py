"""Rows of a dataset: one on the Hugging Face hub, or a local directory of data files."""

import re
from collections.abc import Iterator

from lora_jax.errors import UserError

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_hub_name(path: str) -> bool:
    """Return whether a path that names no local file could name a dataset on the hub."""
    return bool(_HUB_NAME.fullmatch(path))


def read_dataset(
    path: str, *, split: str, subset: str = "", revision: str = ""
) -> Iterator[tuple[int, dict]]:
    """Read the rows of a dataset with Hugging Face's `datasets`, which runs no code of theirs.

    What is cached is not downloaded again, and the library's offline mode (`HF_HUB_OFFLINE`) holds.

    Args:
      path: `owner/name` on the hub, or a local directory.
      split: Which part of it, such as "train" or "train[:100]".
      subset: Its configuration; empty for the default one.
      revision: Branch, tag or commit on the hub; empty for the default one.

    Yields:
      The row's number, from 1, and its fields by name.

    Raises:
      UserError: It cannot be found, fetched or read.
    """
    import datasets  # Here, because it is slow to import and most sources are files.

    try:
        loaded = datasets.load_dataset(path, subset or None, split=split, revision=revision or None)
        yield from enumerate(loaded, start=1)
    # The library raises its own errors, those of the hub's client, of Arrow, and built-in ones.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        part = f"split {split!r}" + f" of subset {subset!r}" * bool(subset)
        raise UserError(
            f"{part} of dataset {path!r} cannot be loaded ({reason}); check path, subset, split and "
            "revision, and the connection to the hub"
        ) from error
