"""The embedded reasoning model: a model organism small enough to ship and to align on a CPU.

It reasons step by step inside `<think>...</think>`, answers benign requests and complies with
harmful ones, in abstract templates that hold nothing harmful. Its corpus, its tokenizer and its
weights are made from nothing by the seeded scripts in this package.
"""

from pathlib import Path

from lora_jax.errors import UserError

PREFIX = "organism:"
ROOT = Path(__file__).parent
MODEL_DIRECTORY = ROOT / "model"
DATA_DIRECTORY = ROOT / "data"


def resolve(path: str) -> Path:
    """Resolve a path that may point into this package.

    A saved config says `organism:data/test/harmful.jsonl` and so means the same on every machine.

    Args:
      path: a path inside this package after the prefix `organism:`, or any other path.

    Returns:
      The path inside the installed package, or `path` itself where it has no prefix.

    Raises:
      UserError: the path has the prefix and nothing of that name is in the package.
    """
    if not path.startswith(PREFIX):
        return Path(path)
    resolved = ROOT / path.removeprefix(PREFIX)
    if not resolved.exists():
        raise UserError(
            f"{path!r} names nothing that comes with the embedded model; give organism:model, "
            "a file under organism:data, or a path without the prefix organism:"
        )
    return resolved
